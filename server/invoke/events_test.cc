#include "invoke/events.h"

#include <gmock/gmock.h>

#include "invoke/event_body.h"
#include "invoke/test_world.h"
#include "store/sqlite_queue.h"

namespace sundog::invoke {
namespace {

using sandbox::Outcome;
using std::chrono::hours;
using testing::HasSubstr;

class EventsTest : public testing::Test {
 protected:
  EventsTest() { open(); }
  ~EventsTest() override { close(); }

  void open() {
    queue_ = *store::open_sqlite_queue(world_.folder.path() / "queue.db", world_.clock);
    pool_ = std::make_unique<Pool>("events", Pool::Options{.threads = 2});
    events_ = make_events(world_.loop, world_.clock, *pool_, Log::none(), *queue_, *world_.invoker, world_.budgets, {});
    events_->on_ended([this](const Invocation& invocation, const Result<InvokeResult>&, bool dead) {
      ended_.emplace_back(invocation.payload, dead);
    });
  }
  void close() {
    events_.reset();
    world_.loop.run_pending();
    pool_.reset();
    world_.loop.run_pending();
    queue_.reset();
  }
  std::string accept(const std::string& payload, const std::string& function = "f") {
    Invocation invocation;
    invocation.tenant = "default";
    invocation.function = function;
    invocation.payload = payload;
    std::optional<Result<std::string>> accepted;
    events_->accept(invocation, [&](Result<std::string> id) { accepted = std::move(id); });
    EXPECT_TRUE(world_.loop.run_until([&] { return accepted.has_value(); }));
    EXPECT_TRUE(accepted->ok());
    return **accepted;
  }
  // Turns the clock, a little at a time, until it holds.
  bool eventually(const std::function<bool()>& condition, Duration step = Millis{500}, int steps = 200) {
    for (int i = 0; i < steps; ++i) {
      if (world_.loop.run_until(condition, Millis{50})) return true;
      world_.loop.advance(step);
    }
    return condition();
  }
  int64_t depth(const std::string& function = "f") {
    const auto waiting = queue_->depth(event_queue("default", function));
    return waiting.ok() ? *waiting : -1;
  }
  void outcomes(const std::vector<Outcome::Kind>& kinds) {
    world_.sandbox.invoke_script = [this, kinds](auto&, const sandbox::InvokeRequest& request) {
      const auto kind = kinds[std::min(calls_++, kinds.size() - 1)];
      return TestWorld::outcome(kind, kind == Outcome::Kind::ok ? request.payload : "{\"errorMessage\":\"no\"}");
    };
  }

