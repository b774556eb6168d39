#include "invoke/function_pool.h"

#include <algorithm>
#include <cmath>

#include "base/kill_point.h"
#include "invoke/specs.h"

namespace sundog::invoke {
namespace {

Error throttled(std::string message, Duration retry_after) {
  const auto seconds = std::max<int64_t>(1, std::chrono::ceil<std::chrono::seconds>(retry_after).count());
  return fail(Code::resource_exhausted, std::move(message), "Retry after " + std::to_string(seconds) + " s.");
}

// What a template takes beside its init: its holder, its fork, its confinement (docs/design/sandbox.md).
constexpr Millis kBuildTime{5};

// Sundog's own data functions; a custom runtime's start repeats exec and init.
bool starts_in_no_time(const functions::Version& version) {
  return is_native(version) && !is_custom(version.config);
}

}  // namespace

FunctionPool::FunctionPool(Context& context, Node& node, std::string tenant, functions::VersionPtr version,
                           std::shared_ptr<TenantUse> of_tenant, std::shared_ptr<FunctionUse> of_function)
    : context_(context),
      node_(node),
      tenant_(std::move(tenant)),
      version_(std::move(version)),
      instance_bytes_(static_cast<int64_t>(version_->config.memory_mb) << 20),
      of_tenant_(std::move(of_tenant)),
      of_function_(std::move(of_function)),
      template_bytes_(instance_bytes_) {
  if (is_native(*version_)) template_state_ = TemplateState::not_needed;
  reported_failed_ = version_->state == functions::State::failed;
  start_reason_ = version_->start_reason;
}

FunctionPool::~FunctionPool() {
  if (timer_ != 0) context_.loop.cancel(timer_);
  for (auto& [raw, slot] : slots_) slot->retire();
}

void FunctionPool::add(RunPtr run) {
  if (busy_ + starting_ == 0 && waiting_.empty() && last_used_ > MonoTime{}) {
    of_function_->rhythm.rested(run->arrived - last_used_);
  }
  last_used_ = run->arrived;
  const bool free_now = !looking_ && waiting_.empty() && !idle_.empty() &&
                        of_function_->running < reserved_.value_or(INT32_MAX) &&
                        of_tenant_->running < context_.policy.account_concurrency;
  if (free_now && idle_.back()->instance()->reachable()) return run_on_idle(std::move(run));
  waiting_.push_back(std::move(run));
  look();
}

void FunctionPool::set_provisioned(int count) {
  const bool had = std::exchange(provisioned_, count) > 0;
  if (had || count > 0) look();
}

void FunctionPool::deploy() {
  deployed_ = context_.clock.mono();
  look();
}

PoolState FunctionPool::counts() const {
  PoolState pool;
  pool.waiting = static_cast<int>(waiting_.size());
  pool.idle = static_cast<int>(idle_.size());
  pool.busy = busy_;
  pool.starting = starting_;
  pool.parked = static_cast<int>(parked_.size());
  pool.instance_bytes = instance_bytes_;
  pool.provisioned = provisioned_;
  pool.retired = retired_;
  return pool;
}

PoolState FunctionPool::state() const {
  const MonoTime now = context_.clock.mono();
  PoolState pool = counts();
  if (!waiting_.empty()) pool.first_deadline = waiting_.front()->deadline;
  int64_t own_bytes = own_bytes_;
  if (!idle_.empty()) {
    pool.longest_idle_since = idle_.front()->since();
    if (waiting_.empty() && now >= pool.longest_idle_since + context_.policy.idle_instance) {
      own_bytes = pool.longest_idle_bytes = idle_.front()->instance()->memory_bytes();
    }
  }
  if (!parked_.empty()) {
    pool.longest_parked_since = parked_.front().slot->since();
    pool.last_parked_bytes = parked_.back().bytes;
  }
  pool.template_state = template_state_;
  pool.last_used = template_used();
  // Who has spent its budget gets nothing done, paid for or not.
  if (to_build() && !context_.budgets.is_spent(tenant_, version_->config.name)) pool.deployed = deployed_;
  pool.template_bytes = template_bytes_;
  pool.template_measured = template_measured_;
  const bool forks = template_state_ != TemplateState::not_needed && last_used_ > MonoTime{};
  const auto due = forks ? of_function_->rhythm.next_call() : std::nullopt;
  if (due && !context_.budgets.is_spent(tenant_, version_->config.name)) {
    pool.next_call = Window{last_used_ + due->from, last_used_ + due->until};
  }
  const bool may_build = !waiting_.empty() || to_build() || lacks_provisioned() || pool.next_call;
  if (template_state_ == TemplateState::none && may_build) {
    pool.environment_bytes = context_.sandbox.shared_to_come(environment());
  }
  if (own_bytes > 0) pool.keep_parked = keep(own_bytes, start_time_);
  if (template_state_ == TemplateState::ready) pool.keep_template = keep(template_bytes_, ready_.init + kBuildTime);
  pool.late_starts = late_starts();
  pool.mean_run = mean_run_;
  pool.reserved_concurrency = reserved_;
  pool.function_running = of_function_->running;
  pool.failures = failures_;
  pool.last_failure = last_failure_;
  return pool;
}

Duration FunctionPool::keep(int64_t bytes, Duration spared) const {
  if (starts_in_no_time(*version_)) return Duration{0};
  const double worth = context_.policy.worth * std::chrono::duration<double>(spared).count();
  return of_function_->rhythm.keep(bytes, worth, context_.policy.keep_most);
}

double FunctionPool::late_starts() const {
  constexpr double kHalfLife = 600;
  if (late_starts_ == 0) return 0;
  return late_starts_ *
         std::exp2(-std::chrono::duration<double>(context_.clock.mono() - late_starts_at_).count() / kHalfLife);
}

NodeState FunctionPool::node_state(const PoolState& pool) const {
  NodeState node;
  node.memory_budget = node_.memory_budget;
  node.memory_reserved = node_.memory_reserved;
  node.memory_parked = node_.memory_parked;
  node.starting = node_.starting;
  node.building_ahead = node_.building_ahead;
  node.tenant_running = of_tenant_->running;
  if (pool.deployed) node.callers_wait = node_.callers_wait();
  const bool may_fork_ahead = pool.late_starts >= context_.policy.late_starts;
  if (pool.waiting > 0 || may_fork_ahead || pool.next_call) node.owed_bytes = node_.owed(*this);
  const int wanted = std::max(pool.waiting - pool.idle, pool.provisioned - pool.busy - pool.idle) - pool.starting;
  const int64_t least = std::max(instance_bytes_ * std::max(0, wanted), template_bytes_ + pool.environment_bytes);
  const bool tight = wanted > 0 && node.memory_budget - node.memory_reserved < least;
  const bool many_parked = pool.longest_idle_bytes > 0 && node.memory_parked + pool.longest_idle_bytes >
                                                              parked_budget(node.memory_budget, context_.policy);
  if (tight || many_parked) {
    node.tenant_bytes = of_tenant_->held_bytes;
    node.fair_share = node_.fair_share();
    node.evictable = node_.evictable(*this);
  }
  return node;
}

void FunctionPool::look() {
  look_again_ = true;
  if (looking_) return;
  looking_ = true;
  while (std::exchange(look_again_, false)) {
    lose_unreachable(waiting_.size());
    const auto pool = state();
    const auto decision = decide(pool, node_state(pool), context_.clock.mono(), context_.policy);
    short_of_node_ = decision.short_of_node;
    act(decision);
  }
  looking_ = false;
  tell_hunger();
}

void FunctionPool::tell_hunger() {
  const bool hungry = !waiting_.empty() || retired_ || lacks_provisioned();
  if (hungry != was_hungry_) node_.set_hungry(*this, hungry);
  was_hungry_ = hungry;
}

void FunctionPool::act(const Decision& decision) {
  // Whatever changed the state in a way that may allow more is looked at once more.
  look_again_ = look_again_ || decision.expire_first || decision.thaw || decision.park ||
                decision.run + decision.end_idle + decision.end_parked > 0;
  RunPtr expired;
  std::vector<RunPtr> refused;
  if (decision.expire_first) expired = take_first();
  for (int i = 0; i < decision.refuse; ++i) {
    refused.push_back(std::move(waiting_.back()));
    waiting_.pop_back();
  }
  for (int i = 0; i < decision.run; ++i) run_on_idle(take_first());
  for (const auto& victim : decision.evict) node_.evict(victim);
  if (decision.thaw) thaw(take_first());
  if (decision.start > 0 && busy_ > 0 && !waiting_.empty()) {
    late_starts_ = late_starts() + 1;
    late_starts_at_ = context_.clock.mono();
  }
  for (int i = 0; i < decision.start; ++i) start_instance();
  if (decision.park) park(*idle_.front());
  for (int i = 0; i < decision.end_idle; ++i) end_slot(*idle_.front());
  for (int i = 0; i < decision.end_parked; ++i) end_slot(*parked_.front().slot);
  if (decision.end_template) end_template();
  arm(decision.look_again);
  // Answers come last: they may bring the next invocation, and with it another state.
  if (decision.start_template) start_template();
  if (decision.build_ahead) build_ahead();
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
  run_on(slot, std::move(run));
}

void FunctionPool::thaw(RunPtr run) {
  Slot& slot = *parked_.back().slot;
  leave_parked(std::prev(parked_.end()));
  kill_point("invoke.thawed");
  hold(instance_bytes_);
  run_on(slot, std::move(run));
}

void FunctionPool::run_on(Slot& slot, RunPtr run) {
  ++busy_;
  node_.memory_busy += instance_bytes_;
  ++of_tenant_->running;
  ++of_function_->running;
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
    case Refusal::wait_too_long: {
      const auto pool = state();
      const auto wait = expected_wait(pool, node_state(pool), context_.policy, pool.waiting + 1);
      return end_with_error(run, throttled(name + " is called faster than this server can run it: " +
                                               std::to_string(pool.waiting) + " invocations wait already.",
                                           wait));
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
  node_.freed();  // it goes if nothing is left of it
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
  const auto pool = counts();
  int idle = surplus_idle(pool);
  // What is idle beside invocations that wait is left for others, as far as it is due to them.
  if (idle > 0 && !waiting_.empty()) idle = std::min(idle, instances_owed(pool, node_.owed(*this)));
  const int64_t freed = instance_bytes_ - (idle > 0 && can_park_idle(pool) ? room_for_parked(pool) : 0);
  for (int i = 0; i < idle; ++i) {
    out.push_back({Evictable::Kind::idle, this, freed, idle_[static_cast<size_t>(i)]->since()});
  }
  if (!waiting_.empty()) return;
  for (const auto& one : parked_) out.push_back({Evictable::Kind::parked, this, one.bytes, one.slot->since()});
  const bool is_needed = provisioned_ > 0 && !retired_;
  if (slots_.empty() && template_state_ == TemplateState::ready && !is_needed) {
    out.push_back({Evictable::Kind::unused_template, this, template_bytes_, template_used()});
  }
}

bool FunctionPool::can_park_idle(const PoolState& pool) const {
  return !starts_in_no_time(*version_) && pool.parked < context_.policy.parked_most &&
         may_park(pool, 1, context_.policy) && context_.policy.keep_most > context_.policy.idle_instance;
}

// What an idle instance is expected to hold at most once it is parked.
int64_t FunctionPool::room_for_parked(const PoolState& pool) const {
  return own_bytes_ > 0 ? own_bytes_ : pool.instance_bytes / 100 * context_.policy.largest_parked_percent;
}

void FunctionPool::evict(const Evictable& victim) {
  if (victim.kind == Evictable::Kind::unused_template) return end_template();
  if (victim.kind == Evictable::Kind::parked && !parked_.empty()) return end_slot(*parked_.front().slot);
  if (victim.kind != Evictable::Kind::idle || idle_.empty()) return;
  Slot& slot = *idle_.front();
  const int64_t own = slot.instance()->memory_bytes();
  const auto pool = counts();
  const bool fits = own <= instance_bytes_ - victim.bytes &&
                    node_.memory_parked + own <= parked_budget(node_.memory_budget, context_.policy);
  if (!fits || !can_park_idle(pool) || !may_park(pool, own, context_.policy)) return end_slot(slot);
  park(slot);
  arm(slot.since() + keep(own, start_time_));
}

Json FunctionPool::describe_provisioned() const {
  if (provisioned_ == 0) return nullptr;
  return {{"tenant", tenant_},
          {"function", version_->config.name},
          {"version", version_->version},
          {"requested", provisioned_},
          {"available", std::min<size_t>(static_cast<size_t>(provisioned_), idle_.size() + static_cast<size_t>(busy_))},
          {"reason", why_not_provisioned()}};
}

// Empty while it only takes its time.
std::string FunctionPool::why_not_provisioned() const {
  if (not_runnable_) {
    const auto environment = context_.environments.get(version_->config.environment_id);
    const bool building = environment.ok() && environment->state == functions::Environment::State::building;
    return building ? "" : not_runnable_->message;
  }
  if (failures_ > 0 && last_init_failure_) return last_init_failure_->type + ": " + last_init_failure_->message;
  if (failures_ > 0 && last_error_) return last_error_->message;
  const bool others_start = node_.starting >= context_.policy.starts_at_once;
  if (!short_of_node_ || !lacks_provisioned() || others_start) return "";
  return "There is no room: an instance takes " + std::to_string(instance_bytes_ >> 20) + " MB, and " +
         std::to_string(node_.memory_reserved >> 20) + " MB of the server's " +
         std::to_string(node_.memory_budget >> 20) + " MB are taken.";
}

void FunctionPool::describe(Json& instances, Json& templates) const {
  const auto& name = version_->config.name;
  const MonoTime now = context_.clock.mono();
  for (const auto& [raw, slot] : slots_) {
    const auto* instance = slot->instance();
    const char* const state = slot->state() == Slot::State::busy     ? "busy"
                              : slot->state() == Slot::State::idle   ? "idle"
                              : slot->state() == Slot::State::parked ? "parked"
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
  if (template_state_ != TemplateState::starting && template_state_ != TemplateState::ready) return;
  const bool ready = template_state_ == TemplateState::ready;
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
