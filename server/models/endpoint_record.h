// An endpoint's record and what a deploy or a shift of traffic does to it: pure functions over its JSON.
//
// {"model","function","memory_mb","aliases":{"live":{"weights":{"2":1.0}}},"versions":{"2":"<function version>"},
//  "signatures":{"2":{…}}}
//
// Threads     plain values; no sharing.
#pragma once

#include <map>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "functions/function.h"

namespace sundog::models {

std::string function_of(const std::string& model);  // "model-<name>"

// "live", or without it the first there is; "" if there is none.
std::string default_alias(const Json& endpoint);
// The model version with the largest share of an alias.
std::string main_version(const Json& endpoint, const std::string& alias);
// The Endpoint of protocol/api.md.
Json shown_endpoint(const Json& endpoint, const std::string& alias);

// {"1":0.9,"2":0.1} → checked: deployed versions, one or two of them, positive shares whose sum is 1.
Result<std::map<std::string, double>> checked_weights(const Json& weights, const Json& endpoint);
// The shares of an alias once `version` gets `weight` of it and what answers there now keeps the rest.
Result<std::map<std::string, double>> shares_with(const Json& endpoint, const std::string& alias,
                                                  const std::string& version, double weight);
// The function's alias for those shares.
functions::Alias alias_for(const std::string& name, const std::map<std::string, double>& weights, const Json& endpoint);

}  // namespace sundog::models
