// /v2: the Open Inference Protocol over HTTP (JSON tensors), as Triton, KServe and their clients speak it.
#pragma once

#include "api/router.h"
#include "functions/functions.h"
#include "invoke/invoker.h"
#include "models/endpoints.h"

namespace sundog::api {

// `ready` is what /v2/health/ready answers: false while the server drains.
void add_inference_routes(Router& router, models::Endpoints& endpoints, functions::Functions& functions,
                          invoke::Invoker& invoker, std::function<bool()> ready);

}  // namespace sundog::api
