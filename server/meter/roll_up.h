// Roll-ups: what the records of one day add up to, in a file beside the ledger's segments. docs/formats/ledger.md tells
// the format.
//
// Ownership   by the ledger.
// Threads     any; each function reads and writes the folder as it is now.
// Durability  a roll-up is written whole or not at all. It names the segments that it was made of and their bytes: one
//             that does not fit the segments that are there now is of no use, and is made again, unless one that it
//             names is not there: then it alone has that one's records.
// Failure     data_loss (damaged roll-up or record) · unavailable (disk)
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "meter/segments.h"

namespace sundog::meter {

struct RollUp {
  std::string day;
  std::map<std::string, int64_t> segments;       // name, bytes that were read of it
  int64_t records = 0, duplicates = 0;           // duplicates are not in records, nor in sums
  std::map<std::string, int64_t> duplicates_of;  // by tenant; known to who added up, not kept in the file
  std::vector<UsageSum> sums;                    // by tenant, function and kind
};

// Adds records up by tenant, day, function and kind.
class Adder {
 public:
  void add(const std::string& day, const UsageRecord& record);
  std::vector<UsageSum> sums() const;

 private:
  struct Key {
    std::string tenant, day, function, kind;
    auto operator<=>(const Key&) const = default;
  };
  std::map<Key, UsageSum> sums_;
};

Path roll_up_path(const Path& folder, const std::string& day);
// All records of the day's segments, added up.
Result<RollUp> add_up_day(const std::string& day, const std::vector<Segment>& segments);
Status write_roll_up(const Path& folder, const RollUp& roll_up);
// nullopt if there is none. `tenant` empty: sums of all.
Result<std::optional<RollUp>> read_roll_up(const Path& folder, const std::string& day, const std::string& tenant);
// Whether it was made of all that the segments hold now. Segments that were taken away meanwhile do not matter.
bool is_current(const RollUp& roll_up, const std::vector<Segment>& segments);
// A segment that the day's roll-up names, also a damaged one whose first line still reads, and that is not among these.
std::optional<std::string> absent_segment(const Path& folder, const std::string& day,
                                          const std::vector<Segment>& segments);
Result<std::vector<std::string>> rolled_up_days(const Path& folder);

}  // namespace sundog::meter
