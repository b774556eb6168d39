// AWS Lambda's HTTP API: functions, versions, aliases, concurrency, tags and Invoke, as botocore's service-2.json
// describes them.
#pragma once

#include "api/router.h"
#include "functions/environments.h"
#include "functions/functions.h"
#include "invoke/events.h"
#include "invoke/invoker.h"
#include "store/blobs.h"

namespace sundog::api {

void add_lambda_routes(Router& router, functions::Functions& functions, functions::Environments& environments,
                       invoke::Invoker& invoker, invoke::Events& events, store::Blobs& blobs);

// PutProvisionedConcurrencyConfig and its kin (provisioned_routes.cc).
void add_provisioned_routes(Router& router, functions::Functions& functions, invoke::Invoker& invoker);

// Invoke alone: on the loop thread, the payload untouched (lambda_invoke.cc).
void add_invoke_route(Router& router, functions::Functions& functions, invoke::Invoker& invoker,
                      invoke::Events& events);

// Streamed answers (lambda_stream.cc): InvokeWithResponseStream, and POST /v1/functions/{name}/stream.
void add_stream_routes(Router& router, functions::Functions& functions, invoke::Invoker& invoker);

}  // namespace sundog::api
