// What happens to a run's record: pure functions over its JSON, so that tests need neither store nor loop.
//
// Threads     plain values; no sharing.
#pragma once

#include <string>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "data/datasets.h"
#include "functions/function.h"
#include "invoke/invoker.h"

namespace sundog::learn {

inline constexpr std::string_view kQueued = "queued";
inline constexpr std::string_view kRunning = "running";

std::string run_key(const std::string& tenant, const std::string& id);
std::string point_prefix(const std::string& tenant, const std::string& run);
std::string point_key(const std::string& tenant, const std::string& run, int64_t n);

bool is_over(const Json& run);        // succeeded, failed or stopped
Json shown(const Json& run);          // without what only the server needs
Json error_json(const Error& error);  // {"code","message","hint"}

// {"errorMessage","errorType","stackTrace"} of a failed function → the run's error.
Json function_error_json(const Json& failure);

// The record of attempt + 1; or, if the run is not to go on (over, or asked to stop), false and untouched.
bool begin_attempt(Json& run, WallTime now);

// How the run's last invocation ended.
void end_run(Json& run, const Result<invoke::InvokeResult>& result, const Json& logged_metrics, WallTime now);

// {"step","values"} of run.metrics, checked: numbers or null; NaN and infinities arrive as null.
Result<Json> metric_point(const Json& arguments, int64_t n, int64_t attempt, WallTime now);

}  // namespace sundog::learn
