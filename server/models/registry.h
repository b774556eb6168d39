// Registry: models, their immutable versions and aliases. Owns "models/<tenant>/<name>" and
// "model-versions/<tenant>/<name>/<n>".
//
// A version holds the artefact's blob, its signature, metrics and lineage; nothing of it ever changes, and the number
// of a removed version is never given again.
//
// Ownership   one per server, created in app/.
// Threads     every function may be called from any thread but the loop's and may block on the disk.
// Failure     not_found (says what exists) · invalid_argument · conflict (the run did not succeed; an alias names the
// version)
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "learn/runs.h"
#include "store/blobs.h"
#include "store/catalog.h"

namespace sundog::models {

// Names a function "model-<name>", hence at most 58 of [A-Za-z0-9_-].
Status check_model_name(const std::string& name);

class Registry {
 public:
  // True if the tenant may use the blob as an artefact (it put it, or something of its own names it).
  using MayUseBlob = std::function<bool(const std::string& tenant, const std::string& blob)>;

  virtual ~Registry() = default;
  // {"run"} or {"artefact","format","signature","environment","metrics"?}; the ModelVersion of protocol/api.md.
  virtual Result<Json> add_version(const std::string& tenant, const std::string& model, const Json& request) = 0;
  // `version`: a number, an alias or "latest".
  virtual Result<Json> get_version(const std::string& tenant, const std::string& model,
                                   const std::string& version) const = 0;
  virtual Status remove_version(const std::string& tenant, const std::string& model, int64_t version) = 0;
  virtual Result<Json> set_alias(const std::string& tenant, const std::string& model, const std::string& alias,
                                 int64_t version) = 0;
  virtual Status remove_alias(const std::string& tenant, const std::string& model, const std::string& alias) = 0;
  // {"name","created","latest","aliases":{"live":2},"versions":[ModelVersion…]}
  virtual Result<Json> describe(const std::string& tenant, const std::string& model) const = 0;
  virtual Result<Json> list(const std::string& tenant, const std::string& after, size_t limit) const = 0;
  // True if some model version of the tenant's names the blob.
  virtual bool names_blob(const std::string& tenant, const std::string& blob) const = 0;
};

std::unique_ptr<Registry> open_registry(store::Catalog& catalog, store::Blobs& blobs, Clock& clock, learn::Runs& runs,
                                        Registry::MayUseBlob may_use_blob);

}  // namespace sundog::models
