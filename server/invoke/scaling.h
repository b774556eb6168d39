// Scaling: what a function's pool should do now. A pure function of what is known; docs/design/scaling.md tells the
// policy.
//
// Threads     plain values; no clock, no I/O, no locks. Scenarios in tests/scaling/*.txt drive it, and so does the
//             simulator (simulation/).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"

namespace sundog::invoke {

struct ScalingPolicy {
  Millis idle_instance{250};        // an instance that nobody used for so long is parked, or ends
  Millis keep_most{14'400'000};     // the longest that a parked instance or an unused template is kept
  double worth = 100'000;           // megabyte-seconds that are well spent if they spare one second of waiting
  Millis keep_beside{10'000};       // the shortest that one beside others is kept parked, if any is
  int parked_most = 16;             // parked instances of one version; 0: none is ever parked
  int parked_percent = 25;          // of the node's memory, for all parked instances
  int largest_parked_percent = 50;  // of its full size: what holds more of its own is ended instead
  double late_starts = 2;           // since when it pays to fork one ahead: see PoolState::late_starts
  size_t queue_length = 1000;       // waiting invocations of one pool; more are refused at once
  Millis queue_patience{7'500};     // who is expected to wait longer than this is refused at once
  int account_concurrency = 1000;
  int starts_at_once = 8;     // instances that the node starts at the same time; more would only slow each other
  int free_failures = 3;      // instances that may crash one after the other before the next one has to wait
  Millis first_backoff{250};  // doubled with each further failure …
  Millis longest_backoff{30'000};
  Millis backoff_patience{1'000};  // who would wait longer than this for a crashing function is told so at once
  Millis build_ahead_after{200};   // since a deploy: the next change of it may follow at once
  int builds_ahead = 1;            // templates of deployed versions that nobody waits for, at the same time
  int build_ahead_percent = 75;    // of the node's memory: beyond it none is built ahead
  Millis protection{5'000};        // a tenant above its share takes nothing that a poorer one used so lately
};

// A span of time, from its first moment to the one after its last.
struct Window {
  MonoTime from{}, until{};
};

enum class TemplateState { none, starting, ready, not_needed };

// One version of a function, as its pool sees it.
struct PoolState {
  int waiting = 0;            // invocations without an instance
  MonoTime first_deadline{};  // of the oldest of them
  int idle = 0, busy = 0, starting = 0;
  MonoTime longest_idle_since{};    // of the instance that would be parked or end first
  int64_t longest_idle_bytes = 0;   // that it holds of its own, once it is due; 0: not known
  int parked = 0;                   // instances that hold no more memory than they take
  MonoTime longest_parked_since{};  // since when nobody used the one that would end first
  int64_t last_parked_bytes = 0;    // reserved for the one that would be used first
  TemplateState template_state = TemplateState::none;
  MonoTime last_used{};        // when the last invocation came or ended
  int64_t instance_bytes = 0;  // reserved for one instance: the function's memory size
  int64_t template_bytes = 0;  // reserved for the template: as measured, or the memory size before it is known
  bool template_measured = false;
  int64_t environment_bytes =
      0;  // that its environment's template would take, which has to be started for the template
  Duration keep_parked{}, keep_template{};  // after the last use, by the function's rhythm
  std::optional<Window> next_call;          // when it is due, if the function is called by the clock
  double late_starts = 0;  // starts that callers waited for because all instances were busy; halved every ten minutes
  Duration mean_run{};     // of the last invocations; 0: none has run yet
  std::optional<int> reserved_concurrency;
  int provisioned = 0;               // instances to be kept ready
  std::optional<MonoTime> deployed;  // since then its template is to be built before anybody calls; once
  int function_running = 0;          // busy and starting instances of all versions of the function, this one's included
  int failures = 0;                  // inits and instances that crashed since the last answer
  MonoTime last_failure{};
  bool retired = false;  // its version is no longer current: finish what waits, keep nothing
};

// Something of another pool that may give way; `owner` means nothing to the decision.
struct Evictable {
  enum class Kind { idle, parked, unused_template, unused_environment };  // in this order they give way
  Kind kind = Kind::idle;
  void* owner = nullptr;
  int64_t bytes = 0;        // that become free: an idle instance is parked where it can be, else ended
  MonoTime since{};         // not used since
  bool of_poorer = false;   // of another tenant that holds no more than the fair share
  std::string environment;  // unused_environment: which one's template; what was forked from it goes before it
};

struct NodeState {
  int64_t memory_budget = 0;
  int64_t memory_reserved = 0;       // of all instances and templates, environments' templates among them
  int64_t memory_parked = 0;         // of the parked instances among them
  int starting = 0;                  // instances on their way, of all pools
  int tenant_running = 0;            // busy and starting instances of the tenant
  int64_t tenant_bytes = 0;          // of the tenant's instances that are not parked
  int64_t fair_share = INT64_MAX;    // of the node's memory, for each tenant that holds or wants some
  int64_t owed_bytes = 0;            // of room on the node are due to another pool: see goes_first()
  int building_ahead = 0;            // templates on their way that nobody waited for when they were started
  bool callers_wait = false;         // of another pool; need only be known of one whose template is to be built ahead
  std::vector<Evictable> evictable;  // of other pools; need only be filled when room is short
};

enum class Refusal { none, queue_full, wait_too_long, no_concurrency, too_large_for_node, crashing };

struct Decision {
  int run = 0;                // oldest invocations that go to idle instances, the most recently used first
  bool thaw = false;          // the oldest invocation after those goes to the parked instance that was used last
  bool expire_first = false;  // the oldest invocation has waited too long: answer it and decide again
  int refuse = 0;             // newest invocations to turn away at once
  Refusal refusal = Refusal::none;
  std::vector<Evictable> evict;  // to give way before anything is started, used or parked
  bool start_template = false;
  bool build_ahead = false;    // the template, though nobody waits for it
  int start = 0;               // instances
  bool short_of_node = false;  // more would have been started or used, had the node had room
  bool park = false;           // the instance that is idle longest
  int end_idle = 0;            // longest idle first
  int end_parked = 0;          // longest unused first
  bool end_template = false;
  std::optional<MonoTime> look_again;  // the next moment at which time alone changes the decision
};

Decision decide(const PoolState& pool, const NodeState& node, MonoTime now, const ScalingPolicy& policy);

// Who gives way when more is reserved than there is, because what functions share has grown: as few as possible, in
// the order in which they give way to a start.
std::vector<Evictable> give_way(const NodeState& node);

// What a pool holds of the node.
struct Holding {
  const void* tenant = nullptr;
  int64_t tenant_bytes = 0;    // of all the tenant's instances that are not parked
  int64_t pool_bytes = 0;      // of this pool's among them
  int64_t instance_bytes = 0;  // of one more
};
// Whether `other`, which waits for room on the node, is due it before `ours`: it holds so much less (its tenant, or its
// pool within one tenant) that it would hold no more with an instance that `ours` gave up for it. Nobody goes first to
// get more than the fair share of a tenant.
bool goes_first(const Holding& other, const Holding& ours, int64_t fair_share);

// How many more invocations may run beside those that run now.
int free_concurrency(const PoolState& pool, const NodeState& node, const ScalingPolicy& policy);
// When the next start may be tried after `failures` in a row; nullopt: at once.
std::optional<MonoTime> retry_at(const PoolState& pool, const ScalingPolicy& policy);
// How long the newest of `queued` invocations is expected to wait for an instance; 0 if nothing is known.
Duration expected_wait(const PoolState& pool, const NodeState& node, const ScalingPolicy& policy, int queued);
// Whether an instance that holds so much of its own may be parked at all.
bool may_park(const PoolState& pool, int64_t own_bytes, const ScalingPolicy& policy);
// The idle instances that may give way: those beyond what is provisioned.
int surplus_idle(const PoolState& pool);
// So many idle instances a pool leaves to another that goes first, though its own invocations wait.
int instances_owed(const PoolState& pool, int64_t owed_bytes);
// What the node may hold for all parked instances together.
int64_t parked_budget(int64_t memory_budget, const ScalingPolicy& policy);

}  // namespace sundog::invoke
