// Bill: usage grouped and priced. Pure but for the ledger it reads.
//
// Threads     a pool thread: the ledger is read.
#pragma once

#include <string>
#include <vector>

#include "meter/price_plan.h"
#include "meter/usage.h"

namespace sundog::meter {

struct BillQuery {
  std::string tenant;
  WallTime from, to;            // [from, to)
  std::vector<std::string> by;  // any of function, day, kind
};

// {"currency","plan","from","to","lines":[{"function","day","kind","invocations","gb_seconds","billed_ms",
//  "requests","execution","init","restore","total"}],"total","always_on":{"functions","hours","gb","total"}}
// always_on: for each function seen, a server of its memory size that ran from its first record to `to`, or to `now`.
Result<Json> bill(const Ledger& ledger, const BillQuery& query, const PricePlan& plan, WallTime now);
Json bill_of(const std::vector<UsageSum>& sums, const BillQuery& query, const PricePlan& plan, WallTime now);

}  // namespace sundog::meter
