#include "api/bill_routes.h"

#include <algorithm>
#include <charconv>
#include <deque>

#include "api/errors.h"
#include "api/keys.h"
#include "meter/bill.h"
#include "meter/budget_store.h"
#include "meter/invoice.h"
#include "meter/record_line.h"

namespace sundog::api {
namespace {

using CallPtr = std::shared_ptr<Call>;

constexpr int64_t kUsageLimit = 10'000;

std::optional<int64_t> number(std::string_view text, size_t at, size_t count) {
  if (at + count > text.size()) return std::nullopt;
  int64_t value = 0;
  const char* const begin = text.data() + at;
  const auto [end, error] = std::from_chars(begin, begin + count, value);
  return error == std::errc{} && end == begin + count && *begin != '-' ? std::optional(value) : std::nullopt;
}

std::optional<WallTime> time_of(std::string_view text) {
  using namespace std::chrono;  // NOLINT(google-build-using-namespace)
  const auto year_number = number(text, 0, 4), month_number = number(text, 5, 2), day_number = number(text, 8, 2);
  if (!year_number || !month_number || !day_number || text[4] != '-' || text[7] != '-') return std::nullopt;
  const year_month_day date{year(static_cast<int>(*year_number)), month(static_cast<unsigned>(*month_number)),
                            day(static_cast<unsigned>(*day_number))};
  if (!date.ok()) return std::nullopt;
  WallTime time{sys_days(date)};
  if (text.size() == 10) return time;
  const auto hour = number(text, 11, 2), minute = number(text, 14, 2), second = number(text, 17, 2);
  if (!hour || !minute || !second || text[10] != 'T' || text[13] != ':' || text[16] != ':') return std::nullopt;
  if (*hour > 23 || *minute > 59 || *second > 60) return std::nullopt;
  time += hours(*hour) + minutes(*minute) + seconds(*second);
  auto rest = text.substr(19);
  if (const auto millis = number(rest, 1, 3); rest.starts_with('.') && millis) {
    time += milliseconds(*millis);
    rest.remove_prefix(4);
  }
  return rest == "Z" || rest == "+00:00" ? std::optional(time) : std::nullopt;
}

// "2026-01-01" or "2026-01-01T00:00:00[.000]Z".
Result<WallTime> parse_time(std::string_view text, std::string_view what) {
  if (const auto time = time_of(text)) return *time;
  return fail(Code::invalid_argument,
              "\"" + std::string(what) + "\" is \"" + std::string(text) + "\", which is no time.",
              "Write 2026-01-31 or 2026-01-31T12:00:00Z.");
}

struct Span {
  WallTime from, to;
};

// Without `from`: since the month began; without `to`: until now. `month`: all of it.
Result<Span> span_of(const Call& call, const Clock& clock) {
  const auto now = clock.wall();
  Span span{meter::Budgets::month_begin(now), now};
  if (const auto month = call.query("month"); !month.empty()) {
    if (!call.query("from").empty() || !call.query("to").empty()) {
      return fail(Code::invalid_argument, "\"month\" stands beside \"from\" or \"to\".", "Give the one or the others.");
    }
    const auto begin = month.size() == 7 ? time_of(std::string(month) + "-01") : std::nullopt;
    if (!begin) {
      return fail(Code::invalid_argument,
                  "\"month\" is \"" + std::string(month.substr(0, 40)) + "\", which is no month.", "Write 2026-01.");
    }
    return Span{*begin, meter::Budgets::month_after(*begin)};
  }
  if (const auto text = call.query("from"); !text.empty()) {
    SUNDOG_TRY(from, parse_time(text, "from"));
    span.from = from;
  }
  if (const auto text = call.query("to"); !text.empty()) {
    SUNDOG_TRY(to, parse_time(text, "to"));
    span.to = to;
  }
  if (span.to < span.from) return fail(Code::invalid_argument, "\"to\" is before \"from\".");
  return span;
}

bool is_operator(const Call& call) {
  return call.principal.tenant == kDefaultTenant && call.principal.role == Role::admin;
}

// The caller's own, unless an admin of the operator's tenant asks for another's.
Result<std::string> tenant_of(const Call& call) {
  const std::string wanted(call.query("tenant"));
  if (wanted.empty() || wanted == call.principal.tenant) return call.principal.tenant;
  if (is_operator(call)) {
    SUNDOG_CHECK(check_tenant_name(wanted));
    return wanted;
  }
  return fail(Code::permission_denied, "Tenant \"" + call.principal.tenant + "\" cannot see what another one spends.",
              "An admin of tenant \"default\" can.");
}

Result<Json> bill(const Call& call, const Billing& billing) {
  SUNDOG_TRY(span, span_of(call, billing.clock));
  SUNDOG_TRY(tenant, tenant_of(call));
  meter::BillQuery query{.tenant = tenant, .from = span.from, .to = span.to, .by = {}};
  auto by = std::string(call.query("by"));
  if (by.empty()) by = "function";
  for (size_t begin = 0; begin <= by.size();) {
    const auto end = std::min(by.find(',', begin), by.size());
    query.by.push_back(by.substr(begin, end - begin));
    begin = end + 1;
  }
  return meter::bill(billing.ledger, query, billing.plans.of(tenant), billing.clock.wall());
}

Result<Json> verify(const Call& call, const Billing& billing) {
  SUNDOG_TRY(span, span_of(call, billing.clock));
  SUNDOG_TRY(tenant, tenant_of(call));
  return billing.ledger.verify({tenant, span.from, span.to});
}

Result<net::Response> invoice(const Call& call, const Billing& billing) {
  SUNDOG_TRY(span, span_of(call, billing.clock));
  if (call.query("to").empty()) span.to = meter::Budgets::month_after(span.to - std::chrono::seconds(1));
  SUNDOG_TRY(tenant, tenant_of(call));
  const meter::UsageQuery query{tenant, span.from, span.to};
  SUNDOG_TRY(sums, billing.ledger.sums(query));
  const auto made = meter::make_invoice(query, sums, billing.plans.of(tenant), billing.clock.wall());
  const auto format = call.query("format");
  if (format.empty() || format == "json") {
    return net::Response{200, {{"Content-Type", "application/json"}}, dump(meter::invoice_json(made))};
  }
  if (format == "csv")
    return net::Response{200, {{"Content-Type", "text/csv; charset=utf-8"}}, meter::invoice_csv(made)};
  if (format == "html") {
    return net::Response{200, {{"Content-Type", "text/html; charset=utf-8"}}, meter::invoice_html(made)};
  }
  return fail(Code::invalid_argument, "\"" + std::string(format.substr(0, 40)) + "\" is no format of an invoice.",
              "There are json, csv and html.");
}

// What the ledger keeps, with the time as a caller reads it, and the price.
Json usage_json(const meter::UsageRecord& record, const meter::PricePlan& plan) {
  Json json = meter::record_json(record);
  json.erase("tenant");
  json.erase("ended_ms");
  json["ended"] = iso_time(record.ended);
  json["cost"] = meter::cost_of(record, plan).total().number();
  return json;
}

// The last `limit` records of the span, or of those before the record `after`: each page goes further back.
Result<Json> usage(const Call& call, const Billing& billing) {
  SUNDOG_TRY(span, span_of(call, billing.clock));
  SUNDOG_TRY(tenant, tenant_of(call));
  SUNDOG_TRY(limit, call.query_limit(100, kUsageLimit));
  const std::string_view after = call.query("after");
  std::deque<meter::UsageRecord> last;
  bool found = after.empty(), earlier = false;
  SUNDOG_CHECK(billing.ledger.read(tenant, span.from, span.to, [&](const meter::UsageRecord& record) {
    if (!after.empty() && record.id == after) {
      found = true;
      return false;
    }
    last.push_back(record);
    if (last.size() > limit) {
      last.pop_front();
      earlier = true;
    }
    return true;
  }));
  if (!found) {
    return fail(Code::invalid_argument,
                "\"after\" is \"" + std::string(after.substr(0, 80)) + "\", no record of that time.",
                "It is the \"next\" of the page before.");
  }
  Json items = Json::array();
  for (const auto& record : last) items.push_back(usage_json(record, billing.plans.of(tenant)));
  return Json{{"items", std::move(items)}, {"next", earlier ? last.front().id : ""}};
}

// What the server's memory was used for since it started, and what it would cost at the common price; only what was
// busy is on anybody's bill.
Result<Json> operator_cost(const Call& call, const Billing& billing) {
  if (!is_operator(call)) {
    return fail(Code::not_found, "What stands idle is the operator's cost, and no tenant's.",
                "An admin of tenant \"default\" sees it.");
  }
  const Json fleet = billing.invoker.fleet();
  const auto held = fleet.find("held");
  if (held == fleet.end()) return fail(Code::unavailable, "The server is too busy to say.", "Try again in a moment.");
  const auto& plan = billing.plans.of(call.principal.tenant);
  Json lines = Json::array();
  for (const auto* what : {"busy", "idle", "parked", "templates", "environments"}) {
    const double gb_seconds = (*held)[what].get<double>();
    lines.push_back({{"what", what},
                     {"gb_seconds", gb_seconds},
                     {"cost", gb_seconds * plan.per_gb_second.number()},
                     {"billed", std::string_view(what) == "busy"}});
  }
  return Json{{"currency", plan.currency}, {"plan", plan.name}, {"lines", std::move(lines)}};
}

// What the operator set for a tenant, only the operator changes.
Status may_change(const Call& call, const Billing& billing, const std::string& tenant, const std::string& function) {
  const auto now = billing.budgets.find(tenant, function);
  if (!now || !now->by_operator || is_operator(call)) return done;
  return fail(Code::permission_denied, "This budget was set by the operator.",
              "An admin of tenant \"default\" can change it.");
}

Result<meter::Money> limit_from(const Json& body) {
  const auto limit = body.find("limit");
  if (limit == body.end() || !(limit->is_string() || limit->is_number())) {
    return fail(Code::invalid_argument, "\"limit\" is not there.", "It is an amount for a month, like \"5.00\".");
  }
  return limit->is_string() ? meter::parse_money(limit->get_ref<const std::string&>())
                            : meter::money_of(limit->get<double>());
}

Status check_functions(const Billing& billing, const meter::Budget& budget) {
  if (!budget.function.empty() && !billing.functions.resolve(budget.tenant, budget.function, "", 0).ok()) {
    return fail(Code::not_found, "There is no function \"" + budget.function + "\" to set a budget for.",
                "Deploy it first.");
  }
  if (!budget.on_alarm.empty() && !billing.functions.get(budget.tenant, budget.on_alarm, "").ok()) {
    return fail(Code::not_found, "There is no function \"" + budget.on_alarm + "\" to tell the alarm to.",
                "\"on_alarm\" is the name of a function of the tenant; deploy it first.");
  }
  return done;
}

Result<Json> describe(const std::string& tenant, const Billing& billing) {
  SUNDOG_CHECK(billing.budgets.recall(billing.ledger));
  return billing.budgets.describe(tenant);
}

Result<Json> set_budget(const Call& call, const Billing& billing) {
  SUNDOG_TRY(tenant, tenant_of(call));
  SUNDOG_TRY(body, call.json());
  SUNDOG_TRY(function, get_string(body, "function", ""));
  SUNDOG_TRY(limit, limit_from(body));
  SUNDOG_TRY(alarm, get_double(body, "alarm", 0.8));
  SUNDOG_TRY(on_alarm, get_string(body, "on_alarm", ""));
  if (!(alarm > 0 && alarm <= 1)) {
    return fail(Code::invalid_argument, "\"alarm\" is " + dump(body["alarm"]) + ".",
                "It is a share of the limit, above 0 and at most 1.");
  }
  SUNDOG_CHECK(may_change(call, billing, tenant, function));
  const meter::Budget budget{.tenant = tenant,
                             .function = function,
                             .limit = limit,
                             .alarm = alarm,
                             .on_alarm = on_alarm,
                             .by_operator = tenant != call.principal.tenant,
                             .alarmed_month = ""};
  SUNDOG_CHECK(check_functions(billing, budget));
  SUNDOG_CHECK(billing.budgets.recall(billing.ledger));
  SUNDOG_CHECK(meter::write_budget(billing.catalog, budget));
  billing.budgets.put(budget);
  return describe(tenant, billing);
}

Result<Json> clear_budget(const Call& call, const Billing& billing) {
  SUNDOG_TRY(tenant, tenant_of(call));
  const std::string function(call.query("function"));
  if (!billing.budgets.find(tenant, function)) {
    return fail(Code::not_found,
                "No budget is set for " + (function.empty() ? "the tenant." : "\"" + function + "\"."));
  }
  SUNDOG_CHECK(may_change(call, billing, tenant, function));
  SUNDOG_CHECK(meter::remove_budget(billing.catalog, tenant, function));
  billing.budgets.remove(tenant, function);
  return describe(tenant, billing);
}

}  // namespace

void add_bill_routes(Router& router, const Billing& billing) {
  router.json("GET", "/v1/bill", Role::viewer, [billing](const CallPtr& call) { return bill(*call, billing); });
  router.json("GET", "/v1/bill/verify", Role::viewer,
              [billing](const CallPtr& call) { return verify(*call, billing); });
  router.json("GET", "/v1/bill/operator", Role::admin,
              [billing](const CallPtr& call) { return operator_cost(*call, billing); });
  router.json("GET", "/v1/usage", Role::viewer, [billing](const CallPtr& call) { return usage(*call, billing); });
  router.add("GET", "/v1/invoice", Role::viewer, [billing](const CallPtr& call) {
    auto made = invoice(*call, billing);
    call->responder->send(made.ok() ? *std::move(made) : error_response(made.error(), ErrorShape::sundog));
  });
  router.json("GET", "/v1/budgets", Role::viewer, [billing](const CallPtr& call) -> Result<Json> {
    SUNDOG_TRY(tenant, tenant_of(*call));
    return describe(tenant, billing);
  });
  router.json("PUT", "/v1/budgets", Role::admin, [billing](const CallPtr& call) { return set_budget(*call, billing); });
  router.json("DELETE", "/v1/budgets", Role::admin,
              [billing](const CallPtr& call) { return clear_budget(*call, billing); });
}

}  // namespace sundog::api
