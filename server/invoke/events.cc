#include "invoke/events.h"

#include <set>
#include <unordered_map>

#include "base/ids.h"
#include "base/kill_point.h"
#include "invoke/event_body.h"

namespace sundog::invoke {
namespace {

constexpr Millis kLease{60'000};
constexpr Millis kExtendEvery{20'000};
constexpr Millis kPoolBusy{50};                    // before trying again to give the pool work
constexpr Millis kThrottleDelay{1'000};            // before an event that found no room is tried again …
constexpr Millis kOldestThrottled{6 * 3'600'000};  // … for so long, as on Lambda
constexpr size_t kMostAtOnce = 16;                 // messages of one pull
constexpr size_t kBigPayload = 64 << 10;           // encoded on the pool
constexpr size_t kReasonBytes = 1024;
constexpr std::string_view kPrefix = "events/";

struct Delivery {
  store::Message message;
  Event event;  // with the payload, for a later attempt; the message's body is dropped
  int attempt = 1;
  net::Loop::Id extend_timer = 0;
};
using DeliveryPtr = std::shared_ptr<Delivery>;

class QueuedEvents final : public Events, public std::enable_shared_from_this<QueuedEvents> {
 public:
  QueuedEvents(net::Loop& loop, Clock& clock, Pool& pool, Log& log, store::Queue& queue, Invoker& invoker,
               const meter::Budgets& budgets, EventOptions options)
      : loop_(loop),
        clock_(clock),
        pool_(pool),
        log_(log),
        queue_(queue),
        invoker_(invoker),
        budgets_(budgets),
        options_(std::move(options)) {}

  void accept(Invocation invocation, Callback<std::string> on_accepted) override;
  void on_ended(EndedCallback callback) override { ended_.push_back(std::move(callback)); }
  void start() override;
  void stop() override;

 private:
  struct Watched {
    std::string tenant, function;
    store::Queue::Token token;
    bool due = false;
    bool pulling = false;
  };

  void append(std::string queue, std::string body, const std::string& request_id, Callback<std::string> on_accepted);
  void watch(const std::string& queue);
  void pump();
  void pump_later();
  void pull(const std::string& queue, size_t limit);
  void on_pulled(const std::string& queue, size_t limit, Result<std::vector<store::Message>> messages);
  void deliver(store::Message message);
  void keep_lease(const DeliveryPtr& delivery);
  void on_result(const DeliveryPtr& delivery, const Result<InvokeResult>& result);
  void postpone(const DeliveryPtr& delivery);
  void retry_or_bury(const DeliveryPtr& delivery, const Result<InvokeResult>& result, std::string reason, bool final);
  void ended(const Event& event, const Result<InvokeResult>& result, bool dead);
  void settle(std::function<Status()> work, std::string what);

  net::Loop& loop_;
  Clock& clock_;
  Pool& pool_;
  Log& log_;
  store::Queue& queue_;
  Invoker& invoker_;
  const meter::Budgets& budgets_;
  EventOptions options_;
  std::vector<EndedCallback> ended_;
  std::map<std::string, Watched> watched_;
  std::string next_;  // the queue whose turn it is
  int in_flight_ = 0;
  bool running_ = false;
  bool pump_planned_ = false;
};

void QueuedEvents::accept(Invocation invocation, Callback<std::string> on_accepted) {
  if (invocation.request_id.empty()) invocation.request_id = uuid4();
  auto queue = event_queue(invocation.tenant, invocation.function);
  if (running_) watch(queue);
  const std::string request_id = invocation.request_id;
  Event event{std::move(invocation), clock_.wall()};
  event.earlier_attempts = event.invocation.attempt - 1;
  if (event.invocation.payload.size() < kBigPayload) {
    return append(std::move(queue), event_body(event), request_id, std::move(on_accepted));
  }
  const auto shared = std::make_shared<Event>(std::move(event));
  const auto queued = pool_.submit([self = shared_from_this(), shared, queue, request_id, on_accepted] {
    self->append(queue, event_body(*shared), request_id, on_accepted);
  });
  if (!queued.ok()) loop_.post([on_accepted, error = queued.error()] { on_accepted(error); });
}

void QueuedEvents::append(std::string queue, std::string body, const std::string& request_id,
                          Callback<std::string> on_accepted) {
  queue_.append_async(std::move(queue), std::move(body), Millis{0},
                      [&loop = loop_, request_id, on_accepted = std::move(on_accepted)](Result<int64_t> durable) {
                        if (durable.ok()) kill_point("events.accepted");
                        loop.post([request_id, on_accepted, durable = std::move(durable)] {
                          if (durable.ok()) return on_accepted(request_id);
                          on_accepted(durable.error());
                        });
                      });
}

void QueuedEvents::start() {
  running_ = true;
  const auto queued = pool_.submit([self = shared_from_this()] {
    const auto left = self->queue_.queues(kPrefix);
    self->loop_.post([self, left] {
      if (!left.ok()) return self->log_.error("events_not_listed", left.error());
      for (const auto& queue : *left) self->watch(queue);
    });
  });
  if (!queued.ok())
    loop_.run_after(kPoolBusy, [self = shared_from_this()] {
      if (self->running_) self->start();
    });
}

void QueuedEvents::stop() {
  running_ = false;
  // The token's end waits for a call under way, which never waits for us.
  watched_.clear();
}

void QueuedEvents::watch(const std::string& queue) {
  if (!running_ || watched_.contains(queue)) return;
  auto& watched = watched_[queue];
  const auto parts = std::string_view(queue).substr(kPrefix.size());
  watched.tenant = parts.substr(0, parts.find('/'));
  watched.function = parts.substr(parts.find('/') + 1);
  watched.due = true;
  watched.token = queue_.notify(queue, [weak = weak_from_this(), &loop = loop_, queue] {
    loop.post([weak, queue] {
      const auto self = weak.lock();
      if (!self) return;
      const auto found = self->watched_.find(queue);
      if (found == self->watched_.end()) return;
      found->second.due = true;
      self->pump();
    });
  });
  pump();
}

// Gives every queue with something due its turn, while there is room. Where a budget is spent, what is due waits.
void QueuedEvents::pump() {
  bool held = false;
  for (size_t tried = 0; running_ && tried < watched_.size() && in_flight_ < options_.parallel; ++tried) {
    auto it = watched_.upper_bound(next_);
    if (it == watched_.end()) it = watched_.begin();
    next_ = it->first;
    if (!it->second.due || it->second.pulling) continue;
    if (budgets_.is_spent(it->second.tenant, it->second.function)) {
      held = true;
      continue;
    }
    it->second.due = false;
    it->second.pulling = true;
    const size_t limit = std::min(kMostAtOnce, static_cast<size_t>(options_.parallel - in_flight_));
    in_flight_ += static_cast<int>(limit);  // given back for what did not come
    pull(it->first, limit);
  }
  if (held) pump_later();
}

void QueuedEvents::pump_later() {
  if (std::exchange(pump_planned_, true)) return;
  loop_.run_after(kThrottleDelay, [self = shared_from_this()] {
    self->pump_planned_ = false;
    self->pump();
  });
}

void QueuedEvents::pull(const std::string& queue, size_t limit) {
  const auto queued = pool_.submit([self = shared_from_this(), queue, limit] {
    auto messages = std::make_shared<Result<std::vector<store::Message>>>(self->queue_.pull(queue, limit, kLease));
    self->loop_.post([self, queue, limit, messages] { self->on_pulled(queue, limit, std::move(*messages)); });
  });
  if (!queued.ok()) {
    loop_.run_after(kPoolBusy, [self = shared_from_this(), queue, limit] { self->pull(queue, limit); });
  }
}

void QueuedEvents::on_pulled(const std::string& queue, size_t limit, Result<std::vector<store::Message>> messages) {
  const size_t count = messages.ok() ? messages->size() : 0;
  in_flight_ -= static_cast<int>(limit - count);
  if (!messages.ok()) log_.error("events_not_pulled", messages.error(), {{"queue", queue}});
  if (const auto found = watched_.find(queue); found != watched_.end()) {
    found->second.pulling = false;
    if (count == limit) found->second.due = true;
    if (!messages.ok()) {
      loop_.run_after(kThrottleDelay, [self = shared_from_this(), queue] {
        const auto still = self->watched_.find(queue);
        if (still != self->watched_.end()) still->second.due = true;
        self->pump();
      });
    }
  }
  for (size_t i = 0; i < count; ++i) deliver(std::move((*messages)[i]));
  pump();
}

void QueuedEvents::deliver(store::Message message) {
  auto event = parse_event(message.body);
  if (!event.ok()) {
    --in_flight_;
    log_.error("event_not_readable", event.error(), {{"queue", message.queue}, {"id", message.id}});
    return settle([self = shared_from_this(), receipt = message.receipt,
                   reason = event.error().text()] { return self->queue_.term(receipt, reason); },
                  "term");
  }
  const auto delivery = std::make_shared<Delivery>();
  delivery->event = *std::move(event);
  delivery->attempt = delivery->event.earlier_attempts + message.attempt;
  delivery->message = std::move(message);
  delivery->message.body = {};
  auto invocation = delivery->event.invocation;
  invocation.attempt = delivery->attempt;
  keep_lease(delivery);
  kill_point("events.delivered");
  invoker_.invoke(std::move(invocation), [self = shared_from_this(), delivery](const Result<InvokeResult>& result) {
    self->on_result(delivery, result);
  });
}

void QueuedEvents::keep_lease(const DeliveryPtr& delivery) {
  delivery->extend_timer = loop_.run_after(kExtendEvery, [self = shared_from_this(), delivery] {
    self->settle([self, receipt = delivery->message.receipt] { return self->queue_.extend(receipt, kLease); },
                 "extend");
    self->keep_lease(delivery);
  });
}

void QueuedEvents::on_result(const DeliveryPtr& delivery, const Result<InvokeResult>& result) {
  kill_point("events.ran");
  loop_.cancel(delivery->extend_timer);
  --in_flight_;
  const std::string receipt = delivery->message.receipt;
  if (result.ok() && result->function_error.empty()) {
    settle([self = shared_from_this(), receipt] { return self->queue_.ack(receipt); }, "ack");
    ended(delivery->event, result, false);
  } else if (result.ok()) {
    retry_or_bury(delivery, result, result->function_error + ": " + result->payload, false);
  } else {
    const Code code = result.error().code;
    // `cancelled`: what was to run it ended while it started.
    const bool no_room = code == Code::resource_exhausted || code == Code::conflict || code == Code::unavailable ||
                         code == Code::cancelled;
    const bool hopeless = code == Code::not_found || code == Code::invalid_argument || code == Code::too_large ||
                          code == Code::permission_denied || code == Code::unsupported;
    auto& throttled = delivery->event.throttled;
    if (code == Code::budget_exceeded) {
      throttled.reset();
      postpone(delivery);
    } else if (no_room && clock_.wall() - throttled.value_or(clock_.wall()) < kOldestThrottled) {
      throttled = throttled.value_or(clock_.wall());
      postpone(delivery);
    } else {
      retry_or_bury(delivery, result, result.error().text(), hopeless || no_room);
    }
  }
  pump();
}

// Nothing ran, so no attempt is used up: the event goes back as a new message that says how many were. A crash between
// the two writes delivers it twice, never not at all.
void QueuedEvents::postpone(const DeliveryPtr& delivery) {
  settle(
      [self = shared_from_this(), delivery] {
        Event again = delivery->event;
        again.earlier_attempts = delivery->attempt - 1;
        const auto appended = self->queue_.append(delivery->message.queue, event_body(again), kThrottleDelay);
        if (!appended.ok()) return self->queue_.nak(delivery->message.receipt, kThrottleDelay);
        return self->queue_.ack(delivery->message.receipt);
      },
      "postpone");
}

void QueuedEvents::retry_or_bury(const DeliveryPtr& delivery, const Result<InvokeResult>& result, std::string reason,
                                 bool final) {
  const std::string receipt = delivery->message.receipt;
  if (!final && delivery->attempt < options_.max_attempts) {
    Millis wait{1'000};
    if (!options_.backoff.empty()) {
      wait =
          options_.backoff[std::min<size_t>(static_cast<size_t>(delivery->attempt) - 1, options_.backoff.size() - 1)];
    }
    return settle([self = shared_from_this(), receipt, wait] { return self->queue_.nak(receipt, wait); }, "nak");
  }
  if (reason.size() > kReasonBytes) reason.resize(kReasonBytes);
  log_.warn("event_dead", {{"queue", delivery->message.queue},
                           {"request_id", delivery->event.invocation.request_id},
                           {"attempts", delivery->attempt},
                           {"reason", reason}});
  settle([self = shared_from_this(), receipt, reason] { return self->queue_.term(receipt, reason); }, "term");
  ended(delivery->event, result, true);
}

void QueuedEvents::ended(const Event& event, const Result<InvokeResult>& result, bool dead) {
  for (const auto& callback : ended_) callback(event.invocation, result, dead);
}

// What cannot be settled is delivered again when its lease ends.
void QueuedEvents::settle(std::function<Status()> work, std::string what) {
  const auto queued = pool_.submit([self = shared_from_this(), work, what] {
    const auto settled = work();
    kill_point("events.settled");
    if (!settled.ok() && settled.error().code != Code::not_found) {
      self->log_.error("event_not_settled", settled.error(), {{"what", what}});
    }
  });
  if (!queued.ok()) {
    loop_.run_after(kPoolBusy, [self = shared_from_this(), work = std::move(work), what = std::move(what)]() mutable {
      self->settle(std::move(work), std::move(what));
    });
  }
}

// The contract gives out a unique_ptr; work on the pool may outlive it for a moment.
class EventsHandle final : public Events {
 public:
  explicit EventsHandle(std::shared_ptr<QueuedEvents> events) : events_(std::move(events)) {}
  ~EventsHandle() override { events_->stop(); }
  void accept(Invocation invocation, Callback<std::string> on_accepted) override {
    events_->accept(std::move(invocation), std::move(on_accepted));
  }
  void on_ended(EndedCallback callback) override { events_->on_ended(std::move(callback)); }
  void start() override { events_->start(); }
  void stop() override { events_->stop(); }

 private:
  std::shared_ptr<QueuedEvents> events_;
};

}  // namespace

std::string event_queue(const std::string& tenant, const std::string& function) {
  return std::string(kPrefix) + tenant + "/" + function;
}

std::unique_ptr<Events> make_events(net::Loop& loop, Clock& clock, Pool& pool, Log& log, store::Queue& queue,
                                    Invoker& invoker, const meter::Budgets& budgets, EventOptions options) {
  return std::make_unique<EventsHandle>(
      std::make_shared<QueuedEvents>(loop, clock, pool, log, queue, invoker, budgets, std::move(options)));
}

}  // namespace sundog::invoke
