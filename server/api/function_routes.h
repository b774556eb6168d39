// /v1/functions/{name}/logs and /dead-letters: see protocol/api.md.
#pragma once

#include "api/router.h"
#include "base/pool.h"
#include "functions/functions.h"
#include "invoke/function_logs.h"
#include "net/loop.h"
#include "store/queue.h"

namespace sundog::api {

// `pool` writes to those who follow logs; `loop` looks from time to time whether they are still there.
void add_function_routes(Router& router, functions::Functions& functions, invoke::FunctionLogs& logs,
                         store::Queue& queue, Pool& pool, net::Loop& loop);

}  // namespace sundog::api
