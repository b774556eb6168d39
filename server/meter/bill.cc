#include "meter/bill.h"

#include <algorithm>

namespace sundog::meter {

Status check_grouping(const BillQuery& query) {
  for (const auto& what : query.by) {
    if (what != "function" && what != "day" && what != "kind") {
      return fail(Code::invalid_argument, "A bill cannot be grouped by \"" + what + "\".",
                  "It can be grouped by function, day and kind.");
    }
  }
  return done;
}

bool Bill::by(std::string_view what) const {
  return std::find(query_.by.begin(), query_.by.end(), what) != query_.by.end();
}

void Bill::add(const UsageRecord& record) {
  const Group group{by("function") ? record.function : "", by("day") ? iso_day(record.ended) : "",
                    by("kind") ? record.kind : ""};
  auto& line = lines_[group];
  const auto cost = cost_of(record, plan_);
  ++line.invocations;
  line.billed_ms += record.billed_ms;
  line.gb_seconds += record.memory_mb / 1024.0 * static_cast<double>(record.billed_ms) / 1000.0;
  line.cost.requests += cost.requests;
  line.cost.execution += cost.execution;
  line.cost.init += cost.init;
  line.cost.restore += cost.restore;
  auto& server = servers_.try_emplace(record.function, Server{record.ended, 0}).first->second;
  server.first = std::min(server.first, record.ended);
  server.memory_mb = std::max(server.memory_mb, record.memory_mb);
}

Json Bill::always_on(WallTime now) const {
  const WallTime to = std::min(query_.to, now);
  double hours = 0, gb = 0, gb_hours = 0;
  for (const auto& [function, server] : servers_) {
    const double ran = std::max(0.0, std::chrono::duration<double>(to - server.first).count() / 3600.0);
    hours += ran;
    gb += server.memory_mb / 1024.0;
    gb_hours += ran * server.memory_mb / 1024.0;
  }
  return {{"functions", servers_.size()}, {"hours", hours}, {"gb", gb}, {"total", gb_hours * plan_.always_on_gb_hour}};
}

Json Bill::finish(WallTime now) const {
  Json lines = Json::array();
  double total = 0;
  for (const auto& [group, line] : lines_) {
    total += line.cost.total();
    lines.push_back({{"function", group.function},
                     {"day", group.day},
                     {"kind", group.kind},
                     {"invocations", line.invocations},
                     {"gb_seconds", line.gb_seconds},
                     {"billed_ms", line.billed_ms},
                     {"requests", line.cost.requests},
                     {"execution", line.cost.execution},
                     {"init", line.cost.init},
                     {"restore", line.cost.restore},
                     {"total", line.cost.total()}});
  }
  return {{"currency", plan_.currency}, {"plan", plan_.name},        {"from", iso_time(query_.from)},
          {"to", iso_time(query_.to)},  {"lines", std::move(lines)}, {"total", total},
          {"always_on", always_on(now)}};
}

}  // namespace sundog::meter
