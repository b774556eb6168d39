// Bill: usage records added up into the lines of a bill. Pure.
//
// Threads     one at a time.
#pragma once

#include <map>
#include <string>

#include "meter/usage.h"

namespace sundog::meter {

// Whether bill() knows how to group by it; says which it knows otherwise.
Status check_grouping(const BillQuery& query);

class Bill {
 public:
  Bill(BillQuery query, PricePlan plan) : query_(std::move(query)), plan_(std::move(plan)) {}
  void add(const UsageRecord& record);
  // `now`: an always-on server has not run later than that, whatever the query's end.
  Json finish(WallTime now) const;

 private:
  struct Line {
    int64_t invocations = 0;
    double gb_seconds = 0;
    int64_t billed_ms = 0;
    Cost cost;
  };
  struct Server {
    WallTime first;
    int memory_mb = 0;
  };
  struct Group {
    std::string function, day, kind;
    auto operator<=>(const Group&) const = default;
  };
  bool by(std::string_view what) const;
  Json always_on(WallTime now) const;

  BillQuery query_;
  PricePlan plan_;
  std::map<Group, Line> lines_;
  std::map<std::string, Server> servers_;
};

}  // namespace sundog::meter
