// Plays the text scenarios of tests/scaling over decide(). tests/scaling/README.md tells their words.
#include "invoke/scaling.h"

#include <gtest/gtest.h>

#include <deque>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "base/file.h"
#include "invoke/rhythm.h"

namespace sundog::invoke {
namespace {

// What functions share; while it runs, its memory is the node's and none of theirs.
struct Environment {
  int64_t bytes = 0;
  bool running = false;
  MonoTime used{};
};

struct Function {
  PoolState pool;
  std::string tenant = "t";
  std::string environment;
  std::deque<MonoTime> waiting;  // their deadlines
  std::deque<MonoTime> idle;     // since when, longest first
  std::deque<MonoTime> parked;   // not used since, longest first
  int64_t own_bytes = 0;         // that an instance holds when it is parked; 0: it cannot be parked
  Duration keep_parked{}, keep_template = std::chrono::minutes{1};
  std::optional<Rhythm> rhythm;  // decides in place of these
  Duration start_time{}, init_time{};
  bool short_of_node = false, building_ahead = false;
  MonoTime template_ready{};
  std::optional<MonoTime> look_at;

  MonoTime template_used() const { return std::max(pool.last_used, template_ready); }
  bool waits_for_node() const {
    return !waiting.empty() && (short_of_node || pool.starting > 0 || pool.template_state == TemplateState::starting);
  }

  int64_t held() const { return pool.instance_bytes * (static_cast<int64_t>(idle.size()) + pool.busy + pool.starting); }
};

std::string refusal_name(Refusal why) {
  switch (why) {
    case Refusal::queue_full:
      return "queue_full";
    case Refusal::wait_too_long:
      return "wait_too_long";
    case Refusal::no_concurrency:
      return "no_concurrency";
    case Refusal::too_large_for_node:
      return "too_large";
    case Refusal::crashing:
      return "crashing";
    case Refusal::none:
      break;
  }
  return "none";
}

// What decide() decides happens here as it would on a node, but for the processes.
class Stage {
 public:
  void line(const std::string& text) {
    std::istringstream words(text);
    std::string first;
    words >> first;
    if (first == "node") return set_node(words);
    if (first == "policy") return set_policy(words);
    if (first == "function") return add_function(words);
    if (first == "environment") return add_environment(words);
    if (first == "at") return at(words);
    if (first == "expect") return expect(text.substr(text.find("expect") + 6));
    FAIL() << "unknown word \"" << first << "\"";
  }
  bool expected_anything() const { return expectations_ > 0; }

 private:
  static Duration duration(const std::string& text) {
    size_t end = 0;
    const int64_t number = std::stoll(text, &end);
    const std::string unit = text.substr(end);
    if (unit == "ms") return Millis{number};
    if (unit == "s") return std::chrono::seconds{number};
    if (unit == "min") return std::chrono::minutes{number};
    ADD_FAILURE() << "unknown unit in " << text;
    return {};
  }

