// Plays the text scenarios of tests/scaling over decide(). tests/scaling/README.md tells their words.
#include "invoke/scaling.h"

#include <gtest/gtest.h>

#include <deque>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "base/file.h"

namespace sundog::invoke {
namespace {

struct Function {
  PoolState pool;
  std::deque<MonoTime> waiting;  // their deadlines
  std::deque<MonoTime> idle;     // since when, longest first
  std::optional<MonoTime> look_at;
};

std::string refusal_name(Refusal why) {
  switch (why) {
    case Refusal::queue_full:
      return "queue_full";
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
    while (words >> key >> value) {
      if (key == "memory") node_.memory_budget = value << 20;
      if (key == "account") policy_.account_concurrency = static_cast<int>(value);
      if (key == "starts") policy_.starts_at_once = static_cast<int>(value);
    }
  }
  void set_policy(std::istringstream& words) {
    std::string key, value;
    while (words >> key >> value) {
      if (key == "queue") policy_.queue_length = std::stoul(value);
      if (key == "limit") queue_limit_ = duration(value);
      if (key == "idle") policy_.idle_instance = std::chrono::duration_cast<Millis>(duration(value));
      if (key == "failures") policy_.free_failures = std::stoi(value);
    }
  }
  void add_function(std::istringstream& words) {
    std::string name, key;
    words >> name;
    auto& function = functions_[name];
    function.pool.instance_bytes = function.pool.template_bytes = 128LL << 20;
    while (words >> key) {
      int64_t value = 0;
      if (key == "native") {
        function.pool.parked = TemplateState::not_needed;
        continue;
      }
      words >> value;
      if (key == "memory") function.pool.instance_bytes = function.pool.template_bytes = value << 20;
      if (key == "reserved") function.pool.reserved_concurrency = static_cast<int>(value);
      if (key == "template") {  // it is there already
        function.pool.parked = TemplateState::ready;
        function.pool.template_bytes = value << 20;
        function.pool.template_measured = true;
        node_.memory_reserved += function.pool.template_bytes;
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
      if (functions_.contains(token)) {
        name = token;
      } else if (token.starts_with("x")) {
        count = std::stoi(token.substr(1));
      } else {
        megabytes = std::stoll(token);
      }
    }
    event(functions_.at(name), verb, count, megabytes);
    look_everywhere();
  }

  void event(Function& function, const std::string& verb, int count, int64_t megabytes) {
    auto& pool = function.pool;
    if (verb == "template") {
      ASSERT_EQ(pool.parked, TemplateState::starting);
      pool.parked = TemplateState::ready;
      pool.template_measured = true;
      node_.memory_reserved += (megabytes << 20) - pool.template_bytes;
      pool.template_bytes = megabytes << 20;
    } else if (verb == "init-fails") {
      ASSERT_EQ(pool.parked, TemplateState::starting);
      pool.parked = TemplateState::none;
      node_.memory_reserved -= pool.template_bytes;
      function.waiting.clear();
      fail(pool);
    } else if (verb == "retire") {
      pool.retired = true;
    } else {
      for (int i = 0; i < count; ++i) one_event(function, verb);
    }
  }

  void one_event(Function& function, const std::string& verb) {
    auto& pool = function.pool;
    if (verb == "call") {
      function.waiting.push_back(now_ + queue_limit_);
      pool.last_used = now_;
    } else if (verb == "ready") {
      ASSERT_GT(pool.starting--, 0);
      --node_.starting;
      count_running(pool, -1);
      function.idle.push_back(now_);
    } else if (verb == "done") {
      ASSERT_GT(pool.busy--, 0);
      count_running(pool, -1);
      pool.last_used = now_;
      pool.failures = 0;
      function.idle.push_back(now_);
    } else if (verb == "crash" || verb == "timeout") {
      ASSERT_GT(pool.busy--, 0);
      count_running(pool, -1);
      node_.memory_reserved -= pool.instance_bytes;
      if (verb == "crash") fail(pool);
    } else {
      ASSERT_EQ(verb, "tick");
    }
  }

  void fail(PoolState& pool) {
    ++pool.failures;
    pool.last_failure = now_;
  }
  void count_running(PoolState& pool, int by) {
    pool.function_running += by;
    node_.tenant_running += by;
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

  std::vector<Evictable> evictable(const Function& asking) {
    std::vector<Evictable> all;
    for (auto& [name, other] : functions_) {
      if (&other == &asking || !other.waiting.empty()) continue;
      for (const auto since : other.idle) {
        all.push_back({Evictable::Kind::instance, &other, other.pool.instance_bytes, since});
      }
      const auto& pool = other.pool;
      if (other.idle.empty() && pool.busy + pool.starting == 0 && pool.parked == TemplateState::ready) {
        all.push_back({Evictable::Kind::parked_template, &other, pool.template_bytes, pool.last_used});
      }
    }
    return all;
  }

  bool look(const std::string& name, Function& function) {
    auto& pool = function.pool;
    pool.waiting = static_cast<int>(function.waiting.size());
    pool.idle = static_cast<int>(function.idle.size());
    if (!function.waiting.empty()) pool.first_deadline = function.waiting.front();
    if (!function.idle.empty()) pool.longest_idle_since = function.idle.front();
    node_.evictable = evictable(function);
    const auto decision = decide(pool, node_, now_, policy_);
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
      count_running(pool, 1);
    }
    did("run", decision.run);
    for (const auto& victim : decision.evict) evict(victim);
    if (decision.start_template) {
      pool.parked = TemplateState::starting;
      node_.memory_reserved += pool.template_bytes;
    }
    did("start-template", decision.start_template ? 1 : 0);
    pool.starting += decision.start;
    node_.starting += decision.start;
    count_running(pool, decision.start);
    node_.memory_reserved += decision.start * pool.instance_bytes;
    did("start", decision.start);
    for (int i = 0; i < decision.end_idle; ++i) function.idle.pop_front();
    node_.memory_reserved -= decision.end_idle * pool.instance_bytes;
    did("end", decision.end_idle);
    if (decision.end_template) {
      pool.parked = TemplateState::none;
      node_.memory_reserved -= pool.template_bytes;
    }
    did("end-template", decision.end_template ? 1 : 0);
    EXPECT_LE(node_.memory_reserved, node_.memory_budget);
    EXPECT_LE(node_.tenant_running, policy_.account_concurrency);
    EXPECT_LE(pool.function_running, pool.reserved_concurrency.value_or(INT32_MAX));
    return changed;
  }
  static void ASSERT_TRUE_OR_STOP(bool holds) {
    if (!holds) throw std::logic_error("decide() ran an invocation that is not there");
  }

  void evict(const Evictable& victim) {
    auto& other = *static_cast<Function*>(victim.owner);
    const bool instance = victim.kind == Evictable::Kind::instance;
    for (const auto& [name, function] : functions_) {
      if (&function == &other) ++happened_[name + (instance ? " evict" : " evict-template")];
    }
    if (instance) {
      ASSERT_FALSE(other.idle.empty());
      other.idle.pop_front();
    } else {
      other.pool.parked = TemplateState::none;
    }
    node_.memory_reserved -= victim.bytes;
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
        if (functions_.contains(token)) {
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
  ScalingPolicy policy_;
  Duration queue_limit_ = Millis{10'000};
  std::map<std::string, Function> functions_;
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
