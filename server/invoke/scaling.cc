#include "invoke/scaling.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sundog::invoke {
namespace {

constexpr int kNoLimit = std::numeric_limits<int>::max();

void sooner(std::optional<MonoTime>& when, MonoTime other) {
  if (!when || other < *when) when = other;
}

void refuse_all(Decision& decision, int waiting, Refusal why) {
  decision.refuse = waiting;
  decision.refusal = why;
}

bool gives_way_before(const Evictable& one, const Evictable& other) {
  return one.kind != other.kind ? one.kind < other.kind : one.since < other.since;
}

// Room on the node, made by having others give way: idle instances first (they are parked where they can be), then
// parked ones, then functions' templates, then environments', each least recently used first. A tenant above its share
// takes nothing from poorer ones that they used lately.
class Room {
 public:
  Room(const NodeState& node, MonoTime now, const ScalingPolicy& policy, Decision& decision)
      : free_(node.memory_budget - node.memory_reserved),
        share_left_(node.fair_share - node.tenant_bytes),
        protected_after_(now - policy.protection),
        protection_(policy.protection),
        decision_(decision),
        candidates_(node.evictable) {
    std::sort(candidates_.begin(), candidates_.end(), gives_way_before);
  }

  // Nobody gives way if even all of them would not be enough.
  bool take(int64_t bytes) {
    if (free_ >= bytes) {
      free_ -= bytes;
      share_left_ -= bytes;
      return true;
    }
    const bool above_share = bytes > share_left_;
    int64_t could_be = free_;
    std::vector<Evictable> giving, left;
    for (const auto& one : candidates_) {
      const bool is_protected = above_share && one.of_poorer && one.since > protected_after_;
      if (is_protected && could_be < bytes) sooner(decision_.look_again, one.since + protection_);
      if (could_be < bytes && !is_protected) {
        could_be += one.bytes;
        giving.push_back(one);
      } else {
        left.push_back(one);
      }
    }
    if (could_be < bytes) {
      decision_.short_of_node = true;
      return false;
    }
    decision_.evict.insert(decision_.evict.end(), giving.begin(), giving.end());
    candidates_ = std::move(left);
    free_ = could_be - bytes;
    share_left_ -= bytes;
    return true;
  }
  bool has(int64_t bytes) const { return free_ >= bytes; }

