// Run: one invocation on its way through a pool, and how it ends: log lines, usage record, answer.
//
// Ownership   shared by the pool that it waits in, the instance that executes it and the host calls it has made.
// Threads     loop thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "invoke/invoker.h"
#include "invoke/scaling.h"

namespace sundog::invoke {

// What every part of the invoker works with; all of it outlives the invoker.
struct Context {
  net::Loop& loop;
  Clock& clock;
  Pool& pool;
  Log& log;
  sandbox::Sandbox& sandbox;
  functions::Functions& functions;
  functions::Environments& environments;
  store::Blobs& blobs;
  meter::Ledger& ledger;
  meter::Budgets& budgets;
  FunctionLogs& logs;
  InvokerOptions options;
  ScalingPolicy policy;
};

struct Run {
  Invocation invocation;  // its payload moves to the instance when it starts, and back if nobody has read it
  InvokeCallback on_done;
  PieceSink on_piece;  // empty unless the caller takes a stream: then pieces are gathered
  functions::VersionPtr version;
  MonoTime arrived{}, deadline{};   // deadline: for getting an instance
  std::optional<MonoTime> started;  // on an instance
  Duration restore{}, init{};       // of the instance and template that this run waited for
  std::string instance;             // its id
  meter::Budgets::Reservation reserved;
  int64_t bytes_in = 0, bytes_streamed = 0;
  std::string gathered;
  bool too_large = false;  // what it streamed
  bool logged_start = false;
  bool timed_out = false;
  int given_back = 0;  // times, by an instance that ended without having read it
  bool ended = false;
  std::string partial_line, tail;
  std::map<int, UniqueFd> files;  // of file.create
  int next_file = 1;
};
using RunPtr = std::shared_ptr<Run>;

// What an invocation of it can cost at most.
meter::Quantity most_of(const functions::Config& config);

void log_start(Context& context, Run& run);
// What the handler printed; complete lines go to the log at once.
void log_output(Context& context, Run& run, std::string_view text);

// Each ends the run: the ledger's record first, then the answer.
void end_with_outcome(Context& context, const RunPtr& run, sandbox::Outcome outcome);
void end_with_init_failure(Context& context, const RunPtr& run, const sandbox::InitFailure& failure, Duration init);
// Our own refusal: nothing ran, nothing is booked.
void end_with_error(const RunPtr& run, Error error);

}  // namespace sundog::invoke
