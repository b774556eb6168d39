// Usage records, the ledger they are appended to, price plans and bills.
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
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/result.h"

namespace sundog::meter {

struct UsageRecord {
  std::string id;  // request id, attempt and a random part: one for each time that something ran
  std::string tenant, function, version;
  std::string kind;  // function, data, training, prediction
  std::string request_id;
  std::string outcome;  // ok, handler_error, timeout, out_of_memory, crash, init_error
  WallTime ended;
  int memory_mb = 128;
  double queue_ms = 0;    // waiting for an instance; never billed
  double restore_ms = 0;  // fork to ready; on a line of its own
  double init_ms = 0;     // template's init if this invocation waited for it; on a line of its own
  double handler_ms = 0;
  int64_t billed_ms = 0;       // handler, rounded up to 1 ms
  int64_t billed_init_ms = 0;  // init, rounded up
  double cpu_ms = 0;
  double peak_memory_mb = 0;
  int64_t bytes_in = 0, bytes_out = 0;
};

// Prices as on AWS Lambda, x86, us-east-1, unless the operator's file says otherwise.
struct PricePlan {
  std::string name = "aws-lambda-x86-us-east-1";
  std::string currency = "USD";
  double per_gb_second = 0.0000166667;
  double per_million_requests = 0.20;
  double init_per_gb_second = 0.0000166667;
  double restore_per_gb_second = 0.0;
  // An always-on server to compare with: the price of one GB of memory for an hour.
  double always_on_gb_hour = 0.0000166667 * 3600;
};
Result<PricePlan> load_price_plan(const Path& file);  // JSON with the names above; absent fields keep their default
Status write_default_price_plan(const Path& file);    // if it does not exist

struct Cost {
  double requests = 0, execution = 0, init = 0, restore = 0;
  double total() const { return requests + execution + init + restore; }
};
Cost cost_of(const UsageRecord& record, const PricePlan& plan);

struct BillQuery {
  std::string tenant;
  WallTime from, to;            // [from, to)
  std::vector<std::string> by;  // any of function, day, kind
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
  // {"currency","plan","from","to","lines":[{"function","day","kind","invocations","gb_seconds","billed_ms",
  //  "requests","execution","init","restore","total"}],"total","always_on":{"functions","hours","gb","total"}}
  // always_on: for each function seen, a server of its memory size that ran from its first record to `to`.
  virtual Result<Json> bill(const BillQuery& query, const PricePlan& plan) const = 0;
  virtual Status sync() = 0;  // to disk now; for shutdown. What it could not write stands in the error's hint.
};

Result<std::unique_ptr<Ledger>> open_ledger(const Path& folder, Clock& clock);

}  // namespace sundog::meter
