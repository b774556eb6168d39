// Environment records: how an environment is kept in the Catalog and shown by the API. Pure; any thread.
#pragma once

#include "base/json.h"
#include "functions/environments.h"

namespace sundog::functions {

std::string_view name(Environment::State state);
// As protocol/api.md shows it.
Json environment_json(const Environment& environment);
Result<Environment> environment_from(const Json& json);  // without `folder`

}  // namespace sundog::functions
