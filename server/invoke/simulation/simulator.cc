#include "invoke/simulation/simulator.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <queue>
#include <unordered_map>

#include "invoke/rhythm.h"
#include "invoke/simulation/idle_histogram.h"

namespace sundog::invoke::simulation {
namespace {

constexpr int kNone = -1;

Duration in_duration(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}
double in_seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

// What belongs to a function wherever it runs.
struct Function {
  Rhythm rhythm;
  IdleHistogram histogram;
  MonoTime last_used{};
  int64_t calls = 0, cold = 0;
};

enum class Served : uint8_t { warm, thawed, started, rebuilt, queued };

struct Waiting {
  MonoTime arrived;
  Served how = Served::queued;
};

struct Rested {
  MonoTime since;
  bool fresh = false;
};

struct Pool {
  int function = kNone, node = kNone;
  PoolState state;
  std::deque<Waiting> waiting;
  std::vector<Rested> idle, parked;  // longest first
  MonoTime late_starts_at{}, timer_at{};
  bool timer = false, hungry = false;
  uint32_t turn = 0;   // of the histogram policy's plans
  Millis idle_for{0};  // the histogram policy's, now
};

struct Environment {
  int users = 0;  // templates that were forked from it, or are about to be
  bool exists = false;
  MonoTime ready_at{}, unused_since{};
};

struct Node {
  int64_t reserved = 0, parked = 0;
  int starting = 0;
  std::vector<Pool*> pools, hungry;
  std::unordered_map<int, Environment> environments;
};

enum class Kind : uint8_t { call, ready, template_ready, done, timer, prewarm, give_up, environment_unused };

struct Event {
  MonoTime at;
  uint64_t number;  // keeps equal times in order
  Kind kind;
  int a = 0, b = 0;
  bool operator>(const Event& other) const { return at != other.at ? at > other.at : number > other.number; }
};

class Simulation {
 public:
  Simulation(Trace& trace, const SimulationOptions& options)
      : trace_(trace),
        options_(options),
        functions_(trace.functions().size()),
        nodes_(static_cast<size_t>(options.nodes)),
        of_function_(functions_.size() * nodes_.size(), kNone) {}

  Tally run();

 private:
  void schedule(double after_s, Kind kind, int a, int b = 0) {
    events_.push({now_ + in_duration(after_s), number_++, kind, a, b});
  }
  const FunctionTraits& traits(const Pool& pool) const {
    return trace_.functions()[static_cast<size_t>(pool.function)];
  }
  Node& node_of(const Pool& pool) { return nodes_[static_cast<size_t>(pool.node)]; }
  bool forks() const { return options_.keeping == Keeping::sundog; }
  Pool& pool_on(int function, int node);
  Pool& route(int function);
  void plan_call(int function, double after);
  void start_counting();
  void handle(const Event& event);
  void call(int function);
  void look(Pool& pool);
  NodeState node_state(const Pool& pool);
  std::vector<Evictable> evictable(const Pool& asking);
  void act(Pool& pool, const Decision& decision);
  void evict(const Evictable& victim);
  void run(Pool& pool, const Waiting& who, Rested instance, double extra_s);
  void start_template(Pool& pool);
  void end_template(Pool& pool);
  void park_first(Pool& pool);
  void end_first_idle(Pool& pool);
  void end_parked(Pool& pool, size_t which);
  void done(Pool& pool);
  void rest(Pool& pool);
  void arm(Pool& pool, MonoTime when);
  void feed(Node& node);
  int index_of(const Pool& pool) const {
    return of_function_[static_cast<size_t>(pool.function) * nodes_.size() + static_cast<size_t>(pool.node)];
  }
  Duration keep(const Pool& pool, int64_t bytes, double spared_s) const {
    const auto& rhythm = functions_[static_cast<size_t>(pool.function)].rhythm;
    return rhythm.keep(bytes, options_.policy.worth * spared_s, options_.policy.keep_most);
  }
  void reserve(Pool& pool, int64_t bytes, double& kind) {
    node_of(pool).reserved += bytes;
    kind += static_cast<double>(bytes);
  }

