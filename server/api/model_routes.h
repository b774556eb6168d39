// /v1/models and /v1/endpoints: see protocol/api.md.
#pragma once

#include "api/router.h"
#include "invoke/invoker.h"
#include "models/endpoints.h"
#include "models/predictions.h"
#include "models/registry.h"
#include "net/loop.h"

namespace sundog::api {

void add_model_routes(Router& router, models::Registry& registry, models::Endpoints& endpoints,
                      models::Predictions& predictions, invoke::Invoker& invoker);

}  // namespace sundog::api
