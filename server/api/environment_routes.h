// /v1/environments: see protocol/api.md.
#pragma once

#include "api/router.h"
#include "functions/environments.h"
#include "net/loop.h"

namespace sundog::api {

void add_environment_routes(Router& router, functions::Environments& environments, net::Loop& loop);

}  // namespace sundog::api
