#include "api/server_routes.h"

#include "api/errors.h"

namespace sundog::api {
namespace {

using CallPtr = std::shared_ptr<Call>;

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
  for (const auto* list : {"instances", "templates", "provisioned", "environments"}) {
    Json own = Json::array();
    for (auto& item : fleet[list]) {
      if (item.value("tenant", "") == call.principal.tenant) own.push_back(std::move(item));
    }
    fleet[list] = std::move(own);
  }
  fleet.erase("held");
  return fleet;
}

void add_key_routes(Api& api) {
  auto& keys = api.keys();
  auto& router = api.router();
  router.json("POST", "/v1/keys", Role::admin, [&keys](const CallPtr& call) { return create_key(*call, keys); });
  router.json("GET", "/v1/keys", Role::admin, [&keys](const CallPtr& call) -> Result<Json> {
    SUNDOG_TRY(asked, call->list_query());
    SUNDOG_TRY(page, keys.page(visible_tenant(*call), asked.after, asked.limit));
    Json items = Json::array();
    for (const auto& key : page.items) items.push_back(to_json(key));
    return Json{{"items", std::move(items)}, {"next", page.next}};
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

void add_server_routes(Api& api, Clock& clock, invoke::Invoker& invoker, std::function<Json()> doctor,
                       ServerFacts facts) {
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
  router.json("GET", "/v1/fleet", Role::viewer,
              [&invoker](const CallPtr& call) -> Result<Json> { return fleet_for(*call, invoker.fleet()); });
}

}  // namespace sundog::api
