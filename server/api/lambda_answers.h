// Lambda answers: how handlers of Lambda's API answer, its error shapes included. Shared by lambda_routes.cc and
// lambda_invoke.cc.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "api/router.h"
#include "functions/functions.h"

namespace sundog::api {

struct LambdaAnswer {
  int status = 200;
  Json body;  // null: no body
};
using LambdaHandler = std::function<Result<LambdaAnswer>(const std::shared_ptr<Call>&)>;

// Adds a route on the api pool whose errors have Lambda's shape.
void add_lambda(Router& router, std::string method, std::string pattern, Role least, LambdaHandler handler,
                int64_t body_limit = 1 << 20);

// As api/errors.h, with what it cannot know: a stale revision id is PreconditionFailedException (412).
void reply_lambda(net::Responder& responder, const Error& error);
// An exception that no Code stands for.
void reply_exception(net::Responder& responder, int status, std::string_view type, const std::string& message);

// The function that the path's {name} and the query's Qualifier name together; invalid_argument if they contradict.
Result<functions::FunctionName> named_function(const Call& call);

}  // namespace sundog::api