  void set_node(std::istringstream& words) {
    std::string key;
    int64_t value = 0;
    while (words >> key) {
      EXPECT_TRUE(words >> value) << "no number after \"" << key << "\"";
      if (key == "memory") {
        node_.memory_budget = value << 20;
      } else if (key == "account") {
        policy_.account_concurrency = static_cast<int>(value);
      } else if (key == "starts") {
        policy_.starts_at_once = static_cast<int>(value);
      } else if (key == "parked-percent") {
        policy_.parked_percent = static_cast<int>(value);
      } else {
        ADD_FAILURE() << "a node has no \"" << key << "\"";
      }
    }
  }
  void set_policy(std::istringstream& words) {
    std::string key, value;
    while (words >> key) {
      EXPECT_TRUE(words >> value) << "nothing after \"" << key << "\"";
      if (key == "queue") {
        policy_.queue_length = std::stoul(value);
      } else if (key == "limit") {
        queue_limit_ = duration(value);
      } else if (key == "idle") {
        policy_.idle_instance = std::chrono::duration_cast<Millis>(duration(value));
      } else if (key == "failures") {
        policy_.free_failures = std::stoi(value);
      } else if (key == "parked") {
        policy_.parked_most = std::stoi(value);
      } else if (key == "builds") {
        policy_.builds_ahead = std::stoi(value);
      } else if (key == "patience") {
        policy_.queue_patience = std::chrono::duration_cast<Millis>(duration(value));
      } else {
        ADD_FAILURE() << "a policy has no \"" << key << "\"";
      }
    }
  }
  void add_environment(std::istringstream& words) {
    std::string name;
    int64_t megabytes = 0;
    words >> name >> megabytes;
    environments_[name].bytes = megabytes << 20;
  }
  void add_function(std::istringstream& words) {
    std::string name, key;
    words >> name;
    auto& function = functions_[name];
    function.pool.instance_bytes = function.pool.template_bytes = 128LL << 20;
    while (words >> key) {
      int64_t value = 0;
      if (key == "native") {
        function.pool.template_state = TemplateState::not_needed;
        continue;
      }
      if (key == "tenant" || key == "environment") {
        words >> (key == "tenant" ? function.tenant : function.environment);
        continue;
      }
      if (key == "keep" || key == "keep-template" || key == "runs" || key == "start" || key == "init") {
        std::string time;
        words >> time;
        if (key == "keep") function.keep_parked = duration(time);
        if (key == "keep-template") function.keep_template = duration(time);
        if (key == "runs") function.pool.mean_run = duration(time);
        if (key == "start") function.start_time = duration(time);
        if (key == "init") function.init_time = duration(time);
        if (key == "start") function.rhythm.emplace();
        continue;
      }
      EXPECT_TRUE(words >> value) << "no number after \"" << key << "\"";
      if (key == "own") {
        function.own_bytes = value << 20;
      } else if (key == "provisioned") {
        function.pool.provisioned = static_cast<int>(value);
      } else if (key == "memory") {
        function.pool.instance_bytes = function.pool.template_bytes = value << 20;
      } else if (key == "reserved") {
        function.pool.reserved_concurrency = static_cast<int>(value);
      } else if (key == "template") {  // it is there already
        function.pool.template_state = TemplateState::ready;
        function.pool.template_bytes = value << 20;
        function.pool.template_measured = true;
        node_.memory_reserved += function.pool.template_bytes;
      } else {
        ADD_FAILURE() << "a function has no \"" << key << "\"";
      }
    }
  }

  void at(std::istringstream& words) {
    std::string when, verb, token;
    words >> when >> verb;
    advance_to(MonoTime{duration(when)});
    std::string name = functions_.begin()->first;
    int count = 1;
    int64_t megabytes = 0;
    while (words >> token) {
      if (functions_.contains(token) || environments_.contains(token)) {
        name = token;
      } else if (token.starts_with("x")) {
        count = std::stoi(token.substr(1));
      } else {
        megabytes = std::stoll(token);
      }
    }
    if (verb == "grow") {
      grow(environments_.at(name), megabytes << 20);
    } else {
      event(functions_.at(name), verb, count, megabytes);
    }
    look_everywhere();
  }

  void grow(Environment& environment, int64_t bytes) {
    ASSERT_TRUE(environment.running);
    node_.memory_reserved += bytes - environment.bytes;
    environment.bytes = bytes;
    node_.evictable = evictable(nullptr);
    for (const auto& victim : give_way(node_)) evict(victim);
  }

  void event(Function& function, const std::string& verb, int count, int64_t megabytes) {
    auto& pool = function.pool;
    if (verb == "template") {
      ASSERT_EQ(pool.template_state, TemplateState::starting);
      pool.template_state = TemplateState::ready;
      pool.template_measured = true;
      function.template_ready = now_;
      node_.building_ahead -= std::exchange(function.building_ahead, false) ? 1 : 0;
      node_.memory_reserved += (megabytes << 20) - pool.template_bytes;
      pool.template_bytes = megabytes << 20;
    } else if (verb == "init-fails") {
      ASSERT_EQ(pool.template_state, TemplateState::starting);
      pool.template_state = TemplateState::none;
      node_.building_ahead -= std::exchange(function.building_ahead, false) ? 1 : 0;
      node_.memory_reserved -= pool.template_bytes;
      function.waiting.clear();
      fail(pool);
    } else if (verb == "deploy") {
      pool.deployed = now_;
    } else if (verb == "retire") {
      pool.retired = true;
    } else {
      for (int i = 0; i < count; ++i) one_event(function, verb);
    }
  }

