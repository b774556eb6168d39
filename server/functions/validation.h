// Validation: what Lambda's limits say about a function's settings. Pure; any thread.
//
// Failure     invalid_argument, with the value that was wrong and the limit that was passed.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "functions/function.h"

namespace sundog::functions {

// The tag that holds Config::allow, separated by commas: Lambda's limit for a value would be three host names.
inline constexpr std::string_view kAllowTag = "sundog:allow";

Status check_config(const Config& config);
// `exists` says whether the function has that version.
Status check_alias(const Alias& alias, const std::function<bool(const std::string& version)>& exists);
Status check_reserved_concurrency(int limit);

}  // namespace sundog::functions
