#include "meter/bill.h"

#include <algorithm>
#include <map>

namespace sundog::meter {
namespace {

struct Group {
  std::string function, day, kind;
  auto operator<=>(const Group&) const = default;
};

double gb_seconds(int64_t mb_ms) {
  return static_cast<double>(mb_ms) / static_cast<double>(kGbSecond);
}

// What servers would have cost that stay: no exact money, a comparison.
Json always_on(const std::vector<UsageSum>& sums, const PricePlan& plan, WallTime to) {
  struct Stays {
    WallTime first;
    int memory_mb = 0;
  };
  std::map<std::string, Stays> servers;
  for (const auto& sum : sums) {
    auto& server = servers.try_emplace(sum.function, Stays{sum.first, 0}).first->second;
    server.first = std::min(server.first, sum.first);
    server.memory_mb = std::max(server.memory_mb, sum.memory_mb);
  }
  double hours = 0, gb = 0, gb_hours = 0;
  for (const auto& [function, server] : servers) {
    const double ran = std::max(0.0, std::chrono::duration<double>(to - server.first).count() / 3600.0);
    hours += ran;
    gb += server.memory_mb / 1024.0;
    gb_hours += ran * server.memory_mb / 1024.0;
  }
  return {{"functions", servers.size()},
          {"hours", hours},
          {"gb", gb},
          {"total", gb_hours * plan.always_on_gb_hour.number()}};
}

// Says which it knows if it does not know one.
Status check_grouping(const BillQuery& query) {
  for (const auto& what : query.by) {
    if (what != "function" && what != "day" && what != "kind") {
      return fail(Code::invalid_argument, "A bill cannot be grouped by \"" + what + "\".",
                  "It can be grouped by function, day and kind.");
    }
  }
  return done;
}

}  // namespace

Json bill_of(const std::vector<UsageSum>& sums, const BillQuery& query, const PricePlan& plan, WallTime now) {
  const auto by = [&query](std::string_view what) {
    return std::find(query.by.begin(), query.by.end(), what) != query.by.end();
  };
  std::map<Group, Quantity> groups;
  for (const auto& sum : sums) {
    groups[{by("function") ? sum.function : "", by("day") ? sum.day : "", by("kind") ? sum.kind : ""}].add(
        sum.quantity);
  }
  Json lines = Json::array();
  Money total;
  for (const auto& [group, quantity] : groups) {
    const auto cost = cost_of(quantity, plan);
    total += cost.total();
    lines.push_back({{"function", group.function},
                     {"day", group.day},
                     {"kind", group.kind},
                     {"invocations", quantity.invocations},
                     {"gb_seconds", gb_seconds(quantity.billed_mb_ms)},
                     {"billed_ms", quantity.billed_ms},
                     {"requests", cost.requests.number()},
                     {"execution", cost.execution.number()},
                     {"init", cost.init.number()},
                     {"restore", cost.restore.number()},
                     {"total", cost.total().number()}});
  }
  return {{"currency", plan.currency},
          {"plan", plan.name},
          {"from", iso_time(query.from)},
          {"to", iso_time(query.to)},
          {"lines", std::move(lines)},
          {"total", total.number()},
          {"always_on", always_on(sums, plan, std::min(query.to, now))}};
}

Result<Json> bill(const Ledger& ledger, const BillQuery& query, const PricePlan& plan, WallTime now) {
  SUNDOG_CHECK(check_grouping(query));
  SUNDOG_TRY(sums, ledger.sums({query.tenant, query.from, query.to}));
  return bill_of(sums, query, plan, now);
}

}  // namespace sundog::meter
