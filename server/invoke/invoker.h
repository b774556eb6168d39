// Invoker: runs invocations. Scales every function 0 → N → 0, keeps deadlines, meters, logs.
//
// Ownership   one per server, created in app/; owns all templates and instances.
// Threads     a state machine on the loop thread: invoke(), drain() and the host-call handlers run there.
//             fleet() may be called from any thread. Blocking work (queue, blobs) goes to the pool it was given.
// Failure     an InvokeResult's Error is ours: resource_exhausted (429: no instance in time, hint says when to retry),
//             budget_exceeded (402), not_found, conflict (function pending or failed), unavailable (draining). What the
//             user's code did wrong is a result with `function_error`.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "base/clock.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/result.h"
#include "functions/functions.h"
#include "invoke/function_logs.h"
#include "meter/budgets.h"
#include "meter/usage.h"
#include "net/loop.h"
#include "sandbox/sandbox.h"
#include "store/blobs.h"
#include "store/queue.h"

namespace sundog::invoke {

struct Invocation {
  std::string tenant, function, qualifier;
  std::string request_id;  // made if empty
  std::string payload;     // raw event bytes
  std::string client_context;
  Json meta;                                // handed to Sundog's own handlers, see sandbox::InvokeRequest
  std::set<std::string> granted_blobs;      // what "blob.open" may open
  std::map<std::string, std::string> tags;  // for host-call handlers: {"run": "run-…"}
  std::optional<functions::Kind> kind;      // books under another kind than the function's own
  int attempt = 1;
  bool want_log_tail = false;
};

struct InvokeResult {
  std::string request_id;
  std::string payload;
  std::string function_error;  // "" or "Unhandled"
  std::string executed_version;
  std::string log_tail;  // last 4 KB, if asked for
  // What it was given and what it wrote: no other blob that its answer names is its to name.
  std::set<std::string> granted_blobs;
  meter::UsageRecord usage;
};
using InvokeCallback = std::function<void(Result<InvokeResult>)>;

// A piece of a streamed answer, on the loop thread, while the handler still runs.
struct StreamPiece {
  std::string_view bytes;
  const std::string& executed_version;
  // Only for a sink that returns false: to be called once, on the loop thread in a later turn, when it takes more.
  std::function<void()> resume;
};
// False: no more for now. The instance is held until `resume`, and waits in its own sending.
using PieceSink = std::function<bool(const StreamPiece& piece)>;

// What running code may ask of its host. Registered by name in app/; handlers are called on the loop thread and answer
// on it (they hand blocking work to a pool themselves).
using HostCallHandler =
    std::function<void(const Invocation& who, sandbox::HostCall call, Callback<sandbox::HostReply> reply)>;

struct InvokerOptions {
  int64_t memory_budget_bytes = 0;   // of all instances and templates, environments' too; 0: 70 % of the machine's
  int cores = 0;                     // 0: those of the machine
  int account_concurrency = 1000;    // of all functions of one tenant
  Millis queue_limit{10'000};        // longest wait for an instance before 429
  size_t queue_length = 1000;        // waiting invocations of one function before 429 at once
  Millis idle_instance{250};         // an idle instance is parked after it, or ends
  Millis idle_template{14'400'000};  // the longest that a template without calls, or a parked instance, is kept
  int parked_most = 16;              // parked instances of one version
  bool prebuild = true;              // templates of deployed versions, before anybody calls
  std::string region = "local";
  std::map<std::string, std::string> variables;  // every instance's, unless its function sets them
  Path runtime_api;                              // the program sundog-runtime-api, for custom runtimes
};

class Invoker {
 public:
  virtual ~Invoker() = default;
  virtual void invoke(Invocation invocation, InvokeCallback on_done) = 0;
  // A streamed answer (InvokeWithResponseStream): pieces first, at most 200 MB, then on_done; its payload is what did
  // not stream: the answer of a handler that gives one at once, or the error that ended it.
  virtual void invoke_streaming(Invocation invocation, PieceSink on_piece, InvokeCallback on_done) = 0;
  virtual void kill(const std::string& tenant, const std::string& request_id) = 0;
  virtual void add_host_call(std::string name, HostCallHandler handler) = 0;
  // New invocations get `unavailable`; calls `on_drained` when the last in-flight one has ended or `grace` is over
  // (then the rest is killed).
  virtual void drain(Millis grace, std::function<void()> on_drained) = 0;
  // {"instances":[{"function","version","id","state":"busy|idle|parked|starting","pid","memory_mb","age_ms"}],
  //  "templates":[{"function","version","state","memory_mb","init_ms","fork_safe","reason"}],
  //  "provisioned":[{"function","version","requested","available","reason"}],
  //  "queued":n,"to_build":n (templates of deployed versions that are to be built or on their way before anybody
  //  calls), "memory_bytes":n,"parked_bytes":n,"template_bytes":n,"environment_bytes":n (parts of memory_bytes),
  //  "budget_bytes":n,"environments":Sandbox::environment_templates()}; what is parked and the templates are the
  //  operator's cost and nobody's bill
  // "held": memory times time since the server's start, in GB-seconds: {"busy","idle","parked","templates",
  // "environments"}. Only what is busy is billed to a tenant; idle (and starting) and the rest are the operator's cost.
  virtual Json fleet() const = 0;
};

std::unique_ptr<Invoker> make_invoker(net::Loop& loop, Clock& clock, Pool& pool, Log& log, sandbox::Sandbox& sandbox,
                                      functions::Functions& functions, functions::Environments& environments,
                                      store::Blobs& blobs, meter::Ledger& ledger, meter::Budgets& budgets,
                                      FunctionLogs& logs, InvokerOptions options);

}  // namespace sundog::invoke