 private:
  int64_t free_;
  int64_t share_left_;
  MonoTime protected_after_;
  Duration protection_;
  Decision& decision_;
  std::vector<Evictable> candidates_;
};

// What one instance takes at least; a template that was never measured may turn out to be small.
int64_t least_bytes(const PoolState& pool) {
  return pool.instance_bytes + (pool.template_measured ? pool.template_bytes : 0);
}

bool template_missing(const PoolState& pool) {
  return pool.template_state == TemplateState::none;
}

// Starts `wanted` instances, or the template that they need.
void start(const PoolState& pool, const NodeState& node, const ScalingPolicy& policy, int wanted, Room& room,
           Decision& decision) {
  if (wanted <= 0 || pool.template_state == TemplateState::starting) return;
  if (template_missing(pool)) {
    decision.start_template = room.take(pool.template_bytes + pool.environment_bytes);
    return;
  }
  const int free = free_concurrency(pool, node, policy) - decision.run - decision.start;
  const int at_once = policy.starts_at_once - node.starting - decision.start;
  if (at_once < std::min(wanted, free)) decision.short_of_node = true;
  wanted = std::min({wanted, free, at_once});
  for (int i = 0; i < wanted && room.take(pool.instance_bytes); ++i) ++decision.start;
}

// More than the queue may hold, or more than can be served in time, is turned away at once, the newest first.
void bound_queue(const PoolState& pool, const NodeState& node, const ScalingPolicy& policy, int queued,
                 Decision& decision) {
  const int most = static_cast<int>(policy.queue_length);
  if (queued > most) {
    decision.refuse = queued - most;
    decision.refusal = Refusal::queue_full;
  }
  int in_time = queued - decision.refuse;
  const Duration wait = expected_wait(pool, node, policy, in_time);
  if (wait <= policy.queue_patience) return;
  in_time = static_cast<int>(
      in_time * (static_cast<double>(Duration(policy.queue_patience).count()) / static_cast<double>(wait.count())));
  decision.refuse = queued - in_time;
  decision.refusal = Refusal::wait_too_long;
}

// Whether nobody who waits can ever be served.
bool is_hopeless(const PoolState& pool, const NodeState& node, const ScalingPolicy& policy, Decision& decision) {
  if (std::min(pool.reserved_concurrency.value_or(kNoLimit), policy.account_concurrency) <= 0) {
    refuse_all(decision, pool.waiting, Refusal::no_concurrency);
    return true;
  }
  if (least_bytes(pool) > node.memory_budget) {
    refuse_all(decision, pool.waiting, Refusal::too_large_for_node);
    return true;
  }
  return false;
}

void serve_waiting(const PoolState& pool, const NodeState& node, MonoTime now, const ScalingPolicy& policy, Room& room,
                   Decision& decision) {
  if (now >= pool.first_deadline) {
    decision.expire_first = true;
    return;
  }
  sooner(decision.look_again, pool.first_deadline);
  if (is_hopeless(pool, node, policy, decision)) return;
  const int may_run = std::max(0, free_concurrency(pool, node, policy));
  if (node.owed_bytes > 0) {
    // So many idle instances are left for the other; the rest work on.
    decision.short_of_node = true;
    decision.run = std::min({pool.waiting, std::max(0, pool.idle - instances_owed(pool, node.owed_bytes)), may_run});
    return bound_queue(pool, node, policy, pool.waiting - decision.run - pool.starting, decision);
  }
  decision.run = std::min({pool.waiting, pool.idle, may_run});
  const int without = pool.waiting - decision.run;
  const auto retry = retry_at(pool, policy);
  if (without > 0 && pool.parked > 0) {
    if (decision.run < may_run) decision.thaw = room.take(pool.instance_bytes - pool.last_parked_bytes);
  } else if (without > pool.starting && retry && now < *retry) {
    const bool nothing_alive = pool.idle + pool.busy + pool.starting == 0;
    if (nothing_alive && (*retry >= pool.first_deadline || *retry - now > policy.backoff_patience)) {
      refuse_all(decision, without, Refusal::crashing);
      return;
    }
    sooner(decision.look_again, *retry);
  } else if (without > pool.starting) {
    start(pool, node, policy, without - pool.starting, room, decision);
  }
  // Those for whom an instance is on its way do not count.
  const int queued = without - decision.start - pool.starting - (decision.thaw ? 1 : 0);
  if (queued > 0) bound_queue(pool, node, policy, queued, decision);
}

// What is provisioned is there before anybody calls; and who often found all instances busy finds one ahead.
void start_ahead(const PoolState& pool, const NodeState& node, MonoTime now, const ScalingPolicy& policy, Room& room,
                 Decision& decision) {
  if (pool.retired || pool.waiting > 0) return;
  const int missing = pool.provisioned - pool.idle - pool.busy - pool.starting;
  if (missing > 0) {
    if (const auto retry = retry_at(pool, policy); retry && now < *retry) {
      sooner(decision.look_again, *retry);
    } else {
      start(pool, node, policy, missing, room, decision);
    }
    return;
  }
  const bool last_taken = pool.busy > 0 && pool.idle + pool.parked + pool.starting == 0;
  if (last_taken && pool.late_starts >= policy.late_starts && policy.parked_most > 0 && pool.failures == 0 &&
      pool.template_state == TemplateState::ready && room.has(pool.instance_bytes) && node.starting == 0 &&
      node.owed_bytes == 0 && free_concurrency(pool, node, policy) > 0) {
    decision.start = 1;
  }
}

// A version that was deployed has its template before anybody calls: after all whose callers wait, in memory that is
// free and not scarce, and a few at a time. One that cannot be built now is looked at again when something is done.
void build_ahead(const PoolState& pool, const NodeState& node, MonoTime now, const ScalingPolicy& policy,
                 Decision& decision) {
  if (!pool.deployed || pool.retired || pool.waiting > 0 || !template_missing(pool) || decision.start_template) return;
  if (pool.reserved_concurrency.value_or(kNoLimit) <= 0) return;
  if (const MonoTime due = *pool.deployed + policy.build_ahead_after; now < due) {
    return sooner(decision.look_again, due);
  }
  const int64_t most = node.memory_budget / 100 * policy.build_ahead_percent;
  decision.build_ahead = !node.callers_wait && node.building_ahead < policy.builds_ahead &&
                         node.memory_reserved + pool.template_bytes + pool.environment_bytes <= most;
}

// A function's rests tell of its last instance. One beside a busy or a parked one is kept for some seconds at least:
// else calls that overlap would start it over and over.
Duration keep_parked(const PoolState& pool, bool beside_others, const ScalingPolicy& policy) {
  const bool longer = beside_others && pool.template_state != TemplateState::not_needed;
  return longer ? std::max<Duration>(pool.keep_parked, policy.keep_beside) : pool.keep_parked;
}

// Until when something is kept that was last used then. Whose next call is due at a known time is kept for that time
// alone.
MonoTime kept_until(const PoolState& pool, MonoTime last_used, Duration keep, MonoTime now) {
  if (!pool.next_call) return last_used + keep;
  return now < pool.next_call->from ? last_used : pool.next_call->until;
}

// Who is called by the clock has its template built just before.
void build_for_next_call(const PoolState& pool, const NodeState& node, MonoTime now, Room& room, Decision& decision) {
  if (!pool.next_call || pool.retired || pool.failures > 0 || now >= pool.next_call->until) return;
  if (now < pool.next_call->from) return sooner(decision.look_again, pool.next_call->from);
  if (template_missing(pool) && pool.waiting == 0 && !decision.build_ahead && node.owed_bytes == 0 &&
      room.has(pool.template_bytes + pool.environment_bytes)) {
    decision.start_template = true;
  }
}

// The instance that is idle longest is parked if that spares a caller more than it costs, else it ends.
void end_or_park(const PoolState& pool, const NodeState& node, MonoTime now, const ScalingPolicy& policy,
                 Decision& decision) {
  const Duration keep = keep_parked(pool, pool.idle + pool.busy + pool.parked > 1, policy);
  const bool worth_it = pool.next_call ? now >= pool.next_call->from : keep > policy.idle_instance;
  if (worth_it && pool.parked < policy.parked_most && may_park(pool, pool.longest_idle_bytes, policy)) {
    // The budget for parked instances is a room of its own: those not used for longest give way.
    NodeState parked = node;
    parked.memory_budget = parked_budget(node.memory_budget, policy);
    parked.memory_reserved = node.memory_parked;
    parked.fair_share = INT64_MAX;
    std::erase_if(parked.evictable, [](const Evictable& one) { return one.kind != Evictable::Kind::parked; });
    Decision made;
    if (Room(parked, now, policy, made).take(pool.longest_idle_bytes)) {
      decision.park = true;
      decision.evict.insert(decision.evict.end(), made.evict.begin(), made.evict.end());
      return;
    }
  }
  decision.end_idle = 1;
}

void end_unused(const PoolState& pool, const NodeState& node, MonoTime now, const ScalingPolicy& policy,
                Decision& decision) {
  const Millis at_once{0};
  if (surplus_idle(pool) > 0 && pool.waiting == 0) {
    const MonoTime due = pool.longest_idle_since + (pool.retired ? at_once : policy.idle_instance);
    if (now < due) {
      sooner(decision.look_again, due);
    } else if (pool.retired) {
      decision.end_idle = pool.idle;
    } else {
      end_or_park(pool, node, now, policy, decision);
    }
  }
  if (pool.parked > 0 && pool.waiting == 0) {
    const Duration keep = keep_parked(pool, pool.parked + pool.busy > 1, policy);
    const MonoTime due = kept_until(pool, pool.longest_parked_since, keep, now);
    if (pool.retired) {
      decision.end_parked = pool.parked;
    } else if (now >= due) {
      decision.end_parked = 1;
    } else {
      sooner(decision.look_again, due);
    }
  }
  const bool unused = pool.waiting + pool.busy + pool.idle + pool.starting + pool.parked == 0;
  const bool is_provisioned = pool.provisioned > 0 && !pool.retired;  // and waits for room
  if (unused && !is_provisioned && pool.template_state == TemplateState::ready && decision.start == 0) {
    const MonoTime due = pool.retired ? now : kept_until(pool, pool.last_used, pool.keep_template, now);
    if (now >= due) {
      decision.end_template = true;
    } else {
      sooner(decision.look_again, due);
    }
  }
}

}  // namespace

