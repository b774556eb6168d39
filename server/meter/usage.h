// Usage records, what they add up to, and the ledger they are appended to.
//
// Ownership   one Ledger per server, created in app/; it alone writes its files.
// Threads     append() on the loop thread (memory and one write(2), no fsync); everything else on pool threads.
// Durability  an appended record survives kill -9 at once, a power cut after at most 200 ms.
//             Recovery drops a torn last record and never a whole one; ids make counting twice impossible.
// Failure     a record that the disk does not take is kept in memory and tried again until it does; meanwhile ready()
//             says unavailable, so that no more work is taken on than what runs already.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/result.h"

namespace sundog::meter {

struct UsageRecord {
  std::string id;  // request id, attempt and a random part: one for each time that something ran
  std::string tenant, function, version;
  std::string kind;  // function, data, training, prediction
  std::string request_id;
  std::string instance;  // which one ran it; empty if none did
  std::string outcome;   // ok, handler_error, timeout, out_of_memory, crash, init_error
  WallTime ended;
  int memory_mb = 128;
  double queue_ms = 0;    // waiting for an instance; never billed
  double restore_ms = 0;  // fork to ready; on a line of its own
  double init_ms = 0;     // template's init if this invocation waited for it; on a line of its own
  double handler_ms = 0;
  int64_t billed_ms = 0;          // handler, rounded up to 1 ms
  int64_t billed_init_ms = 0;     // init, rounded up
  int64_t billed_restore_ms = 0;  // restore, rounded up
  double cpu_ms = 0;
  double peak_memory_mb = 0;
  int64_t bytes_in = 0, bytes_out = 0;
};

// In "mb_ms": memory size in megabytes times milliseconds.
inline constexpr int64_t kGbSecond = 1'024'000;

// What invocations took together, in whole numbers: a sum is exact whatever the order.
struct Quantity {
  int64_t invocations = 0;
  int64_t billed_ms = 0, billed_mb_ms = 0;
  int64_t init_ms = 0, init_mb_ms = 0;
  int64_t restore_ms = 0, restore_mb_ms = 0;

  void add(const UsageRecord& record);
  void add(const Quantity& other);
  bool operator==(const Quantity&) const = default;
};

struct UsageSum {
  std::string tenant, day, function, kind;  // day: "2026-01-31", UTC
  Quantity quantity;
  int memory_mb = 0;  // the largest memory size
  WallTime first;     // end of the first invocation

  bool operator==(const UsageSum&) const = default;
};

struct UsageQuery {
  std::string tenant;  // empty: of all
  WallTime from, to;   // [from, to)
};

class Ledger {
 public:
  virtual ~Ledger() = default;
  // An error means: kept in memory, not on the disk yet.
  virtual Status append(const UsageRecord& record) = 0;
  // Whether what was appended is written; tries again what is not. Any thread.
  virtual Status ready() = 0;
  // Every record of [from, to) in order, until `each` returns false.
  virtual Status read(const std::string& tenant, WallTime from, WallTime to,
                      const std::function<bool(const UsageRecord&)>& each) const = 0;
  // The sums by tenant, day, function and kind, in this order. Days that are over come from their roll-up, which is
  // made when it is not there; only what else lies in the span is read record by record.
  virtual Result<std::vector<UsageSum>> sums(const UsageQuery& query) const = 0;
  // Adds up the records of every day of the span again and compares with the roll-ups:
  // {"ok","days":[{"day","state":"matches|differs|no_roll_up|no_records","records","duplicates","problem"}]}
  // A damaged record is a "problem", not an error. no_records: not all segments that the roll-up names are there to be
  // added up. Of a tenant: only its records and duplicates (0 of a day with no_records: it is not kept whose).
  virtual Result<Json> verify(const UsageQuery& query) const = 0;
  virtual Status sync() = 0;  // to disk now; for shutdown. What it could not write stands in the error's hint.
};

Result<std::unique_ptr<Ledger>> open_ledger(const Path& folder, Clock& clock, Log& log);

}  // namespace sundog::meter
