// Naming: what functions, versions and aliases may be called, and how Lambda's ARNs name them. Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sundog::functions {

inline constexpr std::string_view kLatest = "$LATEST";

// "arn:aws:lambda:local:000000000000:function:NAME[:QUALIFIER]"
std::string function_arn(std::string_view name, std::string_view qualifier);

Status check_function_name(std::string_view name);
Status check_alias_name(std::string_view name);

// "3" → 3; nothing for what is no version number.
std::optional<int64_t> version_number(std::string_view text);

// The ARN of the layer that stands for an environment, and the environment's id of such an ARN.
std::string environment_layer_arn(std::string_view environment_id);
Result<std::string> environment_of_layer(std::string_view arn);

}  // namespace sundog::functions