std::vector<Evictable> give_way(const NodeState& node) {
  auto candidates = node.evictable;
  std::sort(candidates.begin(), candidates.end(), gives_way_before);
  int64_t over = node.memory_reserved - node.memory_budget;
  std::vector<Evictable> giving;
  for (auto& one : candidates) {
    if (over <= 0) break;
    over -= one.bytes;
    giving.push_back(std::move(one));
  }
  return giving;
}

bool goes_first(const Holding& other, const Holding& ours, int64_t fair_share) {
  const bool same_tenant = other.tenant == ours.tenant;
  const int64_t held = same_tenant ? ours.pool_bytes : ours.tenant_bytes;
  const int64_t theirs = same_tenant ? other.pool_bytes : other.tenant_bytes;
  const int64_t then = theirs + other.instance_bytes;
  // Who has nothing at all has it even of the only instance that there is room for.
  if (theirs > 0 ? then > held - ours.instance_bytes : held == 0) return false;
  return same_tenant || then <= fair_share;
}

int free_concurrency(const PoolState& pool, const NodeState& node, const ScalingPolicy& policy) {
  const int of_function = pool.reserved_concurrency.value_or(kNoLimit) - pool.function_running;
  return std::min(of_function, policy.account_concurrency - node.tenant_running);
}

