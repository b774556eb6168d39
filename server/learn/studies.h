// Studies: hyper-parameter searches and their trials. Owns "studies/<tenant>/<name>" and "trials/<tenant>/<study>/<n>".
//
// The client chooses parameters and says which runs to stop (Optuna); the server keeps everything needed to go on after
// either of them was restarted: creating the same study or trial again gives the one that exists.
//
// Ownership   one per server, created in app/ over Runs.
// Threads     every function may be called from any thread but the loop's and may block.
// Failure     not_found · invalid_argument · conflict (the name exists with other settings; the message names them)
#pragma once

#include <memory>
#include <string>

#include "learn/runs.h"

namespace sundog::learn {

class Studies {
 public:
  virtual ~Studies() = default;
  // `settings` as in POST /v1/studies; the Study of protocol/api.md here and below.
  virtual Result<Json> create(const std::string& tenant, const Json& settings) = 0;
  virtual Result<Json> get(const std::string& tenant, const std::string& name) const = 0;
  virtual Result<Json> list(const std::string& tenant, const std::string& after, size_t limit) const = 0;
  // {"number","parameters"} → the trial's Run.
  virtual Result<Json> add_trial(const std::string& tenant, const std::string& study, const Json& trial) = 0;
  // {"state","value"} → the trial.
  virtual Result<Json> set_trial(const std::string& tenant, const std::string& study, int64_t number,
                                 const Json& outcome) = 0;
};

std::unique_ptr<Studies> open_studies(store::Catalog& catalog, Clock& clock, data::Datasets& datasets, Runs& runs);

}  // namespace sundog::learn
