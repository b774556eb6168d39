// Lambda invocations: what the ways to invoke a function (Invoke, InvokeWithResponseStream and Sundog's own stream)
// have in common. In lambda_invoke.cc.
#pragma once

#include <string_view>

#include "api/router.h"
#include "functions/functions.h"
#include "invoke/invoker.h"

namespace sundog::api {

// Over Lambda's limits, so that what is too large gets Lambda's own answer.
inline constexpr int64_t kInvocationBody = 16 << 20;

// Everything but the payload: the function (which exists), client context, whether the log is wanted.
Result<invoke::Invocation> invocation_of(const Call& call, const functions::Functions& functions);
// Moves the body, one JSON document of at most `limit` bytes, into the invocation.
Status take_payload(Call& call, invoke::Invocation& invocation, int64_t limit, std::string_view operation);

}  // namespace sundog::api
