#include "invoke/scaling.h"

#include <algorithm>
#include <limits>

namespace sundog::invoke {
namespace {

void sooner(std::optional<MonoTime>& when, MonoTime other) {
  if (!when || other < *when) when = other;
}

void refuse_all(Decision& decision, int waiting, Refusal why) {
  decision.refuse = waiting;
  decision.refusal = why;
}

// Room on the node, made by ending what other functions keep idle: instances first, then templates, each least recently
// used first. Ends nothing if even all of it would not be enough.
bool make_room(int64_t bytes, int64_t& free_bytes, std::vector<Evictable>& candidates, std::vector<Evictable>& evict) {
  if (free_bytes >= bytes) return true;
  int64_t could_be = free_bytes;
  size_t count = 0;
  while (could_be < bytes && count < candidates.size()) could_be += candidates[count++].bytes;
  if (could_be < bytes) return false;
  evict.insert(evict.end(), candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(count));
  candidates.erase(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(count));
  free_bytes = could_be;
  return true;
}

std::vector<Evictable> in_order(const std::vector<Evictable>& all) {
  auto sorted = all;
  std::sort(sorted.begin(), sorted.end(), [](const Evictable& a, const Evictable& b) {
    if (a.kind != b.kind) return a.kind == Evictable::Kind::instance;
    return a.since < b.since;
  });
  return sorted;
}

// What one instance takes at least; a template that was never measured may turn out to be small.
int64_t least_bytes(const PoolState& pool) {
  return pool.instance_bytes + (pool.template_measured ? pool.template_bytes : 0);
}

// Starts what the invocations that are still without an instance need.
void start_for(const PoolState& pool, const NodeState& node, const ScalingPolicy& policy, int without,
               Decision& decision) {
  int64_t free_bytes = node.memory_budget - node.memory_reserved;
  if (pool.parked == TemplateState::starting) return;
  auto candidates = in_order(node.evictable);
  if (pool.parked == TemplateState::none) {
    decision.start_template = make_room(pool.template_bytes, free_bytes, candidates, decision.evict);
    return;
  }
  int wanted = std::min(without - pool.starting, policy.starts_at_once - node.starting);
  wanted = std::min(wanted, free_concurrency(pool, node, policy) - decision.run);
  while (decision.start < wanted && make_room(pool.instance_bytes, free_bytes, candidates, decision.evict)) {
    free_bytes -= pool.instance_bytes;
    ++decision.start;
  }
}

void serve_waiting(const PoolState& pool, const NodeState& node, MonoTime now, const ScalingPolicy& policy,
                   Decision& decision) {
  if (now >= pool.first_deadline) {
    decision.expire_first = true;
    return;
  }
  sooner(decision.look_again, pool.first_deadline);
  const int limit = pool.reserved_concurrency.value_or(std::numeric_limits<int>::max());
  if (std::min(limit, policy.account_concurrency) <= 0) {
    refuse_all(decision, pool.waiting, Refusal::no_concurrency);
    return;
  }
  if (least_bytes(pool) > node.memory_budget) {
    refuse_all(decision, pool.waiting, Refusal::too_large_for_node);
    return;
  }
  decision.run = std::max(0, std::min({pool.waiting, pool.idle, free_concurrency(pool, node, policy)}));
  const int without = pool.waiting - decision.run;
  const auto retry = retry_at(pool, policy);
  if (without > 0 && retry && now < *retry) {
    const bool nothing_alive = pool.idle + pool.busy + pool.starting == 0;
    if (nothing_alive && (*retry >= pool.first_deadline || *retry - now > policy.backoff_patience)) {
      refuse_all(decision, without, Refusal::crashing);
      return;
    }
    sooner(decision.look_again, *retry);
  } else if (without > 0) {
    start_for(pool, node, policy, without, decision);
  }
  // Those for whom an instance is on its way do not count.
  const int queued = without - decision.start - pool.starting;
  if (queued > static_cast<int>(policy.queue_length)) {
    decision.refuse = queued - static_cast<int>(policy.queue_length);
    decision.refusal = Refusal::queue_full;
  }
}

void end_unused(const PoolState& pool, MonoTime now, const ScalingPolicy& policy, Decision& decision) {
  const int left_idle = pool.idle - decision.run;
  if (left_idle > 0 && pool.waiting == 0) {
    const MonoTime due = pool.longest_idle_since + (pool.retired ? Millis{0} : policy.idle_instance);
    if (now >= due) {
      decision.end_idle = pool.retired ? left_idle : 1;
    } else {
      sooner(decision.look_again, due);
    }
  }
  const bool unused = pool.waiting + pool.busy + pool.idle + pool.starting == 0;
  if (unused && pool.parked == TemplateState::ready) {
    const MonoTime due = pool.last_used + (pool.retired ? Millis{0} : policy.idle_template);
    if (now >= due) {
      decision.end_template = true;
    } else {
      sooner(decision.look_again, due);
    }
  }
}

}  // namespace

int free_concurrency(const PoolState& pool, const NodeState& node, const ScalingPolicy& policy) {
  const int of_function = pool.reserved_concurrency.value_or(std::numeric_limits<int>::max()) - pool.function_running;
  return std::min(of_function, policy.account_concurrency - node.tenant_running);
}

std::optional<MonoTime> retry_at(const PoolState& pool, const ScalingPolicy& policy) {
  const int counted = pool.failures - policy.free_failures;
  if (counted <= 0) return std::nullopt;
  Duration wait = policy.first_backoff;
  for (int i = 1; i < counted && wait < policy.longest_backoff; ++i) wait *= 2;
  return pool.last_failure + std::min<Duration>(wait, policy.longest_backoff);
}

Decision decide(const PoolState& pool, const NodeState& node, MonoTime now, const ScalingPolicy& policy) {
  Decision decision;
  if (pool.waiting > 0) serve_waiting(pool, node, now, policy, decision);
  if (!decision.expire_first) end_unused(pool, now, policy, decision);
  return decision;
}

}  // namespace sundog::invoke
