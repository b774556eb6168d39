// Predictions: a dataset in, a dataset out: each shard is one invocation of the model's function, at most `parallel` at
// a time. Adds the job kind "predict".
//
// One function version answers for all shards, whatever the alias does meanwhile; shards that are done stay done over a
// restart of the server.
//
// Ownership   one per server, created in app/.
// Threads     any thread but the loop's; may block.
// Failure     not_found · invalid_argument; a shard's error is the job's, and names the shard
#pragma once

#include <memory>
#include <string>

#include "data/datasets.h"
#include "data/jobs.h"
#include "models/endpoints.h"

namespace sundog::models {

class Predictions {
 public:
  virtual ~Predictions() = default;
  // {"dataset","split"?,"alias"?,"as","parallel"?}
  virtual Result<data::Job> predict(const std::string& tenant, const std::string& model, const Json& request) = 0;
};

std::unique_ptr<Predictions> make_predictions(data::Jobs& jobs, data::Datasets& datasets, Endpoints& endpoints,
                                              Clock& clock);

}  // namespace sundog::models
