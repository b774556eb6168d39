// /v1/environments: see protocol/api.md.
#pragma once

#include "api/router.h"
#include "functions/environments.h"
#include "net/loop.h"
#include "store/catalog.h"

namespace sundog::api {

void add_environment_routes(Router& router, functions::Environments& environments, store::Catalog& catalog,
                            net::Loop& loop);

}  // namespace sundog::api
