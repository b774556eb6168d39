// Lambda's Invoke: straight from the request to the invoker and back, on the loop thread.
#include "api/errors.h"
#include "api/json_check.h"
#include "api/lambda_answers.h"
#include "api/lambda_invocation.h"
#include "api/lambda_routes.h"
#include "api/lambda_shapes.h"
#include "base/crypto.h"

namespace sundog::api {
namespace {

using CallPtr = std::shared_ptr<Call>;
using ResponderPtr = std::shared_ptr<net::Responder>;

constexpr size_t kLogTail = 4096;
constexpr size_t kClientContextLimit = 3583;

enum class Kind { request_response, event, dry_run };

Result<Kind> kind_of(const Call& call) {
  const std::string_view text = call.request.header("x-amz-invocation-type");
  if (text.empty() || text == "RequestResponse") return Kind::request_response;
  if (text == "Event") return Kind::event;
  if (text == "DryRun") return Kind::dry_run;
  return fail(Code::invalid_argument, "\"" + std::string(text.substr(0, 64)) + "\" is no InvocationType.",
              "There are RequestResponse, Event and DryRun.");
}

Result<bool> wants_log(const Call& call) {
  const std::string_view text = call.request.header("x-amz-log-type");
  if (text.empty() || text == "None") return false;
  if (text == "Tail") return true;
  return fail(Code::invalid_argument, "\"" + std::string(text.substr(0, 64)) + "\" is no LogType.",
              "There are None and Tail.");
}

Result<std::string> client_context(const Call& call) {
  const std::string_view encoded = call.request.header("x-amz-client-context");
  if (encoded.empty()) return std::string();
  const auto bad = [] {
    return fail(Code::invalid_argument, "Client context must be a valid Base64-encoded JSON object.");
  };
  if (encoded.size() > kClientContextLimit) return bad();
  auto text = from_base64(encoded);
  if (!text.ok() || !is_json(*text) || text->find('{') == std::string::npos) return bad();
  return text;
}

void send_result(const ResponderPtr& responder, Result<invoke::InvokeResult> result) {
  if (!result.ok()) return reply_lambda(*responder, result.error());
  net::Response response;
  response.headers = {{"Content-Type", "application/json"},
                      {"x-amzn-RequestId", result->request_id},
                      {"X-Amz-Executed-Version", result->executed_version}};
  if (!result->function_error.empty()) response.headers.emplace_back("X-Amz-Function-Error", result->function_error);
  if (!result->log_tail.empty()) {
    std::string_view tail = result->log_tail;
    if (tail.size() > kLogTail) tail.remove_prefix(tail.size() - kLogTail);
    response.headers.emplace_back("X-Amz-Log-Result", base64(tail));
  }
  response.body = std::move(result->payload);
  responder->send(std::move(response));
}

void invoke_function(const CallPtr& call, functions::Functions& functions, invoke::Invoker& invoker,
                     invoke::Events& events) {
  const auto kind = kind_of(*call);
  if (!kind.ok()) return reply_lambda(*call->responder, kind.error());
  auto invocation = invocation_of(*call, functions);
  if (!invocation.ok()) return reply_lambda(*call->responder, invocation.error());
  if (*kind == Kind::dry_run) return call->responder->send({.status = 204});
  const int64_t limit = *kind == Kind::event ? kEventPayloadLimit : kPayloadLimit;
  const auto taken = take_payload(*call, *invocation, limit, "InvokeFunction");
  if (!taken.ok()) return reply_lambda(*call->responder, taken.error());
  const ResponderPtr responder = call->responder;
  if (*kind == Kind::request_response) {
    return invoker.invoke(*std::move(invocation), [responder](Result<invoke::InvokeResult> result) {
      send_result(responder, std::move(result));
    });
  }
  events.accept(*std::move(invocation), [responder](const Result<std::string>& request_id) {
    if (!request_id.ok()) return reply_lambda(*responder, request_id.error());
    responder->send({.status = 202, .headers = {{"x-amzn-RequestId", *request_id}}});
  });
}

}  // namespace

Result<invoke::Invocation> invocation_of(const Call& call, const functions::Functions& functions) {
  SUNDOG_TRY(name, named_function(call));
  // Whether there is such a function is told before what is wrong with the payload, as Lambda does.
  SUNDOG_CHECK(functions.resolve(call.principal.tenant, name.name, name.qualifier, 0));
  SUNDOG_TRY(context, client_context(call));
  SUNDOG_TRY(log, wants_log(call));
  invoke::Invocation invocation;
  invocation.tenant = call.principal.tenant;
  invocation.function = std::move(name.name);
  invocation.qualifier = std::move(name.qualifier);
  invocation.request_id = call.request_id;
  invocation.client_context = std::move(context);
  invocation.want_log_tail = log;
  return invocation;
}

Status take_payload(Call& call, invoke::Invocation& invocation, int64_t limit, std::string_view operation) {
  auto& body = call.request.body;
  if (static_cast<int64_t>(body.size()) > limit) {
    return fail(Code::too_large, "Request must be smaller than " + std::to_string(limit) + " bytes for the " +
                                     std::string(operation) + " operation; it has " + std::to_string(body.size()) +
                                     ".");
  }
  invocation.payload = body.empty() ? "{}" : std::move(body);
  if (is_json(invocation.payload)) return done;
  return not_json(fail(Code::invalid_argument, "the payload is not one JSON document in UTF-8."));
}

void add_invoke_route(Router& router, functions::Functions& functions, invoke::Invoker& invoker,
                      invoke::Events& events) {
  router.add("POST", "/2015-03-31/functions/{name}/invocations", Role::invoker,
             [&](const CallPtr& call) { invoke_function(call, functions, invoker, events); },
             {.run = Run::loop, .errors = ErrorShape::lambda, .body_limit = kInvocationBody});
}

}  // namespace sundog::api
