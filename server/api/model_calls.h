// How a request for a prediction becomes an invocation of the model's function, and its failure an answer.
//
// Threads     stateless; called on the loop thread.
#pragma once

#include <optional>
#include <string>

#include "api/router.h"
#include "invoke/invoker.h"
#include "models/endpoints.h"

namespace sundog::api {

inline constexpr int64_t kPredictionBytes = 6 << 20;  // as Lambda's Invoke

// The body goes to the function as it came: nothing of it is read here.
invoke::Invocation model_invocation(const Call& call, const models::Serving& serving, const std::string& content);

// What is wrong, if anything: a SignatureError of the function is the caller's fault (invalid_argument), any other of
// its errors is `unavailable` when it took too long or its process died, else `internal`.
std::optional<Error> model_error(const Result<invoke::InvokeResult>& result);

}  // namespace sundog::api
