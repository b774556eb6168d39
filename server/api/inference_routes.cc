#include "api/inference_routes.h"

#include "api/model_calls.h"
#include "models/signature.h"

namespace sundog::api {
namespace {

using CallPtr = std::shared_ptr<Call>;

int status_of(Code code) {
  switch (code) {
    case Code::invalid_argument:
      return 400;
    case Code::not_found:
      return 404;
    case Code::conflict:
      return 409;
    case Code::too_large:
      return 413;
    case Code::resource_exhausted:
      return 429;
    case Code::budget_exceeded:
      return 402;
    case Code::deadline_exceeded:
      return 504;
    case Code::unavailable:
      return 503;
    default:
      return 500;
  }
}

// The protocol's own shape: {"error": "…"}.
void reply_v2_error(net::Responder& responder, const Error& error) {
  net::Pairs headers;
  if (error.code == Code::resource_exhausted) headers.emplace_back("Retry-After", "1");
  reply(responder, status_of(error.code), {{"error", error.message}}, std::move(headers));
}

Result<models::Serving> serving_of(const models::Endpoints& endpoints, const Call& call) {
  return endpoints.serving(call.principal.tenant, call.param("name"), call.param("version"), "");
}

void metadata(const models::Endpoints& endpoints, const CallPtr& call) {
  const auto serving = serving_of(endpoints, *call);
  if (!serving.ok()) {
    reply_v2_error(*call->responder, serving.error());
    return;
  }
  reply(*call->responder, 200,
        {{"name", serving->model},
         {"versions", serving->versions},
         {"platform", "sundog"},
         {"inputs", models::tensors_of((*serving->signature)["inputs"])},
         {"outputs", models::tensors_of((*serving->signature)["outputs"])}});
}

void model_ready(const models::Endpoints& endpoints, const functions::Functions& functions, const CallPtr& call) {
  const auto serving = serving_of(endpoints, *call);
  if (!serving.ok()) {
    reply_v2_error(*call->responder, serving.error());
    return;
  }
  const auto resolved = functions.resolve(call->principal.tenant, serving->function, serving->qualifier, 0.0);
  const bool active = resolved.ok() && resolved->version->state == functions::State::active;
  reply(*call->responder, active ? 200 : 503, {{"name", serving->model}, {"ready", active}});
}

void infer(const models::Endpoints& endpoints, invoke::Invoker& invoker, const CallPtr& call) {
  if (!call->request.header("inference-header-content-length").empty()) {
    reply_v2_error(*call->responder,
                   fail(Code::invalid_argument, "Binary tensors are not supported: send JSON tensors"));
    return;
  }
  const auto serving = serving_of(endpoints, *call);
  if (!serving.ok()) {
    reply_v2_error(*call->responder, serving.error());
    return;
  }
  invoker.invoke(model_invocation(*call, *serving, "v2"), [call](const Result<invoke::InvokeResult>& result) {
    if (const auto error = model_error(result)) {
      reply_v2_error(*call->responder, *error);
    } else {
      call->responder->send({200, {{"Content-Type", "application/json"}}, result->payload});
    }
  });
}

}  // namespace

void add_inference_routes(Router& router, models::Endpoints& endpoints, functions::Functions& functions,
                          invoke::Invoker& invoker, std::function<bool()> ready) {
  RouteOptions open;
  open.run = Run::loop;
  open.open_to_all = true;
  router.add(
      "GET", "/v2/health/live", Role::viewer,
      [](const CallPtr& call) { reply(*call->responder, 200, {{"live", true}}); }, open);
  router.add(
      "GET", "/v2/health/ready", Role::viewer,
      [ready = std::move(ready)](const CallPtr& call) {
        const bool now = ready();
        reply(*call->responder, now ? 200 : 503, {{"ready", now}});
      },
      open);
  RouteOptions online;
  online.run = Run::loop;
  online.body_limit = kPredictionBytes;
  router.add(
      "GET", "/v2", Role::viewer,
      [](const CallPtr& call) {
        reply(*call->responder, 200, {{"name", "sundog"}, {"version", "0.1.0"}, {"extensions", Json::array()}});
      },
      online);
  for (const std::string base : {"/v2/models/{name}", "/v2/models/{name}/versions/{version}"}) {
    router.add("GET", base, Role::viewer, [&](const CallPtr& call) { metadata(endpoints, call); }, online);
    router.add(
        "GET", base + "/ready", Role::viewer, [&](const CallPtr& call) { model_ready(endpoints, functions, call); },
        online);
    router.add(
        "POST", base + "/infer", Role::invoker, [&](const CallPtr& call) { infer(endpoints, invoker, call); }, online);
  }
}

}  // namespace sundog::api
