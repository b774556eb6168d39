// Jobs: long server-side work (ingest, profile, preprocess, predict, deploy), resumable after a restart.
//
// Ownership   one per server, created in app/; owns its threads and the records "jobs/<tenant>/<id>".
// Threads     every function may be called from any thread and may block; handlers run on the jobs' own threads.
// Durability  submit() returned ok  =>  the job runs to an end, also after kill -9 (its handler is called again from
// the
//             start, with what save() last kept). Handlers are therefore written so that doing a step twice is
//             harmless.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/result.h"
#include "invoke/invoker.h"
#include "net/loop.h"
#include "store/catalog.h"

namespace sundog::data {

struct Job {
  std::string id, tenant, kind;
  std::string state;  // queued, running, succeeded, failed, cancelled
  Json arguments, progress, result, error;
  WallTime created, ended;
  Json to_json() const;  // the Job of protocol/api.md
};

struct JobPage {
  std::vector<Job> items;  // without arguments and result, of which one alone may be 1 MB
  std::string next;        // where the next page goes on; empty at the end
};

class JobContext {
 public:
  virtual ~JobContext() = default;
  virtual const Job& job() const = 0;
  virtual void progress(int64_t done, int64_t total, std::string note) = 0;
  virtual bool cancelled() const = 0;
  // What an earlier try kept, or null; and keeping it.
  virtual Json saved() const = 0;
  virtual Status save(Json state) = 0;
  // Runs an invocation and waits. Retries a throttled one until the job is cancelled. An answer with function_error
  // becomes an Error whose message is the function's.
  virtual Result<invoke::InvokeResult> invoke(invoke::Invocation invocation) = 0;
  // The same for many, at most `parallel` at a time; stops at the first error.
  virtual Result<std::vector<invoke::InvokeResult>> invoke_all(std::vector<invoke::Invocation> invocations,
                                                               int parallel) = 0;
};

using JobHandler = std::function<Result<Json>(JobContext&)>;

class Jobs {
 public:
  virtual ~Jobs() = default;
  virtual void add_kind(std::string kind, JobHandler handler) = 0;  // before start()
  virtual Result<Job> submit(const std::string& tenant, const std::string& kind, Json arguments) = 0;
  virtual Result<Job> get(const std::string& tenant, const std::string& id) const = 0;
  // Returns once state or progress differs from what it was at the call, or after `wait`.
  virtual Result<Job> wait(const std::string& tenant, const std::string& id, Millis wait) const = 0;
  // At most `limit` (1 or more), the newest first, behind the job with the id `after`; reads hardly more than those.
  virtual Result<JobPage> list(const std::string& tenant, const std::string& after, size_t limit) const = 0;
  virtual Status cancel(const std::string& tenant, const std::string& id) = 0;
  virtual Status start() = 0;  // takes up what an earlier server left
  // Running handlers see cancelled(); their jobs stay queued for the next start. ask_to_stop() does not wait for them,
  // so the loop thread may call it while it still serves their invocations; stop() waits.
  virtual void ask_to_stop() = 0;
  virtual void stop() = 0;
};

std::unique_ptr<Jobs> make_jobs(net::Loop& loop, Clock& clock, Log& log, store::Catalog& catalog,
                                invoke::Invoker& invoker, int threads);

}  // namespace sundog::data
