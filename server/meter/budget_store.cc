#include "meter/budget_store.h"

#include "store/each_record.h"

namespace sundog::meter {
namespace {

constexpr std::string_view kPrefix = "budgets/";

std::string key_of(const std::string& tenant, const std::string& function) {
  return std::string(kPrefix) + tenant + (function.empty() ? "" : "/" + function);
}

Json to_json(const Budget& budget) {
  return {{"tenant", budget.tenant},
          {"function", budget.function},
          {"limit", budget.limit.text()},
          {"alarm", budget.alarm},
          {"on_alarm", budget.on_alarm},
          {"by_operator", budget.by_operator},
          {"alarmed_month", budget.alarmed_month}};
}

Result<Budget> from_json(const Json& json) {
  Budget budget;
  SUNDOG_TRY(tenant, get_string(json, "tenant"));
  SUNDOG_TRY(function, get_string(json, "function"));
  SUNDOG_TRY(limit_text, get_string(json, "limit"));
  SUNDOG_TRY(limit, parse_money(limit_text));
  SUNDOG_TRY(share, get_double(json, "alarm", budget.alarm));
  SUNDOG_TRY(on_alarm, get_string(json, "on_alarm", ""));
  SUNDOG_TRY(by_operator, get_bool(json, "by_operator", false));
  SUNDOG_TRY(alarmed_month, get_string(json, "alarmed_month", ""));
  return Budget{tenant, function, limit, share, on_alarm, by_operator, alarmed_month};
}

}  // namespace

Result<std::vector<Budget>> read_budgets(const store::Catalog& catalog) {
  std::vector<Budget> all;
  SUNDOG_CHECK(store::each_record(catalog, kPrefix, [&](const store::Record& record) -> Result<bool> {
    SUNDOG_TRY(budget, from_json(record.value));
    all.push_back(std::move(budget));
    return true;
  }));
  return all;
}

Status write_budget(store::Catalog& catalog, const Budget& budget) {
  SUNDOG_CHECK(catalog.put(key_of(budget.tenant, budget.function), to_json(budget)));
  return done;
}

Status remove_budget(store::Catalog& catalog, const std::string& tenant, const std::string& function) {
  SUNDOG_CHECK(catalog.remove(key_of(tenant, function)));
  return done;
}

Status mark_alarmed(store::Catalog& catalog, const Alarm& alarm) {
  const auto kept = catalog.get(key_of(alarm.budget.tenant, alarm.budget.function));
  if (!kept.ok()) return kept.error().code == Code::not_found ? Status(done) : Status(kept.error());
  SUNDOG_TRY(budget, from_json(kept->value));
  if (budget.limit != alarm.budget.limit || budget.alarm != alarm.budget.alarm) return done;
  budget.alarmed_month = alarm.month;
  const auto written = catalog.put(kept->key, to_json(budget), kept->revision);
  if (!written.ok() && written.error().code != Code::conflict) return written.error();
  return done;
}

}  // namespace sundog::meter