  void one_event(Function& function, const std::string& verb) {
    auto& pool = function.pool;
    if (verb == "call") {
      const bool rested = pool.busy + pool.starting == 0 && function.waiting.empty() && pool.last_used > MonoTime{};
      if (rested && function.rhythm) function.rhythm->rested(now_ - pool.last_used);
      function.waiting.push_back(now_ + queue_limit_);
      pool.last_used = now_;
    } else if (verb == "ready") {
      ASSERT_GT(pool.starting--, 0);
      --node_.starting;
      count_running(function, -1);
      function.idle.push_back(now_);
    } else if (verb == "done") {
      ASSERT_GT(pool.busy--, 0);
      count_running(function, -1);
      pool.last_used = now_;
      pool.failures = 0;
      function.idle.push_back(now_);
    } else if (verb == "crash" || verb == "timeout") {
      ASSERT_GT(pool.busy--, 0);
      count_running(function, -1);
      node_.memory_reserved -= pool.instance_bytes;
      if (verb == "crash") fail(pool);
    } else if (verb == "parked-dies") {
      ASSERT_FALSE(function.parked.empty());
      end_parked(function, 1);
    } else if (verb == "idle-dies") {
      ASSERT_FALSE(function.idle.empty());
      function.idle.pop_front();
      node_.memory_reserved -= pool.instance_bytes;
      fail(pool);
    } else {
      ASSERT_EQ(verb, "tick");
    }
  }

  void fail(PoolState& pool) {
    ++pool.failures;
    pool.last_failure = now_;
  }
  void count_running(Function& function, int by) {
    function.pool.function_running += by;
    tenant_running_[function.tenant] += by;
  }

  void advance_to(MonoTime until) {
    ASSERT_GE(until, now_);
    while (true) {
      std::optional<MonoTime> next;
      for (const auto& [name, function] : functions_) {
        if (function.look_at && (!next || *function.look_at < *next)) next = function.look_at;
      }
      if (!next || *next > until) break;
      now_ = std::max(now_, *next);
      look_everywhere();
    }
    now_ = until;
  }

