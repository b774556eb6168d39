#include "api/model_calls.h"

namespace sundog::api {

invoke::Invocation model_invocation(const Call& call, const models::Serving& serving, const std::string& content) {
  invoke::Invocation invocation;
  invocation.tenant = call.principal.tenant;
  invocation.function = serving.function;
  invocation.qualifier = serving.qualifier;
  invocation.payload = call.request.body;
  invocation.meta = {{"content", content}, {"model", serving.model}};
  return invocation;
}

std::optional<Error> model_error(const Result<invoke::InvokeResult>& result) {
  if (!result.ok()) return result.error();
  if (result->function_error.empty()) return std::nullopt;
  const auto parsed = parse_json(result->payload, "the function's error");
  std::string type;
  std::string message = "The model's function failed";
  if (parsed.ok()) {
    type = get_string(*parsed, "errorType", "").ok() ? *get_string(*parsed, "errorType", "") : "";
    if (const auto text = get_string(*parsed, "errorMessage", ""); text.ok() && !text->empty()) message = *text;
  }
  if (type == "SignatureError") return fail(Code::invalid_argument, message);
  const auto hint = "The function's log holds the whole traceback: sundog logs " + result->usage.function;
  const bool ended = type.starts_with("Sandbox.") || type.starts_with("Runtime.");
  return fail(ended ? Code::unavailable : Code::internal, type.empty() ? message : type + ": " + message, hint);
}

}  // namespace sundog::api
