// Lambda's calls for provisioned concurrency.
#include <algorithm>

#include "api/errors.h"
#include "api/lambda_answers.h"
#include "api/lambda_routes.h"
#include "functions/naming.h"

namespace sundog::api {
namespace {

using functions::Functions;
using functions::Provisioned;
using CallPtr = std::shared_ptr<Call>;

constexpr std::string_view kPath = "/2019-09-30/functions/{name}/provisioned-concurrency";

// As the fleet sees it now: how many are ready, and why not, if not.
Json configuration(const Provisioned& one, const Json& fleet) {
  int64_t available = 0;
  std::string reason;
  for (const auto& row : fleet.value("provisioned", Json::array())) {
    const bool same = row.value("tenant", "") == one.version->tenant &&
                      row.value("function", "") == one.version->config.name &&
                      row.value("version", "") == one.version->version;
    if (!same) continue;
    available = std::min<int64_t>(one.count, row.value("available", int64_t{0}));
    reason = row.value("reason", "");
  }
  Json json = {{"RequestedProvisionedConcurrentExecutions", one.count},
               {"AvailableProvisionedConcurrentExecutions", available},
               {"AllocatedProvisionedConcurrentExecutions", available},
               {"Status", available >= one.count ? "READY"
                          : reason.empty()       ? "IN_PROGRESS"
                                                 : "FAILED"},
               {"LastModified", iso_time(one.last_modified)}};
  if (available < one.count && !reason.empty()) json["StatusReason"] = reason;
  return json;
}

std::optional<Provisioned> find(const Functions& functions, const std::string& tenant,
                                const functions::FunctionName& name) {
  for (auto& one : functions.provisioned(tenant, name.name)) {
    if (one.qualifier == name.qualifier) return std::move(one);
  }
  return std::nullopt;
}

void add_get(Router& router, Functions& functions, invoke::Invoker& invoker) {
  const auto answer = [&](const CallPtr& call) {
    const std::string& tenant = call->principal.tenant;
    const auto body = [&]() -> Result<Json> {
      SUNDOG_TRY(name, named_function(*call));
      if (call->query("List") == "ALL") {
        SUNDOG_CHECK(functions.get(tenant, name.name, ""));
        Json items = Json::array();
        for (const auto& one : functions.provisioned(tenant, name.name)) {
          items.push_back(configuration(one, invoker.fleet()));
          items.back()["FunctionArn"] = functions::function_arn(name.name, one.qualifier);
        }
        return Json{{"ProvisionedConcurrencyConfigs", std::move(items)}};
      }
      SUNDOG_CHECK(functions.get(tenant, name.name, name.qualifier));
      const auto found = find(functions, tenant, name);
      return found ? configuration(*found, invoker.fleet()) : Json();
    }();
    if (!body.ok()) return reply_lambda(*call->responder, body.error());
    if (body->is_null()) {
      return reply_exception(*call->responder, 404, "ProvisionedConcurrencyConfigNotFoundException",
                             "No Provisioned Concurrency Config found for this function");
    }
    reply(*call->responder, 200, *body);
  };
  router.add("GET", std::string(kPath), Role::viewer, answer, {.errors = ErrorShape::lambda});
}

}  // namespace

void add_provisioned_routes(Router& router, Functions& functions, invoke::Invoker& invoker) {
  add_lambda(router, "PUT", std::string(kPath), Role::deployer, [&](const CallPtr& call) -> Result<LambdaAnswer> {
    SUNDOG_TRY(name, named_function(*call));
    SUNDOG_TRY(body, call->json());
    SUNDOG_TRY(asked, get_int(body, "ProvisionedConcurrentExecutions"));
    const int count = static_cast<int>(std::clamp<int64_t>(asked, -1, 1'000'000));
    const std::string& tenant = call->principal.tenant;
    SUNDOG_CHECK(functions.set_provisioned(tenant, name.name, name.qualifier, count));
    const auto found = find(functions, tenant, name);
    if (!found) return fail(Code::conflict, "The configuration was deleted at the same time.", "Try again.");
    return LambdaAnswer{202, configuration(*found, invoker.fleet())};
  });
  add_get(router, functions, invoker);
  add_lambda(router, "DELETE", std::string(kPath), Role::deployer, [&](const CallPtr& call) -> Result<LambdaAnswer> {
    SUNDOG_TRY(name, named_function(*call));
    SUNDOG_CHECK(functions.set_provisioned(call->principal.tenant, name.name, name.qualifier, std::nullopt));
    return LambdaAnswer{204, nullptr};
  });
}

}  // namespace sundog::api
