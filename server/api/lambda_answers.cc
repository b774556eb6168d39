#include "api/lambda_answers.h"

#include "api/errors.h"

namespace sundog::api {

void reply_exception(net::Responder& responder, int status, std::string_view type, const std::string& message) {
  responder.send(lambda_error_response(status, type, message));
}

void reply_lambda(net::Responder& responder, const Error& error) {
  if (error.code == Code::conflict && error.message == functions::kStaleRevision) {
    return reply_exception(responder, 412, "PreconditionFailedException", error.message);
  }
  reply_error(responder, error, ErrorShape::lambda);
}

void add_lambda(Router& router, std::string method, std::string pattern, Role least, LambdaHandler handler,
                int64_t body_limit) {
  router.add(std::move(method), std::move(pattern), least,
             [handler = std::move(handler)](const std::shared_ptr<Call>& call) {
               auto answer = handler(call);
               if (!answer.ok()) return reply_lambda(*call->responder, answer.error());
               if (answer->body.is_null()) return call->responder->send({.status = answer->status});
               reply(*call->responder, answer->status, answer->body);
             },
             {.errors = ErrorShape::lambda, .body_limit = body_limit});
}

Result<functions::FunctionName> named_function(const Call& call) {
  SUNDOG_TRY(name, functions::parse_function_name(call.param("name")));
  const std::string qualifier(call.query("Qualifier"));
  if (qualifier.empty()) return name;
  if (!name.qualifier.empty() && name.qualifier != qualifier) {
    return fail(Code::invalid_argument,
                "The derived qualifier from the function name does not match the specified qualifier.",
                "Give it once: in the name or as Qualifier.");
  }
  name.qualifier = qualifier;
  return name;
}

}  // namespace sundog::api
