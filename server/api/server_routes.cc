#include "api/server_routes.h"

#include <algorithm>
#include <charconv>
#include <deque>

#include "api/errors.h"
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

struct Span {
  WallTime from, to;
};

// Without `from`: since the month began; without `to`: until now.
Result<Span> span_of(const Call& call, const Clock& clock) {
  const auto now = clock.wall();
  const auto today = std::chrono::floor<std::chrono::days>(now);
  const std::chrono::year_month_day date{today};
  Span span{WallTime{std::chrono::sys_days(date.year() / date.month() / 1)}, now};
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

Result<Json> bill(const Call& call, const Clock& clock, const meter::Ledger& ledger, const meter::PricePlan& plan) {
  SUNDOG_TRY(span, span_of(call, clock));
  meter::BillQuery query{.tenant = call.principal.tenant, .from = span.from, .to = span.to, .by = {}};
  auto by = std::string(call.query("by"));
  if (by.empty()) by = "function";
  for (size_t begin = 0; begin <= by.size();) {
    const auto end = std::min(by.find(',', begin), by.size());
    auto word = by.substr(begin, end - begin);
    if (word != "function" && word != "day" && word != "kind") {
      return fail(Code::invalid_argument, "A bill is not made by \"" + word + "\".", "It is by function, day, kind.");
    }
    query.by.push_back(std::move(word));
    begin = end + 1;
  }
  return ledger.bill(query, plan);
}

// What the ledger keeps, with the time as a caller reads it, and the price.
Json usage_json(const meter::UsageRecord& record, const meter::PricePlan& plan) {
  Json json = meter::record_json(record);
  json.erase("tenant");
  json.erase("ended_ms");
  json["ended"] = iso_time(record.ended);
  json["cost"] = meter::cost_of(record, plan).total();
  return json;
}

// The last `limit` records of the span, or of those before the record `after`: each page goes further back.
Result<Json> usage(const Call& call, const Clock& clock, const meter::Ledger& ledger, const meter::PricePlan& plan) {
  SUNDOG_TRY(span, span_of(call, clock));
  SUNDOG_TRY(limit, call.query_int("limit", 100));
  if (limit < 1 || limit > kUsageLimit) {
    return fail(Code::invalid_argument, "\"limit\" is 1 to " + std::to_string(kUsageLimit) + ".");
  }
  const std::string_view after = call.query("after");
  std::deque<meter::UsageRecord> last;
  bool found = after.empty(), earlier = false;
  SUNDOG_CHECK(ledger.read(call.principal.tenant, span.from, span.to, [&](const meter::UsageRecord& record) {
    if (!after.empty() && record.id == after) {
      found = true;
      return false;
    }
    last.push_back(record);
    if (std::ssize(last) > limit) {
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
  for (const auto& record : last) items.push_back(usage_json(record, plan));
  return Json{{"items", std::move(items)}, {"next", earlier ? last.front().id : ""}};
}

// The operator's tenant sees and makes all keys, another only its own.
Result<std::string> tenant_for(const Call& call, const std::string& wanted) {
  if (wanted.empty() || wanted == call.principal.tenant) return call.principal.tenant;
  if (call.principal.tenant == kDefaultTenant) return wanted;
  return fail(Code::permission_denied,
              "Tenant \"" + call.principal.tenant + "\" cannot make keys for \"" + wanted + "\".",
              "An admin of tenant \"default\" can.");
}

Result<Json> create_key(const Call& call, Keys& keys) {
  SUNDOG_TRY(body, call.json());
  SUNDOG_TRY(role_name, get_string(body, "role"));
  SUNDOG_TRY(role, role_from(role_name));
  SUNDOG_TRY(wanted, get_string(body, "tenant", ""));
  SUNDOG_TRY(tenant, tenant_for(call, wanted));
  SUNDOG_TRY(label, get_string(body, "name", ""));
  SUNDOG_TRY(made, keys.create(tenant, label, role));
  return to_json(made);
}

std::string visible_tenant(const Call& call) {
  return call.principal.tenant == kDefaultTenant ? std::string() : call.principal.tenant;
}

// The operator's tenant sees what all do, another only its own.
Json fleet_for(const Call& call, Json fleet) {
  if (call.principal.tenant == kDefaultTenant) return fleet;
  for (const auto* list : {"instances", "templates"}) {
    Json own = Json::array();
    for (auto& item : fleet[list]) {
      if (item.value("tenant", "") == call.principal.tenant) own.push_back(std::move(item));
    }
    fleet[list] = std::move(own);
  }
  return fleet;
}

void add_key_routes(Api& api) {
  auto& keys = api.keys();
  auto& router = api.router();
  router.json("POST", "/v1/keys", Role::admin, [&keys](const CallPtr& call) { return create_key(*call, keys); });
  router.json("GET", "/v1/keys", Role::admin, [&keys](const CallPtr& call) -> Result<Json> {
    Json items = Json::array();
    for (const auto& key : keys.list(visible_tenant(*call))) items.push_back(to_json(key));
    return Json{{"items", std::move(items)}, {"next", ""}};
  });
  router.json("DELETE", "/v1/keys/{id}", Role::admin, [&keys](const CallPtr& call) -> Result<Json> {
    SUNDOG_CHECK(keys.revoke(visible_tenant(*call), call->param("id")));
    return Json{{"id", call->param("id")}, {"revoked", true}};
  });
}

void add_open_routes(Api& api, const ServerFacts& facts) {
  api.router().add("GET", "/healthz", Role::viewer,
                   [&api](const CallPtr& call) {
                     if (api.draining()) return reply(*call->responder, 503, {{"status", "draining"}});
                     reply(*call->responder, 200, {{"status", "ok"}});
                   },
                   {.run = Run::loop, .open_to_all = true});
  api.router().add(
      "GET", "/metrics", Role::viewer,
      [&api](const CallPtr& call) {
        call->responder->send({200, {{"Content-Type", "text/plain; version=0.0.4"}}, api.metrics().text()});
      },
      {.open_to_all = facts.open_metrics});
}

}  // namespace

Result<WallTime> parse_time(std::string_view text, std::string_view what) {
  if (const auto time = time_of(text)) return *time;
  return fail(Code::invalid_argument,
              "\"" + std::string(what) + "\" is \"" + std::string(text) + "\", which is no time.",
              "Write 2026-01-31 or 2026-01-31T12:00:00Z.");
}

void add_server_routes(Api& api, Clock& clock, meter::Ledger& ledger, const meter::PricePlan& plan,
                       invoke::Invoker& invoker, std::function<Json()> doctor, ServerFacts facts) {
  auto& router = api.router();
  add_open_routes(api, facts);
  add_key_routes(api);
  router.json("GET", "/v1/status", Role::viewer,
              [&clock, facts = std::move(facts), started = clock.mono()](const CallPtr& call) -> Result<Json> {
                const auto up = std::chrono::duration_cast<std::chrono::seconds>(clock.mono() - started).count();
                return Json{{"version", facts.version},
                            {"data_folder", facts.data_folder.string()},
                            {"uptime_s", up},
                            {"tenant", call->principal.tenant},
                            {"role", std::string(name(call->principal.role))},
                            {"pythons", facts.pythons}};
              },
              {.run = Run::loop});
  router.json("GET", "/v1/doctor", Role::viewer,
              [doctor = std::move(doctor)](const CallPtr&) -> Result<Json> { return Json{{"checks", doctor()}}; });
  router.json("GET", "/v1/bill", Role::viewer,
              [&clock, &ledger, &plan](const CallPtr& call) { return bill(*call, clock, ledger, plan); });
  router.json("GET", "/v1/usage", Role::viewer,
              [&clock, &ledger, &plan](const CallPtr& call) { return usage(*call, clock, ledger, plan); });
  router.json("GET", "/v1/fleet", Role::viewer,
              [&invoker](const CallPtr& call) -> Result<Json> { return fleet_for(*call, invoker.fleet()); });
}

}  // namespace sundog::api
