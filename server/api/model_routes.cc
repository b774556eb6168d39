#include "api/model_routes.h"

#include "api/model_calls.h"

namespace sundog::api {
namespace {

using CallPtr = std::shared_ptr<Call>;

Result<int64_t> version_number(const std::string& text) {
  if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos) {
    return fail(Code::invalid_argument, "A model version is a number, not \"" + text + "\"");
  }
  return std::stoll(text);
}

void add_version_routes(Router& router, models::Registry& registry, models::Endpoints& endpoints) {
  router.json(
      "POST", "/v1/models/{name}/versions", Role::deployer,
      [&](const CallPtr& call) -> Result<Json> {
        SUNDOG_TRY(body, call->json());
        return registry.add_version(call->principal.tenant, call->param("name"), body);
      },
      {}, 201);
  router.json("GET", "/v1/models/{name}/versions/{version}", Role::viewer, [&](const CallPtr& call) {
    return registry.get_version(call->principal.tenant, call->param("name"), call->param("version"));
  });
  router.json("DELETE", "/v1/models/{name}/versions/{version}", Role::deployer,
              [&](const CallPtr& call) -> Result<Json> {
                const auto& tenant = call->principal.tenant;
                SUNDOG_TRY(version, version_number(call->param("version")));
                SUNDOG_CHECK(endpoints.check_unused(tenant, call->param("name"), version));
                SUNDOG_CHECK(registry.remove_version(tenant, call->param("name"), version));
                return Json::object();
              });
  router.json("PUT", "/v1/models/{name}/aliases/{alias}", Role::deployer, [&](const CallPtr& call) -> Result<Json> {
    SUNDOG_TRY(body, call->json());
    SUNDOG_TRY(version, get_int(body, "version"));
    return registry.set_alias(call->principal.tenant, call->param("name"), call->param("alias"), version);
  });
  router.json("DELETE", "/v1/models/{name}/aliases/{alias}", Role::deployer, [&](const CallPtr& call) -> Result<Json> {
    SUNDOG_CHECK(registry.remove_alias(call->principal.tenant, call->param("name"), call->param("alias")));
    return Json::object();
  });
}

void add_endpoint_routes(Router& router, models::Endpoints& endpoints, models::Predictions& predictions) {
  router.json(
      "POST", "/v1/models/{name}/deploy", Role::deployer,
      [&](const CallPtr& call) -> Result<Json> {
        SUNDOG_TRY(body, call->json());
        SUNDOG_TRY(job, endpoints.deploy(call->principal.tenant, call->param("name"), body));
        return job.to_json();
      },
      {}, 202);
  router.json("PUT", "/v1/models/{name}/traffic", Role::deployer, [&](const CallPtr& call) -> Result<Json> {
    SUNDOG_TRY(body, call->json());
    return endpoints.set_traffic(call->principal.tenant, call->param("name"), body);
  });
  router.json("GET", "/v1/models/{name}/endpoint", Role::viewer, [&](const CallPtr& call) {
    return endpoints.get(call->principal.tenant, call->param("name"), std::string(call->query("alias")));
  });
  router.json("GET", "/v1/endpoints", Role::viewer, [&](const CallPtr& call) -> Result<Json> {
    SUNDOG_TRY(asked, call->list_query());
    return endpoints.list(call->principal.tenant, asked.after, asked.limit);
  });
  router.json(
      "POST", "/v1/models/{name}/predictions", Role::deployer,
      [&](const CallPtr& call) -> Result<Json> {
        SUNDOG_TRY(body, call->json());
        SUNDOG_TRY(job, predictions.predict(call->principal.tenant, call->param("name"), body));
        return job.to_json();
      },
      {}, 202);
}

void predict(models::Endpoints& endpoints, invoke::Invoker& invoker, const CallPtr& call) {
  const auto serving =
      endpoints.serving(call->principal.tenant, call->param("name"), "", std::string(call->query("alias")));
  if (!serving.ok()) {
    reply_error(*call->responder, serving.error(), ErrorShape::sundog);
    return;
  }
  invoker.invoke(model_invocation(*call, *serving, "rows"), [call](const Result<invoke::InvokeResult>& result) {
    const auto error = model_error(result);
    if (!error) {
      call->responder->send({200, {{"Content-Type", "application/json"}}, result->payload});
      return;
    }
    reply_error(*call->responder, *error, ErrorShape::sundog);
  });
}

}  // namespace

void add_model_routes(Router& router, models::Registry& registry, models::Endpoints& endpoints,
                      models::Predictions& predictions, invoke::Invoker& invoker) {
  router.json("GET", "/v1/models", Role::viewer, [&](const CallPtr& call) -> Result<Json> {
    SUNDOG_TRY(asked, call->list_query());
    return registry.list(call->principal.tenant, asked.after, asked.limit);
  });
  router.json("GET", "/v1/models/{name}", Role::viewer,
              [&](const CallPtr& call) { return registry.describe(call->principal.tenant, call->param("name")); });
  add_version_routes(router, registry, endpoints);
  add_endpoint_routes(router, endpoints, predictions);
  RouteOptions online;
  online.run = Run::loop;
  online.body_limit = kPredictionBytes;
  router.add(
      "POST", "/v1/models/{name}/predict", Role::invoker,
      [&](const CallPtr& call) { predict(endpoints, invoker, call); }, online);
}

}  // namespace sundog::api