  TestWorld world_;
  std::unique_ptr<store::Queue> queue_;
  std::unique_ptr<Pool> pool_;
  std::unique_ptr<Events> events_;
  std::vector<std::pair<std::string, bool>> ended_;
  size_t calls_ = 0;
};

TEST_F(EventsTest, DeliversWhatWasAccepted) {
  world_.functions.deploy("f");
  events_->start();
  const auto id = accept("\"hello\"");
  ASSERT_TRUE(eventually([&] { return ended_.size() == 1 && depth() == 0; }));
  EXPECT_EQ(ended_[0], std::pair(std::string("\"hello\""), false));
  EXPECT_EQ(world_.ledger.records.at(0).request_id, id);
}

TEST_F(EventsTest, BytesThatAreNoTextArriveAsTheyWere) {
  world_.functions.deploy("f");
  events_->start();
  const std::string payload("\xff\x00\x80 bytes", 9);
  accept(payload);
  ASSERT_TRUE(eventually([&] { return ended_.size() == 1; }));
  EXPECT_EQ(world_.sandbox.invocations.at(0).payload, payload);
}

TEST_F(EventsTest, RetriesTwiceAndThenBuries) {
  world_.functions.deploy("f");
  outcomes({Outcome::Kind::handler_error});
  events_->start();
  accept("1");
  ASSERT_TRUE(eventually([&] { return ended_.size() == 1 && depth() == 0; }));
  EXPECT_TRUE(ended_[0].second);
  ASSERT_EQ(calls_, 3U);
  for (int i = 0; i < 3; ++i) {
    const auto& usage = world_.ledger.records.at(static_cast<size_t>(i));
    EXPECT_TRUE(usage.id.starts_with(usage.request_id + "-" + std::to_string(i + 1) + "-")) << usage.id;
  }
  // Waits of one and of four seconds lay between.
  EXPECT_GE(world_.ledger.records[1].ended - world_.ledger.records[0].ended, Millis{1'000});
  EXPECT_GE(world_.ledger.records[2].ended - world_.ledger.records[1].ended, Millis{4'000});
  const auto dead = queue_->dead_letters("events/default/f", 0, 10);
  ASSERT_TRUE(dead.ok());
  ASSERT_EQ(dead->size(), 1U);
  EXPECT_THAT((*dead)[0].reason, HasSubstr("Unhandled"));
  EXPECT_EQ(parse_event((*dead)[0].body)->invocation.payload, "1");
}

TEST_F(EventsTest, ASecondAttemptThatWorksIsTheLast) {
  world_.functions.deploy("f");
  outcomes({Outcome::Kind::exited, Outcome::Kind::ok});
  events_->start();
  accept("1");
  ASSERT_TRUE(eventually([&] { return ended_.size() == 1 && depth() == 0; }));
  EXPECT_FALSE(ended_[0].second);
  EXPECT_EQ(calls_, 2U);
}

TEST_F(EventsTest, NoRoomUsesUpNoAttempt) {
  world_.functions.deploy("f");
  world_.functions.deployed["f"].reserved = 0;
  events_->start();
  accept("1");
  EXPECT_FALSE(eventually([&] { return !ended_.empty(); }, Millis{1'000}, 20));
  EXPECT_EQ(calls_, 0U);
  world_.functions.deployed["f"].reserved = 1;
  ASSERT_TRUE(eventually([&] { return ended_.size() == 1; }));
  EXPECT_FALSE(ended_[0].second);
  EXPECT_TRUE(world_.ledger.records.at(0).id.starts_with(world_.ledger.records[0].request_id + "-1-"));
}

TEST_F(EventsTest, WhatEndsWhileItStartsUsesUpNoAttempt) {
  world_.functions.deploy("f");
  int forks = 0;
  world_.sandbox.fork_script = [&forks](const std::string&) -> std::optional<Error> {
    if (++forks > 11) return std::nullopt;
    return fail(Code::cancelled, "The template was ended.");
  };
  events_->start();
  accept("1");
  ASSERT_TRUE(eventually([&] { return !ended_.empty(); }, Millis{1'000}));
  EXPECT_FALSE(ended_[0].second);
  EXPECT_TRUE(world_.ledger.records.at(0).id.starts_with(world_.ledger.records[0].request_id + "-1-"));
}

TEST_F(EventsTest, AnEventThatFindsNoRoomForSixHoursIsBuried) {
  world_.functions.deploy("f");
  world_.functions.deployed["f"].reserved = 0;
  accept("1");
  world_.clock.advance(hours{6});  // nobody delivered it meanwhile
  events_->start();
  EXPECT_FALSE(eventually([&] { return !ended_.empty(); }, Millis{1'000}, 10));
  world_.clock.advance(hours{6});
  ASSERT_TRUE(eventually([&] { return ended_.size() == 1; }));
  EXPECT_TRUE(ended_[0].second);
}

TEST_F(EventsTest, WhatABudgetStopsStaysInTheQueueUntilThereIsMore) {
  world_.functions.deploy("f");
  world_.functions.deploy("g");
  outcomes({Outcome::Kind::ok});
  meter::Budget budget{.tenant = "default", .function = "f"};
  world_.budgets.put(budget);
  events_->start();
  accept("1");
  accept("2", "g");
  ASSERT_TRUE(eventually([&] { return ended_.size() == 1 && depth("g") == 0; }));
  EXPECT_EQ(ended_[0].first, "2") << "another function goes on";
  world_.clock.advance(hours{24 * 14});
  EXPECT_FALSE(eventually([&] { return ended_.size() > 1; }, Millis{1'000}, 10));
  EXPECT_EQ(depth(), 1);
  budget.limit = meter::Money::of_pico(1'000'000'000'000);
  world_.budgets.put(budget);
  ASSERT_TRUE(eventually([&] { return ended_.size() == 2 && depth() == 0; }));
  EXPECT_FALSE(ended_[1].second);
  EXPECT_EQ(calls_, 2U);
}

TEST_F(EventsTest, WhatRunsOutOfBudgetOnItsWayIsNeitherLostNorAnAttempt) {
  world_.functions.deploy("f");
  outcomes({Outcome::Kind::ok});
  world_.sandbox.hold_invocations = true;
  meter::Budget budget{.tenant = "default", .function = ""};
  budget.limit = meter::Money::of_pico(1);  // one is let through
  world_.budgets.put(budget);
  events_->start();
  for (int i = 0; i < 5; ++i) accept(std::to_string(i));
  ASSERT_TRUE(eventually([&] { return world_.sandbox.busy_instances().size() == 1; }));
  world_.sandbox.hold_invocations = false;
  world_.sandbox.busy_instances()[0]->finish(TestWorld::outcome(Outcome::Kind::ok));
  ASSERT_TRUE(eventually([&] { return ended_.size() == 1; }));
  EXPECT_FALSE(eventually([&] { return ended_.size() > 1; }, Millis{1'000}, 10));
  EXPECT_TRUE(eventually([&] { return depth() == 4; }));
  budget.limit = meter::Money::of_pico(1'000'000'000'000);
  world_.budgets.put(budget);
  ASSERT_TRUE(eventually([&] { return ended_.size() == 5 && depth() == 0; }));
  for (const auto& [payload, dead] : ended_) EXPECT_FALSE(dead) << payload;
}

TEST_F(EventsTest, AnEventOfADeletedFunctionIsBuriedAtOnce) {
  events_->start();
  accept("1", "f");
  ASSERT_TRUE(eventually([&] { return ended_.size() == 1; }));
  EXPECT_TRUE(ended_[0].second);
}

TEST_F(EventsTest, WhatAnEarlierServerLeftIsDelivered) {
  world_.functions.deploy("f");
  accept("\"before\"");
  close();
  open();
  events_->start();
  ASSERT_TRUE(eventually([&] { return ended_.size() == 1; }));
  EXPECT_EQ(ended_[0].first, "\"before\"");
}

TEST_F(EventsTest, ALongInvocationKeepsItsMessage) {
  world_.functions.deploy("f", [](auto& version) { version.config.timeout_s = 900; });
  world_.sandbox.hold_invocations = true;
  events_->start();
  accept("1");
  ASSERT_TRUE(eventually([&] { return world_.sandbox.busy_instances().size() == 1; }));
  EXPECT_FALSE(eventually([&] { return world_.sandbox.invocations.size() > 1; }, std::chrono::seconds{10}, 30));
  world_.sandbox.busy_instances()[0]->finish(TestWorld::outcome(Outcome::Kind::ok));
  ASSERT_TRUE(eventually([&] { return ended_.size() == 1 && depth() == 0; }));
}

TEST_F(EventsTest, NeverMoreInFlightThanAllowed) {
  world_.functions.deploy("f");
  world_.sandbox.hold_invocations = true;
  events_ = make_events(world_.loop, world_.clock, *pool_, Log::none(), *queue_, *world_.invoker, world_.budgets,
                        {.parallel = 3});
  events_->on_ended(
      [this](const Invocation&, const Result<InvokeResult>&, bool dead) { ended_.emplace_back("", dead); });
  for (int i = 0; i < 10; ++i) accept(std::to_string(i));
  events_->start();
  size_t most = 0;
  ASSERT_TRUE(eventually(
      [&] {
        const auto busy = world_.sandbox.busy_instances();
        most = std::max(most, busy.size());
        for (auto* instance : busy) instance->finish(TestWorld::outcome(Outcome::Kind::ok));
        return ended_.size() == 10;
      },
      Millis{10}));
  EXPECT_LE(most, 3U);
  EXPECT_GE(most, 2U);
}

TEST(EventBody, KeepsEverything) {
  Event event;
  auto& invocation = event.invocation;
  invocation.tenant = "t";
  invocation.function = "f";
  invocation.qualifier = "live";
  invocation.request_id = "r";
  invocation.payload = "{\"ü\":1}";
  invocation.client_context = "{}";
  invocation.meta = {{"run", "run-1"}};
  invocation.tags = {{"run", "run-1"}};
  invocation.granted_blobs = {"b1", "b2"};
  invocation.kind = functions::Kind::training;
  event.accepted = from_epoch_millis(1'767'225'600'123);
  event.earlier_attempts = 2;
  const auto back = parse_event(event_body(event));
  ASSERT_TRUE(back.ok()) << back.error().text();
  EXPECT_EQ(event_body(*back), event_body(event));
  EXPECT_EQ(back->invocation.payload, invocation.payload);
  EXPECT_EQ(back->invocation.granted_blobs, invocation.granted_blobs);
  EXPECT_EQ(back->invocation.kind, invocation.kind);
  EXPECT_EQ(back->accepted, event.accepted);
}

TEST(EventBody, AnyByteSurvives) {
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      Event event;
      event.invocation.payload = {'x', static_cast<char>(a), static_cast<char>(b), 'y'};
      const auto back = parse_event(event_body(event));
      ASSERT_TRUE(back.ok());
      ASSERT_EQ(back->invocation.payload, event.invocation.payload) << a << " " << b;
    }
  }
}

TEST(EventBody, RefusesWhatIsNotItsOwn) {
  EXPECT_FALSE(parse_event("").ok());
  EXPECT_FALSE(parse_event("[]").ok());
  EXPECT_THAT(parse_event(R"({"format":2})").error().text(), HasSubstr("format 2"));
  EXPECT_FALSE(parse_event(R"({"format":1,"tenant":"t"})").ok());
  EXPECT_FALSE(
      parse_event(R"({"format":1,"tenant":"t","function":"f","request_id":"r","accepted_ms":1,"payload_base64":"!"})")
          .ok());
}

}  // namespace
}  // namespace sundog::invoke
