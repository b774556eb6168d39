#include "meter/price_plan.h"

#include <algorithm>
#include <array>

namespace sundog::meter {
namespace {

constexpr int64_t kMillion = 1'000'000;

struct Field {
  const char* name;
  Money PricePlan::* price;
};
constexpr std::array kPrices = {
    Field{"per_gb_second", &PricePlan::per_gb_second},
    Field{"per_million_requests", &PricePlan::per_million_requests},
    Field{"init_per_gb_second", &PricePlan::init_per_gb_second},
    Field{"restore_per_gb_second", &PricePlan::restore_per_gb_second},
    Field{"always_on_gb_hour", &PricePlan::always_on_gb_hour},
};

Error wrong(const std::string& where, const std::string& what) {
  return fail(Code::invalid_argument, where + what, "Correct the file, or remove it and restart for the default plan.");
}

// A number, or a text where a number would not keep all digits.
Result<Money> price_from(const Json& value, const std::string& where) {
  if (!value.is_number() && !value.is_string()) return wrong(where, " must be a number.");
  auto price = value.is_string() ? parse_money(value.get_ref<const std::string&>()) : money_of(value.get<double>());
  if (!price.ok()) return wrong(where, " is " + dump(value) + "; a price is 0 to 1000000 with at most 12 decimals.");
  return price;
}

Status read_fields(const Json& json, const std::string& where, bool may_have_tenants, PricePlan& plan) {
  if (!json.is_object()) return wrong(where, " is not a JSON object.");
  for (const auto& [key, value] : json.items()) {
    if (key == "name" || key == "currency") {
      if (!value.is_string()) return wrong(where, ": \"" + key + "\" must be a string.");
      (key == "name" ? plan.name : plan.currency) = value.get<std::string>();
      continue;
    }
    if (key == "tenants" && may_have_tenants) continue;
    const auto* const field =
        std::find_if(kPrices.begin(), kPrices.end(), [&key](const Field& one) { return key == one.name; });
    if (field == kPrices.end()) return wrong(where, " has the unknown field \"" + key + "\".");
    SUNDOG_TRY(price, price_from(value, where + ": \"" + key + "\""));
    plan.*field->price = price;
  }
  return done;
}

Result<PricePlans> plans_from(const Json& json, const Path& file) {
  const std::string where = "The price plan " + file.string();
  PricePlan common;
  SUNDOG_CHECK(read_fields(json, where, true, common));
  std::map<std::string, PricePlan> of_tenant;
  const auto tenants = json.find("tenants");
  if (tenants == json.end()) return PricePlans(common, {});
  if (!tenants->is_object()) return wrong(where, ": \"tenants\" is not an object with a plan for each tenant.");
  for (const auto& [tenant, own] : tenants->items()) {
    auto& plan = of_tenant[tenant] = common;
    SUNDOG_CHECK(read_fields(own, where + ", tenant \"" + tenant + "\"", false, plan));
  }
  return PricePlans(common, std::move(of_tenant));
}

}  // namespace

Result<PricePlans> load_price_plans(const Path& file) {
  SUNDOG_TRY(text, read_file(file, 16 << 20));
  SUNDOG_TRY(json, parse_json(text, "the price plan " + file.string()));
  return plans_from(json, file);
}

Status write_default_price_plan(const Path& file) {
  if (std::filesystem::exists(file)) return done;
  if (file.has_parent_path()) SUNDOG_CHECK(make_directories(file.parent_path()));
  const PricePlan plan;
  Json json{{"name", plan.name}, {"currency", plan.currency}};
  for (const auto& field : kPrices) json[field.name] = (plan.*field.price).number();
  return write_file_durably(file, json.dump(2) + "\n");
}

Cost cost_of(const Quantity& quantity, const PricePlan& plan) {
  Cost cost;
  cost.requests = price_of(plan.per_million_requests, quantity.invocations, kMillion);
  cost.execution = price_of(plan.per_gb_second, quantity.billed_mb_ms, kGbSecond);
  cost.init = price_of(plan.init_per_gb_second, quantity.init_mb_ms, kGbSecond);
  cost.restore = price_of(plan.restore_per_gb_second, quantity.restore_mb_ms, kGbSecond);
  return cost;
}

Cost cost_of(const UsageRecord& record, const PricePlan& plan) {
  Quantity quantity;
  quantity.add(record);
  return cost_of(quantity, plan);
}

}  // namespace sundog::meter
