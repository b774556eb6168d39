// Templates of deployed versions that are built before anybody calls.
#include <gmock/gmock.h>

#include "invoke/invoker.h"
#include "invoke/test_world.h"

namespace sundog::invoke {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

functions::VersionPtr deploy(TestWorld& world, const std::string& name,
                             const std::function<void(functions::Version&)>& change = {}) {
  auto version = world.functions.deploy(name, change);
  if (world.functions.was_deployed) world.functions.was_deployed(version);
  world.loop.run_pending();
  return version;
}

sandbox::FakeSandbox::TemplateScript small_template(const sandbox::TemplateSpec&) {
  sandbox::FakeSandbox::TemplateScript script;
  script.ready.memory_bytes = 7 << 20;
  return script;
}

void settle(TestWorld& world) {
  world.loop.advance(Millis{250});
  world.loop.run_pending();
}

TEST(BuildAhead, ADeployedVersionsTemplateIsThereBeforeAnybodyCallsAndOnNobodysBill) {
  TestWorld world;
  deploy(world, "f");
  EXPECT_TRUE(world.sandbox.started.empty()) << "the next change may follow at once";
  EXPECT_EQ(world.invoker->fleet()["to_build"], 1);
  settle(world);
  EXPECT_EQ(world.sandbox.templates.size(), 1U);
  EXPECT_EQ(world.alive(), 0U);
  EXPECT_EQ(world.invoker->fleet()["to_build"], 0);
  const auto answer = world.call("f");
  world.loop.run_pending();
  ASSERT_TRUE(answer->result);
  EXPECT_EQ(answer->result->usage.init_ms, 0);
  EXPECT_EQ(world.sandbox.started.size(), 1U);
  EXPECT_EQ(world.ledger.records.size(), 1U);
}

TEST(BuildAhead, AnUnusedTemplateEndsAsEveryOther) {
  TestWorld world;
  deploy(world, "f");
  settle(world);
  EXPECT_EQ(world.invoker->fleet()["template_bytes"], 80 << 20);
  world.loop.advance(seconds{600});
  EXPECT_TRUE(world.sandbox.templates.empty());
  EXPECT_EQ(world.invoker->fleet()["memory_bytes"], 0);
  EXPECT_EQ(world.loop.timers(), 0U);
  EXPECT_EQ(world.sandbox.started.size(), 1U);
}

TEST(BuildAhead, WhoCallsMeanwhileWaitsForItAndPaysForTheInit) {
  TestWorld world;
  world.sandbox.hold_starts = true;
  deploy(world, "f");
  settle(world);
  const auto answer = world.call("f");
  world.loop.advance(Millis{5});
  world.sandbox.release_start();
  world.loop.run_pending();
  ASSERT_TRUE(answer->result);
  EXPECT_EQ(answer->result->usage.billed_init_ms, 20);
  EXPECT_EQ(world.sandbox.started.size(), 1U);
}

TEST(BuildAhead, ABrokenInitIsShownEarlyAndTriedAgainByTheNextCall) {
  TestWorld world;
  bool broken = true;
  world.sandbox.template_script = [&broken](const auto&) {
    sandbox::FakeSandbox::TemplateScript script;
    if (broken) script.failure = {"Runtime.ImportModuleError", "No module named 'x'", {}};
    return script;
  };
  deploy(world, "f");
  settle(world);
  EXPECT_TRUE(world.loop.run_until([&] { return world.functions.reports().size() == 1; }));
  EXPECT_TRUE(world.functions.reports()[0].failed());
  EXPECT_THAT(world.logs.all, HasSubstr("[ERROR] Runtime.ImportModuleError: No module named 'x'"));
  world.loop.advance(seconds{600});
  EXPECT_EQ(world.sandbox.started.size(), 1U);
  EXPECT_TRUE(world.ledger.records.empty());
  broken = false;
  const auto answer = world.call("f");
  world.loop.run_pending();
  ASSERT_TRUE(answer->result);
  EXPECT_EQ(answer->result->function_error, "");
  EXPECT_TRUE(world.loop.run_until([&] { return world.functions.reports().size() == 2; }));
  EXPECT_FALSE(world.functions.reports()[1].failed());
}

TEST(BuildAhead, WhyInitRunsInEachInstanceIsReportedOnceAndTakenBack) {
  TestWorld world;
  bool safe = false;
  world.sandbox.template_script = [&safe](const auto&) {
    sandbox::FakeSandbox::TemplateScript script;
    script.ready.fork_safe = safe;
    script.ready.reason = safe ? "" : "1 thread was left running by init";
    return script;
  };
  deploy(world, "f");
  settle(world);
  EXPECT_TRUE(world.loop.run_until([&] { return world.functions.reports().size() == 1; }));
  EXPECT_FALSE(world.functions.reports()[0].failed());
  EXPECT_EQ(world.functions.reports()[0].said.start_reason, "1 thread was left running by init");
  world.loop.advance(seconds{600});
  world.call("f");
  world.loop.run_pending();
  EXPECT_EQ(world.sandbox.started.size(), 2U);
  world.loop.advance(seconds{600});
  safe = true;
  world.call("f");
  world.loop.run_pending();
  EXPECT_EQ(world.sandbox.started.size(), 3U);
  EXPECT_TRUE(world.loop.run_until([&] { return world.functions.reports().size() == 2; }));
  EXPECT_EQ(world.functions.reports()[1].said.start_reason, "");
}

TEST(BuildAhead, AThousandDeploysInARowAreBuiltOneByOneInThreeQuartersOfTheMemory) {
  TestWorld world;
  world.sandbox.template_script = small_template;
  world.sandbox.hold_starts = true;
  for (int i = 0; i < 1000; ++i) deploy(world, "f" + std::to_string(i));
  settle(world);
  EXPECT_EQ(world.invoker->fleet()["to_build"], 1000);
  while (world.sandbox.held_starts() > 0) {
    ASSERT_EQ(world.sandbox.held_starts(), 1U);
    world.sandbox.release_start();
    world.loop.run_pending();
  }
  const auto fleet = world.invoker->fleet();
  const int64_t built = std::ssize(world.sandbox.templates);
  EXPECT_EQ(fleet["to_build"], 1000 - built);
  EXPECT_EQ(fleet["memory_bytes"], built * (7 << 20));
  EXPECT_LE(built * 7, 3072);
  EXPECT_GT((built + 1) * 7 + 128, 3072);
  // The next caller has its own at once.
  const auto answer = world.call("f999");
  world.loop.run_pending();
  world.sandbox.release_start();
  world.loop.run_pending();
  EXPECT_TRUE(answer->result);
  // Once something has gone, another one is built.
  world.sandbox.hold_starts = false;
  world.loop.advance(std::chrono::hours{5});
  EXPECT_EQ(world.invoker->fleet()["to_build"], 0);
  EXPECT_EQ(world.sandbox.started.size(), 1000U);
}

TEST(BuildAhead, WaitsForThoseWhoseCallersWaitForAStart) {
  TestWorld world;
  world.functions.deploy("busy");
  world.sandbox.hold_forks = true;
  const auto answer = world.call("busy");
  world.loop.run_pending();
  deploy(world, "f");
  settle(world);
  EXPECT_EQ(world.sandbox.started.size(), 1U);
  world.sandbox.release_fork();
  world.loop.run_pending();
  EXPECT_TRUE(answer->result);
  EXPECT_EQ(world.sandbox.started.size(), 2U);
}

TEST(BuildAhead, DoesNotWaitForWhoHasReachedTheConcurrencyOfHisOwn) {
  TestWorld world;
  world.functions.deploy("busy");
  world.functions.deployed["busy"].reserved = 1;
  world.sandbox.hold_invocations = true;
  const auto first = world.call("busy"), second = world.call("busy");
  world.loop.run_pending();
  deploy(world, "f");
  settle(world);
  EXPECT_EQ(world.sandbox.started.size(), 2U);
  EXPECT_EQ(second->times, 0);
}

TEST(BuildAhead, APublishedVersionIsBuiltInPlaceOfTheLatest) {
  TestWorld world;
  auto latest = world.functions.deploy("f");
  auto one = std::make_shared<functions::Version>(*latest);
  one->version = "1";
  world.functions.published["f:1"] = one;
  world.functions.was_deployed(latest);
  world.functions.was_deployed(one);
  settle(world);
  EXPECT_EQ(world.sandbox.templates.size(), 1U);
  EXPECT_EQ(world.invoker->fleet()["templates"][0]["version"], "1");
}

TEST(BuildAhead, AReplacedVersionIsNotBuilt) {
  TestWorld world;
  deploy(world, "f");
  deploy(world, "f");
  settle(world);
  world.loop.advance(seconds{1});
  EXPECT_EQ(world.sandbox.started.size(), 1U);
  EXPECT_EQ(world.invoker->fleet()["to_build"], 0);
}

TEST(BuildAhead, NothingIsBuiltWhereItIsSwitchedOffOrSpentOrDraining) {
  TestWorld off(InvokerOptions{.prebuild = false});
  deploy(off, "f");
  settle(off);
  EXPECT_TRUE(off.sandbox.started.empty());

  TestWorld spent;
  spent.budgets.put({.tenant = "default", .limit = *meter::parse_money("0")});
  deploy(spent, "f");
  settle(spent);
  EXPECT_TRUE(spent.sandbox.started.empty());

  TestWorld draining;
  deploy(draining, "f");
  draining.invoker->drain(seconds{1}, [] {});
  deploy(draining, "g");
  settle(draining);
  EXPECT_TRUE(draining.sandbox.started.empty());
}

TEST(BuildAhead, WithoutItsEnvironmentItIsLeftToTheFirstCall) {
  TestWorld world;
  deploy(world, "f", [](auto& version) { version.config.environment_id = "gone"; });
  settle(world);
  EXPECT_TRUE(world.sandbox.started.empty());
  EXPECT_EQ(world.invoker->fleet()["to_build"], 0);
  EXPECT_EQ(world.invoker->fleet()["memory_bytes"], 0);
}

}  // namespace
}  // namespace sundog::invoke