  void look_everywhere() {
    bool changed = true;
    for (int rounds = 0; changed; ++rounds) {
      ASSERT_LT(rounds, 10'000) << "decide() never comes to rest";
      changed = false;
      for (auto& [name, function] : functions_) changed = look(name, function) || changed;
    }
  }

  int64_t tenant_held(const std::string& tenant) const {
    int64_t held = 0;
    for (const auto& [name, function] : functions_) held += function.tenant == tenant ? function.held() : 0;
    return held;
  }
  int64_t fair_share() const {
    std::set<std::string> tenants;
    for (const auto& [name, function] : functions_) {
      if (function.held() > 0 || !function.waiting.empty()) tenants.insert(function.tenant);
    }
    return node_.memory_budget / std::max<int64_t>(1, std::ssize(tenants));
  }
  Holding holding(const Function& function) {
    return {&*tenants_.insert(function.tenant).first, tenant_held(function.tenant), function.held(),
            function.pool.instance_bytes};
  }

  int64_t owed(const Function& asking, int64_t share) {
    int64_t most = 0;
    for (const auto& [name, other] : functions_) {
      if (&other == &asking || !other.short_of_node || other.waiting.empty()) continue;
      if (goes_first(holding(other), holding(asking), share)) most = std::max(most, other.pool.instance_bytes);
    }
    return most;
  }

  bool can_park(const Function& function) const {
    return std::ssize(function.parked) < policy_.parked_most && function.keep_parked > policy_.idle_instance &&
           may_park(function.pool, function.own_bytes, policy_);
  }

  void list_environments(const Function* asking, std::vector<Evictable>& all) {
    for (auto& [name, environment] : environments_) {
      if (!environment.running || (asking != nullptr && asking->environment == name)) continue;
      int in_use = 0;
      for (auto& [other, function] : functions_) {
        const bool has_template = function.pool.template_state == TemplateState::starting ||
                                  function.pool.template_state == TemplateState::ready;
        const bool unused = std::any_of(all.begin(), all.end(), [&function = function](const auto& one) {
          return one.kind == Evictable::Kind::unused_template && one.owner == &function;
        });
        in_use += function.environment == name && has_template && !unused ? 1 : 0;
      }
      if (in_use > 0) continue;
      all.push_back({Evictable::Kind::unused_environment, &environment, environment.bytes, environment.used});
    }
  }

  std::vector<Evictable> evictable(const Function* asking) {
    std::vector<Evictable> all;
    const int64_t share = fair_share();
    for (auto& [name, other] : functions_) {
      if (&other == asking) continue;
      const bool poorer = asking && other.tenant != asking->tenant && tenant_held(other.tenant) <= share;
      auto& pool = other.pool;
      pool.idle = static_cast<int>(other.idle.size());
      const int idle = other.waiting.empty() ? surplus_idle(pool)
                                             : std::min(surplus_idle(pool), instances_owed(pool, owed(other, share)));
      for (int i = 0; i < idle; ++i) {
        const int64_t freed = pool.instance_bytes - (can_park(other) ? other.own_bytes : 0);
        all.push_back({Evictable::Kind::idle, &other, freed, other.idle[static_cast<size_t>(i)], poorer});
      }
      if (!other.waiting.empty()) continue;
      for (const auto since : other.parked) {
        all.push_back({Evictable::Kind::parked, &other, other.own_bytes, since, poorer});
      }
      if (pool.busy + pool.starting + pool.idle == 0 && other.parked.empty() &&
          pool.template_state == TemplateState::ready) {
        all.push_back({Evictable::Kind::unused_template, &other, pool.template_bytes, other.template_used(), poorer});
      }
    }
    list_environments(asking, all);
    return all;
  }

  bool look(const std::string& name, Function& function) {
    auto& pool = function.pool;
    pool.waiting = static_cast<int>(function.waiting.size());
    pool.idle = static_cast<int>(function.idle.size());
    pool.parked = static_cast<int>(function.parked.size());
    if (!function.waiting.empty()) pool.first_deadline = function.waiting.front();
    if (!function.idle.empty()) pool.longest_idle_since = function.idle.front();
    if (!function.parked.empty()) pool.longest_parked_since = function.parked.front();
    pool.longest_idle_bytes = pool.last_parked_bytes = function.own_bytes;
    if (function.rhythm) {
      const auto worth = [&](Duration time) { return policy_.worth * std::chrono::duration<double>(time).count(); };
      const auto& rhythm = *function.rhythm;
      function.keep_parked = rhythm.keep(function.own_bytes, worth(function.start_time), policy_.keep_most);
      function.keep_template = rhythm.keep(pool.template_bytes, worth(function.init_time), policy_.keep_most);
      const auto due = rhythm.next_call();
      pool.next_call.reset();
      if (due) pool.next_call = Window{pool.last_used + due->from, pool.last_used + due->until};
    }
    pool.keep_parked = function.keep_parked;
    pool.keep_template = function.keep_template;
    node_.evictable = evictable(&function);
    const auto environment = environments_.find(function.environment);
    const bool to_start = environment != environments_.end() && !environment->second.running;
    pool.environment_bytes = to_start && pool.template_state == TemplateState::none ? environment->second.bytes : 0;
    node_.tenant_running = tenant_running_[function.tenant];
    node_.tenant_bytes = tenant_held(function.tenant);
    const int64_t share = node_.fair_share = fair_share();
    node_.owed_bytes = owed(function, share);
    node_.callers_wait = std::any_of(functions_.begin(), functions_.end(), [&](const auto& one) {
      return &one.second != &function && one.second.waits_for_node();
    });
    PoolState seen = pool;
    seen.last_used = function.template_used();
    const auto decision = decide(seen, node_, now_, policy_);
    function.short_of_node = decision.short_of_node;
    function.look_at = decision.look_again;
    return act(name, function, decision);
  }

  bool act(const std::string& name, Function& function, const Decision& decision) {
    auto& pool = function.pool;
    bool changed = false;
    const auto did = [&](const std::string& what, int count) {
      if (count > 0) happened_[name + " " + what] += count;
      changed = changed || count > 0;
    };
    if (decision.expire_first) function.waiting.pop_front();
    did("expire", decision.expire_first ? 1 : 0);
    for (int i = 0; i < decision.refuse; ++i) function.waiting.pop_back();
    did("refuse " + refusal_name(decision.refusal), decision.refuse);
    for (int i = 0; i < decision.run; ++i) {
      ASSERT_TRUE_OR_STOP(!function.idle.empty() && !function.waiting.empty());
      function.idle.pop_back();
      function.waiting.pop_front();
      ++pool.busy;
      count_running(function, 1);
    }
    did("run", decision.run);
    for (const auto& victim : decision.evict) evict(victim);
    if (decision.thaw) {
      function.waiting.pop_front();
      std::rotate(function.parked.begin(), std::prev(function.parked.end()), function.parked.end());
      end_parked(function, 1);
      node_.memory_reserved += pool.instance_bytes;
      ++pool.busy;
      count_running(function, 1);
    }
    did("thaw", decision.thaw ? 1 : 0);
    if (decision.start_template || decision.build_ahead) {
      pool.deployed.reset();
      function.building_ahead = decision.build_ahead;
      node_.building_ahead += decision.build_ahead ? 1 : 0;
      pool.template_state = TemplateState::starting;
      node_.memory_reserved += pool.template_bytes + pool.environment_bytes;
      if (const auto found = environments_.find(function.environment); found != environments_.end()) {
        found->second.running = true;
        found->second.used = now_;
      }
    }
    did("start-template", decision.start_template ? 1 : 0);
    did("build-ahead", decision.build_ahead ? 1 : 0);
    if (decision.start > 0 && pool.busy > 0 && !function.waiting.empty()) ++pool.late_starts;
    pool.starting += decision.start;
    node_.starting += decision.start;
    count_running(function, decision.start);
    node_.memory_reserved += decision.start * pool.instance_bytes;
    did("start", decision.start);
    if (decision.park) park(function);
    did("park", decision.park ? 1 : 0);
    end_parked(function, decision.end_parked);
    did("end-parked", decision.end_parked);
    for (int i = 0; i < decision.end_idle; ++i) function.idle.pop_front();
    node_.memory_reserved -= decision.end_idle * pool.instance_bytes;
    did("end", decision.end_idle);
    if (decision.end_template) {
      pool.template_state = TemplateState::none;
      node_.memory_reserved -= pool.template_bytes;
    }
    did("end-template", decision.end_template ? 1 : 0);
    EXPECT_LE(node_.memory_reserved, node_.memory_budget);
    EXPECT_LE(tenant_running_[function.tenant], policy_.account_concurrency);
    EXPECT_LE(node_.building_ahead, policy_.builds_ahead);
    EXPECT_LE(node_.memory_parked, std::max(int64_t{0}, parked_budget(node_.memory_budget, policy_)));
    EXPECT_LE(pool.function_running, pool.reserved_concurrency.value_or(INT32_MAX));
    return changed;
  }
  static void ASSERT_TRUE_OR_STOP(bool holds) {
    if (!holds) throw std::logic_error("decide() ran an invocation that is not there");
  }

  void park(Function& function) {
    function.parked.push_back(function.idle.front());
    function.idle.pop_front();
    node_.memory_reserved += function.own_bytes - function.pool.instance_bytes;
    node_.memory_parked += function.own_bytes;
  }
  void end_parked(Function& function, int count) {
    for (int i = 0; i < count; ++i) function.parked.pop_front();
    node_.memory_reserved -= count * function.own_bytes;
    node_.memory_parked -= count * function.own_bytes;
  }

  void evict(const Evictable& victim) {
    if (victim.kind == Evictable::Kind::unused_environment) {
      for (auto& [name, environment] : environments_) {
        if (&environment != victim.owner) continue;
        environment.running = false;
        node_.memory_reserved -= environment.bytes;
        ++happened_[name + " evict-environment"];
      }
      return;
    }
    auto& other = *static_cast<Function*>(victim.owner);
    const auto did = [&](const std::string& what) {
      for (const auto& [name, function] : functions_) {
        if (&function == &other) ++happened_[name + " " + what];
      }
    };
    if (victim.kind == Evictable::Kind::parked) {
      did("evict-parked");
      end_parked(other, 1);
    } else if (victim.kind == Evictable::Kind::unused_template) {
      did("evict-template");
      other.pool.template_state = TemplateState::none;
      node_.memory_reserved -= victim.bytes;
    } else if (can_park(other)) {
      did("park");
      park(other);
    } else {
      did("evict");
      other.idle.pop_front();
      node_.memory_reserved -= victim.bytes;
    }
  }

  // "start x5, refuse queue_full x2, b run, waiting x3": all that happened since the last expectation, and no more.
  void expect(const std::string& text) {
    ++expectations_;
    std::map<std::string, int> wanted;
    std::istringstream items(text);
    std::string item;
    while (std::getline(items, item, ',')) {
      std::istringstream words(item);
      std::string name = functions_.begin()->first, what, token;
      int count = 1;
      while (words >> token) {
        if (functions_.contains(token) || environments_.contains(token)) {
          name = token;
        } else if (token.size() > 1 && token[0] == 'x' && std::isdigit(static_cast<unsigned char>(token[1])) != 0) {
          count = std::stoi(token.substr(1));
        } else {
          what += (what.empty() ? "" : " ") + token;
        }
      }
      if (what == "nothing") continue;
      if (what == "waiting") {
        EXPECT_EQ(functions_.at(name).waiting.size(), static_cast<size_t>(count)) << name << " waiting";
      } else {
        wanted[name + " " + what] = count;
      }
    }
    EXPECT_EQ(happened_, wanted);
    happened_.clear();
  }

  MonoTime now_{};
  NodeState node_{.memory_budget = 8LL << 30};
  ScalingPolicy policy_{.idle_instance = Millis{5'000}};
  Duration queue_limit_ = Millis{10'000};
  std::map<std::string, Function> functions_;
  std::map<std::string, Environment> environments_;
  std::map<std::string, int> tenant_running_;
  std::set<std::string> tenants_;
  std::map<std::string, int> happened_;
  int expectations_ = 0;
};

std::vector<std::string> scenarios() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(SUNDOG_SCENARIOS)) {
    if (entry.path().extension() == ".txt") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class Scenario : public testing::TestWithParam<std::string> {};

TEST_P(Scenario, Plays) {
  std::ifstream file(Path(SUNDOG_SCENARIOS) / (GetParam() + ".txt"));
  Stage stage;
  std::string text;
  for (int number = 1; std::getline(file, text); ++number) {
    if (text.empty() || text[0] == '#') continue;
    SCOPED_TRACE(GetParam() + ".txt:" + std::to_string(number) + ": " + text);
    stage.line(text);
    if (HasFatalFailure()) return;
  }
  EXPECT_TRUE(stage.expected_anything());
}

INSTANTIATE_TEST_SUITE_P(Scaling, Scenario, testing::ValuesIn(scenarios()),
                         [](const auto& info) { return info.param; });

TEST(Scenarios, AreThere) {
  EXPECT_GE(scenarios().size(), 15U);
}

}  // namespace
}  // namespace sundog::invoke