std::optional<MonoTime> retry_at(const PoolState& pool, const ScalingPolicy& policy) {
  const int counted = pool.failures - policy.free_failures;
  if (counted <= 0) return std::nullopt;
  Duration wait = policy.first_backoff;
  for (int i = 1; i < counted && wait < policy.longest_backoff; ++i) wait *= 2;
  return pool.last_failure + std::min<Duration>(wait, policy.longest_backoff);
}

Duration expected_wait(const PoolState& pool, const NodeState& node, const ScalingPolicy& policy, int queued) {
  if (pool.mean_run <= Duration{0} || queued <= 0) return Duration{0};
  int64_t room = node.memory_budget - node.memory_reserved;
  for (const auto& one : node.evictable) room += one.bytes;
  const int64_t fit = std::max<int64_t>(0, room) / std::max<int64_t>(1, pool.instance_bytes);
  const int64_t may_come = std::clamp<int64_t>(free_concurrency(pool, node, policy), 0, fit);
  const int64_t instances = pool.busy + pool.idle + pool.starting + may_come;
  if (instances == 0) return Duration{0};
  return Duration(pool.mean_run.count() * queued / instances);
}

bool may_park(const PoolState& pool, int64_t own_bytes, const ScalingPolicy& policy) {
  return !pool.retired && own_bytes > 0 && own_bytes * 100 <= pool.instance_bytes * policy.largest_parked_percent;
}

int surplus_idle(const PoolState& pool) {
  if (pool.retired) return pool.idle;
  return std::clamp(pool.idle + pool.busy - pool.provisioned, 0, pool.idle);
}

int instances_owed(const PoolState& pool, int64_t owed_bytes) {
  const int64_t size = std::max<int64_t>(1, pool.instance_bytes);
  return static_cast<int>((owed_bytes + size - 1) / size);
}

int64_t parked_budget(int64_t memory_budget, const ScalingPolicy& policy) {
  return memory_budget / 100 * policy.parked_percent;
}

Decision decide(const PoolState& pool, const NodeState& node, MonoTime now, const ScalingPolicy& policy) {
  Decision decision;
  Room room(node, now, policy, decision);
  if (pool.waiting > 0) serve_waiting(pool, node, now, policy, room, decision);
  if (decision.expire_first) return decision;
  start_ahead(pool, node, now, policy, room, decision);
  build_ahead(pool, node, now, policy, decision);
  build_for_next_call(pool, node, now, room, decision);
  end_unused(pool, node, now, policy, decision);
  return decision;
}

}  // namespace sundog::invoke
