// /v1/runs and /v1/studies: see protocol/api.md.
#pragma once

#include "api/router.h"
#include "learn/runs.h"
#include "learn/studies.h"

namespace sundog::api {

void add_learn_routes(Router& router, learn::Runs& runs, learn::Studies& studies);

}  // namespace sundog::api
