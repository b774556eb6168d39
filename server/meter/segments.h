// Segments: the files of a ledger. Each holds the records of one UTC day, or of a part of it.
//
// Threads     any; each function reads the folder as it is now.
// Failure     unavailable (the folder or a file cannot be read) · data_loss, unsupported (a line, with file and byte)
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "meter/usage.h"

namespace sundog::meter {

// "usage-<milliseconds since 1970 of the first record>-<number>.ledger"; both with leading zeros, so that names sort.
struct Segment {
  Path path;
  int64_t first_ms = 0;
  int64_t number = 0;

  std::string name() const { return path.filename().string(); }
  std::string day() const { return iso_day(from_epoch_millis(first_ms)); }
};

std::string segment_name(int64_t first_ms, int64_t number);
Result<std::vector<Segment>> list_segments(const Path& folder);  // by number

// Calls `each` for every whole line until it returns false; gives the offset behind the last whole line.
Result<int64_t> for_each_line(const Path& path, const std::function<bool(std::string_view, int64_t offset)>& each);
// The same for records.
Result<int64_t> for_each_record(const Path& path, const std::function<bool(UsageRecord record)>& each);

// Ids already read: 16 bytes each, however long they are.
class SeenIds {
 public:
  bool add(std::string_view id);  // true the first time

 private:
  using Half = uint64_t;
  struct Hash {
    size_t operator()(const std::pair<Half, Half>& key) const { return key.first; }
  };
  std::unordered_set<std::pair<Half, Half>, Hash> seen_;
};

// Midnight that begins it; nullopt if it is no "2026-01-31".
std::optional<WallTime> day_begin(std::string_view day);

}  // namespace sundog::meter
