// Scaling: what a function's pool should do now. A pure function of what is known; docs/design/scaling.md tells the
// policy.
//
// Threads     plain values; no clock, no I/O, no locks. Scenarios in tests/scaling/*.txt drive it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"

namespace sundog::invoke {

struct ScalingPolicy {
  Millis idle_instance{5'000};   // an instance that nobody used for so long ends
  Millis idle_template{60'000};  // and so does a template without instances and calls
  size_t queue_length = 1000;    // waiting invocations of one pool; more are refused at once
  int account_concurrency = 1000;
  int starts_at_once = 8;     // instances that the node starts at the same time; more would only slow each other
  int free_failures = 3;      // instances that may crash one after the other before the next one has to wait
  Millis first_backoff{250};  // doubled with each further failure …
  Millis longest_backoff{30'000};
  Millis backoff_patience{1'000};  // who would wait longer than this for a crashing function is told so at once
};

enum class TemplateState { none, starting, ready, not_needed };

// One version of a function, as its pool sees it.
struct PoolState {
  int waiting = 0;            // invocations without an instance
  MonoTime first_deadline{};  // of the oldest of them
  int idle = 0, busy = 0, starting = 0;
  MonoTime longest_idle_since{};  // of the instance that would end first
  TemplateState parked = TemplateState::none;
  MonoTime last_used{};        // when the last invocation came or ended
  int64_t instance_bytes = 0;  // reserved for one instance: the function's memory size
  int64_t template_bytes = 0;  // reserved for the template: as measured, or the memory size before it is known
  bool template_measured = false;
  std::optional<int> reserved_concurrency;
  int function_running = 0;  // busy and starting instances of all versions of the function, this one's included
  int failures = 0;          // inits and instances that crashed since the last answer
  MonoTime last_failure{};
  bool retired = false;  // its version is no longer current: finish what waits, keep nothing
};

// Something of another pool that may go to make room; `owner` means nothing to the decision.
struct Evictable {
  enum class Kind { instance, parked_template };
  Kind kind = Kind::instance;
  void* owner = nullptr;
  int64_t bytes = 0;
  MonoTime since{};  // idle since
};

struct NodeState {
  int64_t memory_budget = 0;
  int64_t memory_reserved = 0;       // of all instances and templates
  int starting = 0;                  // instances on their way, of all pools
  int tenant_running = 0;            // busy and starting instances of the tenant
  std::vector<Evictable> evictable;  // of other pools; need only be filled when invocations wait
};

enum class Refusal { none, queue_full, no_concurrency, too_large_for_node, crashing };

struct Decision {
  int run = 0;                // oldest invocations that go to idle instances, the most recently used first
  bool expire_first = false;  // the oldest invocation has waited too long: answer it and decide again
  int refuse = 0;             // newest invocations to turn away at once
  Refusal refusal = Refusal::none;
  std::vector<Evictable> evict;  // to end before anything is started
  bool start_template = false;
  int start = 0;     // instances
  int end_idle = 0;  // longest idle first
  bool end_template = false;
  std::optional<MonoTime> look_again;  // the next moment at which time alone changes the decision
};

Decision decide(const PoolState& pool, const NodeState& node, MonoTime now, const ScalingPolicy& policy);

// How many more invocations may run beside those that run now.
int free_concurrency(const PoolState& pool, const NodeState& node, const ScalingPolicy& policy);
// When the next start may be tried after `failures` in a row; nullopt: at once.
std::optional<MonoTime> retry_at(const PoolState& pool, const ScalingPolicy& policy);

}  // namespace sundog::invoke
