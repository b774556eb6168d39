#include "invoke/function_pool.h"

#include <algorithm>
#include <cmath>

#include "invoke/specs.h"

namespace sundog::invoke {
namespace {

Error throttled(std::string message, Duration retry_after) {
  const auto seconds = std::max<int64_t>(1, std::chrono::ceil<std::chrono::seconds>(retry_after).count());
  return fail(Code::resource_exhausted, std::move(message), "Retry after " + std::to_string(seconds) + " s.");
}

}  // namespace

FunctionPool::FunctionPool(Context& context, Node& node, std::string tenant, functions::VersionPtr version,
                           RunningCount of_tenant, RunningCount of_function)
    : context_(context),
      node_(node),
      tenant_(std::move(tenant)),
      version_(std::move(version)),
      instance_bytes_(static_cast<int64_t>(version_->config.memory_mb) << 20),
      of_tenant_(std::move(of_tenant)),
      of_function_(std::move(of_function)),
      template_bytes_(instance_bytes_) {
  if (is_native(*version_)) parked_ = TemplateState::not_needed;
  reported_failed_ = version_->state == functions::State::failed;
}

FunctionPool::~FunctionPool() {
  if (timer_ != 0) context_.loop.cancel(timer_);
  for (auto& [raw, slot] : slots_) slot->retire();
}

void FunctionPool::add(RunPtr run) {
  last_used_ = run->arrived;
  const bool free_now = !looking_ && waiting_.empty() && !idle_.empty() &&
                        *of_function_ < reserved_.value_or(INT32_MAX) &&
                        *of_tenant_ < context_.policy.account_concurrency;
  if (free_now) return run_on_idle(std::move(run));
  waiting_.push_back(std::move(run));
  look();
}

PoolState FunctionPool::state() const {
  PoolState pool;
  pool.waiting = static_cast<int>(waiting_.size());
  if (!waiting_.empty()) pool.first_deadline = waiting_.front()->deadline;
  pool.idle = static_cast<int>(idle_.size());
  pool.busy = busy_;
  pool.starting = starting_;
  if (!idle_.empty()) pool.longest_idle_since = idle_.front()->since();
  pool.parked = parked_;
  pool.last_used = last_used_;
  pool.instance_bytes = instance_bytes_;
  pool.template_bytes = template_bytes_;
  pool.template_measured = template_measured_;
  pool.reserved_concurrency = reserved_;
  pool.function_running = *of_function_;
  pool.failures = failures_;
  pool.last_failure = last_failure_;
  pool.retired = retired_;
  return pool;
}

NodeState FunctionPool::node_state(const PoolState& pool) const {
  NodeState node;
  node.memory_budget = node_.memory_budget;
  node.memory_reserved = node_.memory_reserved;
  node.starting = node_.starting;
  node.tenant_running = *of_tenant_;
  const int64_t wanted = instance_bytes_ * std::max(0, pool.waiting - pool.idle - pool.starting);
  const bool tight = node.memory_budget - node.memory_reserved < std::max(wanted, template_bytes_);
  if (pool.waiting > pool.idle && tight) node.evictable = node_.evictable(*this);
  return node;
}

void FunctionPool::look() {
  look_again_ = true;
  if (looking_) return;
  looking_ = true;
  while (std::exchange(look_again_, false)) {
    const auto pool = state();
    const auto decision = decide(pool, node_state(pool), context_.clock.mono(), context_.policy);
    act(decision);
  }
  looking_ = false;
  tell_hunger();
}

void FunctionPool::tell_hunger() {
  const bool hungry = !waiting_.empty() || retired_;
  if (hungry != was_hungry_) node_.set_hungry(*this, hungry);
  was_hungry_ = hungry;
}

void FunctionPool::act(const Decision& decision) {
  // Whatever changed the state in a way that may allow more is looked at once more.
  look_again_ = look_again_ || decision.expire_first || decision.run > 0 || decision.end_idle > 0;
  RunPtr expired;
  std::vector<RunPtr> refused;
  if (decision.expire_first) expired = take_first();
  for (int i = 0; i < decision.refuse; ++i) {
    refused.push_back(std::move(waiting_.back()));
    waiting_.pop_back();
  }
  for (int i = 0; i < decision.run; ++i) run_on_idle(take_first());
  for (const auto& victim : decision.evict) node_.evict(victim);
  for (int i = 0; i < decision.start; ++i) start_instance();
  for (int i = 0; i < decision.end_idle; ++i) end_slot(*idle_.front());
  if (decision.end_template) end_template();
  arm(decision.look_again);
  // Answers come last: they may bring the next invocation, and with it another state.
  if (decision.start_template) start_template();
  if (expired) expire(expired);
  for (auto it = refused.rbegin(); it != refused.rend(); ++it) refuse(*it, decision.refusal);
}

// A timer that is due earlier than needed is left alone: it looks, and arms the next. So a warm call costs no timer.
void FunctionPool::arm(std::optional<MonoTime> when) {
  if (!when || (timer_ != 0 && timer_at_ <= *when)) return;
  if (timer_ != 0) context_.loop.cancel(timer_);
  timer_at_ = *when;
  const Duration delay = std::max(*when - context_.clock.mono(), Duration{0});
  timer_ = context_.loop.run_after(delay, [this] {
    timer_ = 0;
    look();
    node_.freed();
  });
}

RunPtr FunctionPool::take_first() {
  auto first = std::move(waiting_.front());
  waiting_.pop_front();
  return first;
}

void FunctionPool::run_on_idle(RunPtr run) {
  Slot& slot = *idle_.back();  // the one used last: the others grow old and end
  idle_.pop_back();
  ++busy_;
  ++*of_tenant_;
  ++*of_function_;
  if (!init_billed_ && slot.fresh()) {
    init_billed_ = true;
    if (run->arrived < template_ready_) run->init = ready_.init;
  }
  slot.execute(std::move(run));
}

void FunctionPool::refuse(const RunPtr& run, Refusal why) {
  const std::string name = "Function " + version_->config.name;
  if (why == Refusal::crashing && last_init_failure_) {
    return end_with_init_failure(context_, run, *last_init_failure_, Duration{0});
  }
  if (why == Refusal::crashing && last_error_) return end_with_error(run, *last_error_);
  switch (why) {
    case Refusal::no_concurrency:
      return end_with_error(run, throttled(name + " has a reserved concurrency of 0.", std::chrono::minutes{1}));
    case Refusal::too_large_for_node:
      return end_with_error(
          run,
          fail(Code::resource_exhausted,
               name + " needs " + std::to_string((instance_bytes_ + (template_measured_ ? template_bytes_ : 0)) >> 20) +
                   " MB for its template and one instance, and this server may use " +
                   std::to_string(node_.memory_budget >> 20) + " MB.",
               "Lower the function's memory size, or raise the server's memory budget."));
    case Refusal::crashing: {
      const auto next = retry_at(state(), context_.policy).value_or(context_.clock.mono());
      return end_with_error(run, throttled(name + " crashed " + std::to_string(failures_) + " times in a row.",
                                           next - context_.clock.mono()));
    }
    default:
      return end_with_error(run, throttled(name + " has " + std::to_string(context_.policy.queue_length) +
                                               " invocations waiting already.",
                                           std::chrono::seconds{1}));
  }
}

void FunctionPool::expire(const RunPtr& run) {
  if (last_error_) return end_with_error(run, *last_error_);
  const auto waited = std::chrono::duration<double>(context_.clock.mono() - run->arrived).count();
  end_with_error(run, throttled("No instance of function " + version_->config.name + " was free within " +
                                    std::to_string(std::lround(waited)) + " s.",
                                std::chrono::seconds{1}));
}

void FunctionPool::retire() {
  retired_ = true;
  look();
}

void FunctionPool::stop(const Error& error) {
  while (!waiting_.empty()) end_with_error(take_first(), error);
  for (auto& [raw, slot] : slots_) slot->kill();
}

void FunctionPool::kill(const std::string& request_id) {
  for (auto& [raw, slot] : slots_) {
    if (slot->run() != nullptr && slot->run()->invocation.request_id == request_id) return slot->kill();
  }
}

void FunctionPool::list_evictable(std::vector<Evictable>& out) {
  if (!waiting_.empty()) return;
  for (const Slot* slot : idle_) out.push_back({Evictable::Kind::instance, this, instance_bytes_, slot->since()});
  if (slots_.empty() && parked_ == TemplateState::ready) {
    out.push_back({Evictable::Kind::parked_template, this, template_bytes_, last_used_});
  }
}

void FunctionPool::evict(Evictable::Kind kind) {
  if (kind == Evictable::Kind::parked_template) {
    end_template();
  } else if (!idle_.empty()) {
    end_slot(*idle_.front());
  }
}

void FunctionPool::describe(Json& instances, Json& templates) const {
  const auto& name = version_->config.name;
  const MonoTime now = context_.clock.mono();
  for (const auto& [raw, slot] : slots_) {
    const auto* instance = slot->instance();
    const char* const state = slot->state() == Slot::State::busy   ? "busy"
                              : slot->state() == Slot::State::idle ? "idle"
                                                                   : "starting";
    instances.push_back(
        {{"tenant", tenant_},
         {"function", name},
         {"version", version_->version},
         {"id", slot->id()},
         {"state", state},
         {"pid", instance != nullptr ? instance->pid() : 0},
         {"memory_mb", static_cast<double>(instance != nullptr ? instance->memory_bytes() : 0) / (1 << 20)},
         {"age_ms", std::chrono::duration_cast<Millis>(now - slot->made()).count()}});
  }
  if (parked_ != TemplateState::starting && parked_ != TemplateState::ready) return;
  const bool ready = parked_ == TemplateState::ready;
  templates.push_back({{"tenant", tenant_},
                       {"function", name},
                       {"version", version_->version},
                       {"state", ready ? "ready" : "starting"},
                       {"memory_mb", static_cast<double>(ready ? template_->memory_bytes() : 0) / (1 << 20)},
                       {"init_ms", std::chrono::duration<double, std::milli>(ready_.init).count()},
                       {"fork_safe", ready_.fork_safe},
                       {"reason", ready_.reason}});
}

}  // namespace sundog::invoke
