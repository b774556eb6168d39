// Runs: training runs, their metric points and checkpoints. Owns the records "runs/<tenant>/<id>" and
// "points/<tenant>/<run>/<n>".
//
// A run is one durable event (invoke/events.h) to a training function. The function asks for its checkpoint by the host
// call run.start, logs by run.metrics and run.checkpoint, and its answer ends the run; a redelivered event goes on from
// the last checkpoint as the next attempt.
//
// Ownership   one per server, created in app/ after Events; register_host_calls() before the server listens, start()
//             before Events::start(), stop() before the loop ends.
// Threads     register_host_calls(), start() and stop() on the loop thread; everything else on any thread but the
// loop's
//             (it blocks on the disk and, in create(), on the loop).
// Durability  create() returned ok  =>  the run is carried to an end, also after kill -9. A metric point is on disk
//             before run.log() returns in the function.
// Failure     not_found · invalid_argument · conflict (function not ready, run already over) · unavailable
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/result.h"
#include "data/datasets.h"
#include "functions/functions.h"
#include "invoke/events.h"
#include "invoke/invoker.h"
#include "meter/price_plan.h"
#include "meter/usage.h"
#include "net/loop.h"
#include "store/blobs.h"
#include "store/catalog.h"
#include "store/queue.h"

namespace sundog::learn {

struct NewRun {
  std::string id;  // made if empty; see Runs::new_id()
  std::string name, function, qualifier, dataset, study;
  Json parameters = Json::object();
  std::vector<store::Write> along;  // committed together with the run's record, or neither
};

struct RunPage {
  std::vector<Json> items;
  std::string next;  // "" at the end
};

class Runs {
 public:
  // What a Runs works with; all of it outlives it.
  struct Parts {
    net::Loop& loop;
    Clock& clock;
    Pool& pool;
    Log& log;
    store::Catalog& catalog;
    store::Queue& queue;
    store::Blobs& blobs;
    functions::Functions& functions;
    data::Datasets& datasets;
    invoke::Events& events;
    meter::Ledger& ledger;
  };
  struct Options {
    meter::PricePlans prices;
    int max_attempts = 10;          // over all redeliveries; then the run has failed
    int64_t max_points = 100'000;   // of one run
    Millis sweep{30'000};           // how often runs whose event was lost are looked for
    Millis accept_timeout{10'000};  // longest wait for the event queue in create()
    Millis stop_grace{10'000};      // a running attempt that goes on so long after stop_run() is killed
  };

  virtual ~Runs() = default;

  virtual std::string new_id() = 0;
  // The Run of protocol/api.md, here and below.
  virtual Result<Json> create(const std::string& tenant, NewRun run) = 0;
  // With "points": those with n > `metrics_after`, at most 1,000; without points when it is negative.
  virtual Result<Json> get(const std::string& tenant, const std::string& id, int64_t metrics_after) const = 0;
  // The Run with the "signature" of its model, for the registry.
  virtual Result<Json> result(const std::string& tenant, const std::string& id) const = 0;
  // As get(), once there are such points, the run changes or is over, or after `wait`. Answers on a pool thread or on
  // the caller's.
  virtual void wait(const std::string& tenant, const std::string& id, int64_t metrics_after, Millis wait,
                    Callback<Json> on_change) = 0;
  virtual Result<RunPage> list(const std::string& tenant, const std::string& study, const std::string& after,
                               size_t limit) const = 0;
  // A queued run is stopped at once; a running one is told at its next run.log(), and killed if it does not end.
  virtual Result<Json> stop_run(const std::string& tenant, const std::string& id) = 0;
  // True if some run of the tenant's names the blob as its artefact or checkpoint.
  virtual bool names_blob(const std::string& tenant, const std::string& blob) const = 0;

  // run.start, run.metrics, run.checkpoint (docs/formats/instance.md).
  virtual void register_host_calls(invoke::Invoker& invoker) = 0;
  virtual void start() = 0;
  virtual void stop() = 0;
};

// Listens to parts.events from the moment it is made.
std::unique_ptr<Runs> open_runs(Runs::Parts parts, Runs::Options options);

}  // namespace sundog::learn
