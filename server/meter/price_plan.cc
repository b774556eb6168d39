#include <cmath>

#include "meter/usage.h"

namespace sundog::meter {
namespace {

constexpr double kMegabytesPerGb = 1024.0;

Json as_json(const PricePlan& plan) {
  return {{"name", plan.name},
          {"currency", plan.currency},
          {"per_gb_second", plan.per_gb_second},
          {"per_million_requests", plan.per_million_requests},
          {"init_per_gb_second", plan.init_per_gb_second},
          {"restore_per_gb_second", plan.restore_per_gb_second},
          {"always_on_gb_hour", plan.always_on_gb_hour}};
}

Result<PricePlan> plan_from(const Json& json, const Path& file) {
  const std::string where = "The price plan " + file.string();
  const std::string hint = "Correct the file, or remove it and restart for the default plan.";
  if (!json.is_object()) return fail(Code::invalid_argument, where + " is not a JSON object.", hint);
  PricePlan plan;
  const auto known = as_json(plan);
  for (const auto& [key, value] : json.items()) {
    if (!known.contains(key)) {
      return fail(Code::invalid_argument, where + " has the unknown field \"" + key + "\".", hint);
    }
  }
  const std::pair<const char*, std::string*> texts[] = {{"name", &plan.name}, {"currency", &plan.currency}};
  for (const auto& [key, target] : texts) {
    auto value = get_string(json, key, *target);
    if (!value.ok()) return fail(Code::invalid_argument, where + ": " + value.error().message, hint);
    *target = *std::move(value);
  }
  const std::pair<const char*, double*> prices[] = {{"per_gb_second", &plan.per_gb_second},
                                                    {"per_million_requests", &plan.per_million_requests},
                                                    {"init_per_gb_second", &plan.init_per_gb_second},
                                                    {"restore_per_gb_second", &plan.restore_per_gb_second},
                                                    {"always_on_gb_hour", &plan.always_on_gb_hour}};
  for (const auto& [key, target] : prices) {
    const auto value = get_double(json, key, *target);
    if (!value.ok()) return fail(Code::invalid_argument, where + ": " + value.error().message, hint);
    if (!std::isfinite(*value) || *value < 0) {
      return fail(Code::invalid_argument,
                  where + ": \"" + key + "\" is " + json[key].dump() + "; a price is 0 or more.", hint);
    }
    *target = *value;
  }
  return plan;
}

double gb_seconds(int memory_mb, double ms) {
  return memory_mb / kMegabytesPerGb * ms / 1000.0;
}

}  // namespace

Result<PricePlan> load_price_plan(const Path& file) {
  SUNDOG_TRY(text, read_file(file, 1 << 20));
  SUNDOG_TRY(json, parse_json(text, "the price plan " + file.string()));
  return plan_from(json, file);
}

Status write_default_price_plan(const Path& file) {
  if (std::filesystem::exists(file)) return done;
  if (file.has_parent_path()) SUNDOG_CHECK(make_directories(file.parent_path()));
  return write_file_durably(file, as_json(PricePlan{}).dump(2) + "\n");
}

Cost cost_of(const UsageRecord& record, const PricePlan& plan) {
  Cost cost;
  cost.requests = plan.per_million_requests / 1e6;
  cost.execution = gb_seconds(record.memory_mb, static_cast<double>(record.billed_ms)) * plan.per_gb_second;
  cost.init = gb_seconds(record.memory_mb, static_cast<double>(record.billed_init_ms)) * plan.init_per_gb_second;
  cost.restore = gb_seconds(record.memory_mb, record.restore_ms) * plan.restore_per_gb_second;
  return cost;
}

}  // namespace sundog::meter
