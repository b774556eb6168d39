// A model's signature: the columns that go in and come out. Checked once, when a version is registered.
//
// Threads     stateless; any thread.
// Failure     invalid_argument names the column and what is wrong with it.
#pragma once

#include "base/json.h"
#include "base/result.h"

namespace sundog::models {

// {"inputs":[{"name","type","nullable"}],"outputs":[{"name","type"}]} with each field present and known.
Result<Json> checked_signature(const Json& signature);

// The Open Inference Protocol's metadata tensors of "inputs" or "outputs": [{"name","datatype","shape":[-1,1]}].
Json tensors_of(const Json& columns);

}  // namespace sundog::models
