// Events: asynchronous invocations. Accepted durably, delivered at least once, retried with back-off, then dead
// letters.
//
// Ownership   one per server, created in app/ over a Queue and the Invoker.
// Threads     accept() on the loop thread (its callback too); start()/stop() on the loop thread.
// Budgets     what waits for a function whose budget is spent stays in its queue until there is more to spend.
// Durability  accept()'s callback with ok  =>  the event is delivered at least once, also after kill -9.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "invoke/invoker.h"
#include "store/queue.h"

namespace sundog::invoke {

struct EventOptions {
  int max_attempts = 3;                                       // as on Lambda: one and two retries
  std::vector<Millis> backoff{Millis{1'000}, Millis{4'000}};  // Lambda waits 1 and 2 minutes; here it is seconds
  int parallel = 64;                                          // events in flight at once
};

class Events {
 public:
  virtual ~Events() = default;
  // The queue of a function is "events/<tenant>/<function>"; the message is the Invocation as JSON
  // (docs/formats/event.md).
  virtual void accept(Invocation invocation, Callback<std::string> on_accepted) = 0;  // gives the request id
  // Called on the loop thread when an event has ended for good: its last result (an InvokeResult with function_error,
  // or an Error) and whether it went to the dead letters. Jobs and runs listen by tag.
  using EndedCallback = std::function<void(const Invocation&, const Result<InvokeResult>&, bool dead)>;
  virtual void on_ended(EndedCallback callback) = 0;
  virtual void start() = 0;  // begins delivering; what an earlier server left is delivered again
  virtual void stop() = 0;
};

std::string event_queue(const std::string& tenant, const std::string& function);

std::unique_ptr<Events> make_events(net::Loop& loop, Clock& clock, Pool& pool, Log& log, store::Queue& queue,
                                    Invoker& invoker, const meter::Budgets& budgets, EventOptions options);

}  // namespace sundog::invoke
