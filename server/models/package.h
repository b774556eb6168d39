// The code package of a model's function: a zip of the artefact and its manifest (docs/formats/model.md).
//
// Threads     stateless; any thread.
// Failure     too_large (the artefact does not fit in memory's share) · unavailable (the blob store)
#pragma once

#include <string>

#include "base/json.h"
#include "base/result.h"
#include "store/blobs.h"

namespace sundog::models {

inline constexpr std::string_view kHandler = "sundog.runtime.serving.handler";

// {"model","version","format","signature","lineage","environment"} of a ModelVersion.
Json manifest_of(const Json& model_version);
// The same version gives the same bytes.
Result<std::string> package_of(const Json& model_version, const store::Blobs& blobs);

}  // namespace sundog::models
