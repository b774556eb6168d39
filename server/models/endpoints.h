// Endpoints: models that answer. Each is a function "model-<name>" whose alias points at one function version, or
// splits the traffic over two. Owns "endpoints/<tenant>/<model>".
//
// A deploy never touches what answers now: the new code becomes $LATEST, is published, is called once, and only then
// does the alias move to it.
//
// Ownership   one per server, created in app/; adds the job kind "deploy".
// Threads     serving() on any thread, memory only; everything else on any thread but the loop's, and may block.
// Failure     not_found · invalid_argument · conflict · whatever the function's init says, as the job's error
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "data/jobs.h"
#include "functions/functions.h"
#include "models/registry.h"
#include "store/blobs.h"
#include "store/catalog.h"

namespace sundog::models {

// Where a request for a model goes.
struct Serving {
  std::string function, qualifier;
  std::string model, version;  // model version; with an alias that splits, the one with the largest share
  std::shared_ptr<const Json> signature;
  std::vector<std::string> versions;  // that are deployed
};

class Endpoints {
 public:
  virtual ~Endpoints() = default;
  // Checks what can be checked now and submits the job: {"version","alias","memory_mb","timeout_s","weight"}.
  virtual Result<data::Job> deploy(const std::string& tenant, const std::string& model, const Json& request) = 0;
  // {"alias","weights":{"1":0.9,"2":0.1}}: model versions that were deployed; one or two; the sum is 1.
  virtual Result<Json> set_traffic(const std::string& tenant, const std::string& model, const Json& request) = 0;
  virtual Result<Json> get(const std::string& tenant, const std::string& model, const std::string& alias) const = 0;
  // {"items","next"}: at most `limit` (1 or more) in order of model and alias, behind `after`, a "next".
  virtual Result<Json> list(const std::string& tenant, const std::string& after, size_t limit) const = 0;
  // conflict if the model version gets traffic.
  virtual Status check_unused(const std::string& tenant, const std::string& model, int64_t version) const = 0;
  // `version` "" is the alias `alias`; `alias` "" is "live" or, without it, the first there is.
  virtual Result<Serving> serving(const std::string& tenant, const std::string& model, const std::string& version,
                                  const std::string& alias) const = 0;
};

struct EndpointParts {
  store::Catalog& catalog;
  store::Blobs& blobs;
  Clock& clock;
  functions::Functions& functions;
  Registry& registry;
  data::Jobs& jobs;
};

// Reads the endpoints there are.
Result<std::unique_ptr<Endpoints>> open_endpoints(EndpointParts parts);

}  // namespace sundog::models