  Trace& trace_;
  SimulationOptions options_;
  std::vector<Function> functions_;
  std::vector<Node> nodes_;
  std::deque<Pool> pools_;
  std::vector<int> of_function_;  // pool by function and node
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  uint64_t number_ = 0;
  MonoTime now_{}, began_{};
  Tally tally_;
  double ignored_ = 0;  // bytes on their way, which neither rest nor serve
};

Pool& Simulation::pool_on(int function, int node) {
  int& index = of_function_[static_cast<size_t>(function) * nodes_.size() + static_cast<size_t>(node)];
  if (index == kNone) {
    index = static_cast<int>(pools_.size());
    Pool& pool = pools_.emplace_back();
    pool.function = function;
    pool.node = node;
    pool.state.instance_bytes = traits(pool).memory_bytes;
    pool.state.template_bytes = options_.template_bytes;
    pool.state.template_measured = true;
    if (!forks()) pool.state.template_state = TemplateState::not_needed;
    nodes_[static_cast<size_t>(node)].pools.push_back(&pool);
  }
  return pools_[static_cast<size_t>(index)];
}

// The node of its environment, so that the environment's template is needed on that one alone; where that is full, the
// emptiest.
Pool& Simulation::route(int function) {
  const auto& one = trace_.functions()[static_cast<size_t>(function)];
  const auto hash = static_cast<uint64_t>(one.environment) * 0x9E3779B97F4A7C15ULL;
  const int home = static_cast<int>((hash >> 32) % nodes_.size());
  Pool& pool = pool_on(function, home);
  const bool room = node_of(pool).reserved + one.memory_bytes <= options_.node_bytes;
  if (room || nodes_.size() == 1 || !pool.idle.empty()) return pool;
  const auto emptiest = std::min_element(nodes_.begin(), nodes_.end(),
                                         [](const Node& a, const Node& b) { return a.reserved < b.reserved; });
  if (emptiest->reserved + one.memory_bytes > options_.node_bytes) return pool;
  return pool_on(function, static_cast<int>(emptiest - nodes_.begin()));
}

void Simulation::plan_call(int function, double after) {
  const double next = trace_.next_call(function, after);
  if (next < trace_.seconds()) events_.push({MonoTime{} + in_duration(next), number_++, Kind::call, function, 0});
}

Tally Simulation::run() {
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < static_cast<int>(functions_.size()); ++i) plan_call(i, 0);
  const MonoTime end = MonoTime{} + in_duration(trace_.seconds());
  const MonoTime first_counted = MonoTime{} + in_duration(trace_.warm_up_seconds());
  bool counting = false;
  while (!events_.empty() && events_.top().at < end) {
    const Event event = events_.top();
    events_.pop();
    const double passed = in_seconds(event.at - now_);
    tally_.byte_seconds.idle += tally_.bytes_now.idle * passed;
    tally_.byte_seconds.parked += tally_.bytes_now.parked * passed;
    tally_.byte_seconds.templates += tally_.bytes_now.templates * passed;
    tally_.byte_seconds.environments += tally_.bytes_now.environments * passed;
    tally_.busy_byte_seconds += tally_.busy_bytes_now * passed;
    now_ = event.at;
    if (!counting && now_ >= first_counted) {
      counting = true;
      start_counting();
    }
    handle(event);
  }
  std::vector<double> cold;
  for (const auto& one : functions_) {
    if (one.calls > 0) cold.push_back(static_cast<double>(one.cold) / static_cast<double>(one.calls));
  }
  std::sort(cold.begin(), cold.end());
  if (!cold.empty()) tally_.cold_share_of_functions_p75 = cold[cold.size() * 3 / 4];
  tally_.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return tally_;
}

// What was learned and what is there stays; what was counted is forgotten.
void Simulation::start_counting() {
  Tally fresh;
  fresh.bytes_now = tally_.bytes_now;
  fresh.busy_bytes_now = tally_.busy_bytes_now;
  tally_ = fresh;
  for (auto& one : functions_) one.calls = one.cold = 0;
}

void Simulation::handle(const Event& event) {
  if (event.kind == Kind::call) return call(event.a);
  if (event.kind == Kind::environment_unused) {
    Environment& environment = nodes_[static_cast<size_t>(event.a)].environments[event.b];
    const bool due = environment.unused_since + in_duration(options_.environment_keep_s) <= now_;
    if (environment.users > 0 || !environment.exists || !due) return;
    environment.exists = false;
    nodes_[static_cast<size_t>(event.a)].reserved -= options_.environment_bytes;
    tally_.bytes_now.environments -= static_cast<double>(options_.environment_bytes);
    return;
  }
  Pool& pool = pools_[static_cast<size_t>(event.a)];
  switch (event.kind) {
    case Kind::ready:
      --pool.state.starting;
      --node_of(pool).starting;
      --pool.state.function_running;
      tally_.bytes_now.idle += static_cast<double>(pool.state.instance_bytes);
      pool.idle.push_back({now_, true});
      look(pool);
      break;
    case Kind::template_ready:
      pool.state.template_state = TemplateState::ready;
      look(pool);
      break;
    case Kind::done:
      done(pool);
      break;
    case Kind::timer:
      if (!pool.timer || pool.timer_at != now_) return;
      pool.timer = false;
      look(pool);
      break;
    case Kind::prewarm:
    case Kind::give_up:
      if (static_cast<int>(pool.turn) != event.b) return;
      pool.state.provisioned = event.kind == Kind::prewarm ? 1 : 0;
      look(pool);
      break;
    default:
      break;
  }
  feed(node_of(pool));
}

void Simulation::call(int function) {
  plan_call(function, in_seconds(now_ - MonoTime{}));
  Pool& pool = route(function);
  auto& all = functions_[static_cast<size_t>(function)];
  if (pool.state.busy + pool.state.starting == 0 && pool.waiting.empty() && all.last_used > MonoTime{}) {
    all.rhythm.rested(now_ - all.last_used);
    if (options_.keeping == Keeping::histogram) all.histogram.rested(in_seconds(now_ - all.last_used));
  }
  ++pool.turn;
  pool.state.provisioned = 0;
  ++tally_.invocations;
  ++all.calls;
  all.last_used = pool.state.last_used = now_;
  if (pool.waiting.empty() && !pool.idle.empty()) {
    const Rested instance = pool.idle.back();
    pool.idle.pop_back();
    return run(pool, {now_, Served::warm}, instance, 0);
  }
  pool.waiting.push_back({now_, Served::queued});
  look(pool);
}

void Simulation::run(Pool& pool, const Waiting& who, Rested instance, double extra_s) {
  auto& all = functions_[static_cast<size_t>(pool.function)];
  const auto bytes = static_cast<double>(pool.state.instance_bytes);
  tally_.bytes_now.idle -= bytes;
  tally_.busy_bytes_now += bytes;
  ++pool.state.busy;
  ++pool.state.function_running;
  switch (who.how) {
    case Served::warm:
      ++tally_.warm;
      break;
    case Served::thawed:
      ++tally_.thawed;
      extra_s = instance.fresh ? options_.ahead_s : options_.thaw_s;
      break;
    case Served::started:
      ++tally_.started;
      ++all.cold;
      break;
    case Served::rebuilt:
      ++tally_.rebuilt;
      ++all.cold;
      break;
    case Served::queued:
      ++tally_.queued;
      break;
  }
  tally_.waits.add(in_seconds(now_ - who.arrived) + extra_s);
  const double takes = trace_.run_time(pool.function);
  pool.state.mean_run += (in_duration(takes) - pool.state.mean_run) / 16;
  schedule(extra_s + takes, Kind::done, index_of(pool));
}

void Simulation::done(Pool& pool) {
  --pool.state.busy;
  --pool.state.function_running;
  const auto bytes = static_cast<double>(pool.state.instance_bytes);
  tally_.busy_bytes_now -= bytes;
  tally_.bytes_now.idle += bytes;
  pool.idle.push_back({now_, false});
  functions_[static_cast<size_t>(pool.function)].last_used = pool.state.last_used = now_;
  if (!pool.waiting.empty()) return look(pool);
  if (options_.keeping == Keeping::histogram && pool.state.busy + pool.state.starting == 0) return rest(pool);
  arm(pool, now_ + options_.policy.idle_instance);
}

// The histogram policy, when nothing of a function runs any more.
void Simulation::rest(Pool& pool) {
  const auto windows = functions_[static_cast<size_t>(pool.function)].histogram.windows();
  ++pool.turn;
  if (windows.prewarm_s > 0) {
    pool.idle_for = Millis{0};
    schedule(windows.prewarm_s, Kind::prewarm, index_of(pool), static_cast<int>(pool.turn));
    schedule(windows.prewarm_s + windows.keep_alive_s, Kind::give_up, index_of(pool), static_cast<int>(pool.turn));
  } else {
    pool.idle_for = std::chrono::duration_cast<Millis>(in_duration(windows.keep_alive_s));
  }
  look(pool);
}

void Simulation::arm(Pool& pool, MonoTime when) {
  if (pool.timer && pool.timer_at <= when) return;
  pool.timer = true;
  pool.timer_at = std::max(when, now_);
  events_.push({pool.timer_at, number_++, Kind::timer, index_of(pool), 0});
}

NodeState Simulation::node_state(const Pool& pool) {
  const Node& node = nodes_[static_cast<size_t>(pool.node)];
  NodeState state;
  state.memory_budget = options_.node_bytes;
  state.memory_reserved = node.reserved;
  state.memory_parked = node.parked;
  state.starting = node.starting;
  const int wanted = std::max(pool.state.waiting - pool.state.idle, pool.state.provisioned) - pool.state.starting;
  const int64_t least = pool.state.instance_bytes * std::max(1, wanted);
  const bool tight = wanted > 0 && options_.node_bytes - node.reserved < least;
  const bool many_parked = pool.state.longest_idle_bytes > 0 && node.parked + pool.state.longest_idle_bytes >
                                                                    parked_budget(options_.node_bytes, options_.policy);
  if (tight || many_parked) state.evictable = evictable(pool);
  return state;
}

std::vector<Evictable> Simulation::evictable(const Pool& asking) {
  std::vector<Evictable> all;
  for (Pool* pool : nodes_[static_cast<size_t>(asking.node)].pools) {
    if (pool == &asking ||
        (pool->idle.empty() && pool->parked.empty() && pool->state.template_state != TemplateState::ready)) {
      continue;
    }
    const bool may = forks() && static_cast<int>(pool->parked.size()) < options_.policy.parked_most &&
                     may_park(pool->state, traits(*pool).own_bytes, options_.policy);
    const int64_t freed = pool->state.instance_bytes - (may ? traits(*pool).own_bytes : 0);
    for (const auto& one : pool->idle) all.push_back({Evictable::Kind::idle, pool, freed, one.since});
    if (!pool->waiting.empty()) continue;
    for (const auto& one : pool->parked) {
      all.push_back({Evictable::Kind::parked, pool, traits(*pool).own_bytes, one.since});
    }
    const bool unused = pool->idle.empty() && pool->parked.empty() && pool->state.busy + pool->state.starting == 0;
    if (unused && pool->state.template_state == TemplateState::ready) {
      all.push_back({Evictable::Kind::unused_template, pool, options_.template_bytes, pool->state.last_used});
    }
  }
  return all;
}

void Simulation::look(Pool& pool) {
  const auto& one = traits(pool);
  ScalingPolicy policy = options_.policy;
  if (options_.keeping == Keeping::histogram) policy.idle_instance = pool.idle_for;
  for (bool again = true; again;) {
    auto& state = pool.state;
    state.waiting = static_cast<int>(pool.waiting.size());
    if (state.waiting > 0) state.first_deadline = pool.waiting.front().arrived + in_duration(options_.queue_limit_s);
    state.idle = static_cast<int>(pool.idle.size());
    state.parked = static_cast<int>(pool.parked.size());
    state.longest_idle_bytes = 0;
    if (state.idle > 0) {
      state.longest_idle_since = pool.idle.front().since;
      if (forks()) state.longest_idle_bytes = one.own_bytes;
    }
    if (state.parked > 0) {
      state.longest_parked_since = pool.parked.front().since;
      state.last_parked_bytes = one.own_bytes;
    }
    if (forks()) {
      if (state.idle + state.parked > 0) state.keep_parked = keep(pool, one.own_bytes, options_.fork_s);
      state.keep_template = keep(pool, options_.template_bytes, one.init_s);
      state.next_call.reset();
      const auto due = functions_[static_cast<size_t>(pool.function)].rhythm.next_call();
      if (due) state.next_call = Window{state.last_used + due->from, state.last_used + due->until};
    }
    const auto decision = decide(state, node_state(pool), now_, policy);
    act(pool, decision);
    again = decision.expire_first || decision.thaw || decision.park ||
            decision.run + decision.end_idle + decision.end_parked > 0;
    if (!again && decision.look_again) arm(pool, *decision.look_again);
  }
  if (!pool.waiting.empty() && !pool.hungry) {
    pool.hungry = true;
    node_of(pool).hungry.push_back(&pool);
  }
}

void Simulation::act(Pool& pool, const Decision& decision) {
  auto& state = pool.state;
  if (decision.expire_first) {
    ++tally_.refused;
    pool.waiting.pop_front();
  }
  for (int i = 0; i < decision.refuse; ++i) pool.waiting.pop_back();
  tally_.refused += decision.refuse;
  for (int i = 0; i < decision.run; ++i) {
    const Rested instance = pool.idle.back();
    pool.idle.pop_back();
    const Waiting who = pool.waiting.front();
    pool.waiting.pop_front();
    run(pool, who, instance, 0);
  }
  for (const auto& victim : decision.evict) evict(victim);
  if (decision.thaw) {
    const Rested instance = pool.parked.back();
    end_parked(pool, pool.parked.size() - 1);
    reserve(pool, state.instance_bytes, tally_.bytes_now.idle);
    Waiting who = pool.waiting.front();
    pool.waiting.pop_front();
    if (who.arrived == now_) who.how = Served::thawed;
    run(pool, who, instance, options_.thaw_s);
  }
  if (decision.start_template) start_template(pool);
  const double half_lives = in_seconds(now_ - pool.late_starts_at) / 600;
  state.late_starts *= std::exp2(-half_lives);
  pool.late_starts_at = now_;
  if (decision.start > 0 && state.busy > 0 && !pool.waiting.empty()) ++state.late_starts;
  for (int i = 0; i < decision.start; ++i) {
    ++state.starting;
    ++state.function_running;
    ++node_of(pool).starting;
    ++tally_.starts;
    reserve(pool, state.instance_bytes, ignored_);
    schedule(forks() ? options_.fork_s : options_.process_s, Kind::ready, index_of(pool));
  }
  // Who waits for these is served by them, or by what is free before.
  for (int i = 0, left = decision.start; left > 0 && i < static_cast<int>(pool.waiting.size()); ++i) {
    if (pool.waiting[static_cast<size_t>(i)].how != Served::queued) continue;
    pool.waiting[static_cast<size_t>(i)].how = Served::started;
    --left;
  }
  if (decision.park) park_first(pool);
  for (int i = 0; i < decision.end_idle; ++i) end_first_idle(pool);
  for (int i = 0; i < decision.end_parked; ++i) end_parked(pool, 0);
  if (decision.end_template) end_template(pool);
}

void Simulation::evict(const Evictable& victim) {
  Pool& pool = *static_cast<Pool*>(victim.owner);
  if (victim.kind == Evictable::Kind::unused_template) return end_template(pool);
  if (victim.kind == Evictable::Kind::parked) return end_parked(pool, 0);
  if (victim.bytes == pool.state.instance_bytes) return end_first_idle(pool);
  park_first(pool);
  arm(pool, pool.parked.back().since + keep(pool, traits(pool).own_bytes, options_.fork_s));
}

void Simulation::start_template(Pool& pool) {
  pool.state.template_state = TemplateState::starting;
  ++tally_.template_starts;
  reserve(pool, options_.template_bytes, tally_.bytes_now.templates);
  Environment& environment = node_of(pool).environments[traits(pool).environment];
  ++environment.users;
  if (!environment.exists) {
    environment.exists = true;
    environment.ready_at = now_ + in_duration(options_.environment_s);
    ++tally_.environment_starts;
    reserve(pool, options_.environment_bytes, tally_.bytes_now.environments);
  }
  const double until_then = std::max(0.0, in_seconds(environment.ready_at - now_));
  schedule(until_then + traits(pool).init_s, Kind::template_ready, index_of(pool));
  for (auto& who : pool.waiting) who.how = Served::rebuilt;
}

void Simulation::end_template(Pool& pool) {
  pool.state.template_state = TemplateState::none;
  reserve(pool, -options_.template_bytes, tally_.bytes_now.templates);
  Environment& environment = node_of(pool).environments[traits(pool).environment];
  if (--environment.users > 0) return;
  environment.unused_since = now_;
  schedule(options_.environment_keep_s, Kind::environment_unused, pool.node, traits(pool).environment);
}

void Simulation::park_first(Pool& pool) {
  pool.parked.push_back(pool.idle.front());
  end_first_idle(pool);
  node_of(pool).parked += traits(pool).own_bytes;
  reserve(pool, traits(pool).own_bytes, tally_.bytes_now.parked);
}

void Simulation::end_first_idle(Pool& pool) {
  pool.idle.erase(pool.idle.begin());
  reserve(pool, -pool.state.instance_bytes, tally_.bytes_now.idle);
}

void Simulation::end_parked(Pool& pool, size_t which) {
  pool.parked.erase(pool.parked.begin() + static_cast<std::ptrdiff_t>(which));
  node_of(pool).parked -= traits(pool).own_bytes;
  reserve(pool, -traits(pool).own_bytes, tally_.bytes_now.parked);
}

// Something became free on the node: who waits for it looks again, the longest first.
void Simulation::feed(Node& node) {
  if (node.hungry.empty()) return;
  auto hungry = std::exchange(node.hungry, {});
  for (Pool* pool : hungry) pool->hungry = false;
  std::erase_if(hungry, [](const Pool* pool) { return pool->waiting.empty(); });
  std::sort(hungry.begin(), hungry.end(),
            [](const Pool* a, const Pool* b) { return a->waiting.front().arrived < b->waiting.front().arrived; });
  for (Pool* pool : hungry) look(*pool);
}

}  // namespace

Tally simulate(Trace& trace, const SimulationOptions& options) {
  return Simulation(trace, options).run();
}

}  // namespace sundog::invoke::simulation
