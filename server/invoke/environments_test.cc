// Templates of environments, which count and give way like what was forked from them.
#include <gmock/gmock.h>

#include "invoke/invoker.h"
#include "invoke/test_world.h"

namespace sundog::invoke {
namespace {

using std::chrono::seconds;

InvokerOptions node_of(int64_t megabytes) {
  InvokerOptions options;
  options.memory_budget_bytes = megabytes << 20;
  options.parked_most = 0;
  return options;
}

// Every function shares one environment, which runs.
void share(TestWorld& world, int64_t megabytes) {
  world.sandbox.shares = [](const auto&) { return "e"; };
  world.sandbox.template_script = [](const auto&) {
    sandbox::FakeSandbox::TemplateScript script;
    script.ready.memory_bytes = 7 << 20;
    return script;
  };
  world.sandbox.environments = {{.id = "e", .tenant = "default", .bytes = megabytes << 20}};
  world.sandbox.tell_shared();
  world.loop.run_pending();
}

TEST(Environments, CountAsWhatTheyTakeNow) {
  TestWorld world(node_of(1000));
  share(world, 80);
  auto fleet = world.invoker->fleet();
  EXPECT_EQ(fleet["environment_bytes"], 80 << 20);
  EXPECT_EQ(fleet["memory_bytes"], 80 << 20);
  world.loop.advance(seconds{2});
  world.sandbox.environments[0].bytes = 100 << 20;
  world.sandbox.tell_shared();
  world.loop.run_pending();
  fleet = world.invoker->fleet();
  EXPECT_EQ(fleet["memory_bytes"], 100 << 20);
  EXPECT_NEAR(fleet["held"]["environments"].get<double>(), 160.0 / 1024, 1e-6);
  EXPECT_NEAR(fleet["held"]["idle"].get<double>(), 0, 1e-6);
  world.sandbox.end_shared("e");
  world.loop.run_pending();
  EXPECT_EQ(world.invoker->fleet()["memory_bytes"], 0);
}

TEST(Environments, AreAskedForWithTheTemplateThatNeedsThem) {
  TestWorld world(node_of(400));
  world.sandbox.shares = [](const auto&) { return "e"; };
  world.sandbox.to_come["e"] = 200 << 20;
  world.sandbox.hold_invocations = true;
  world.functions.deploy("busy", [](auto& version) { version.config.runtime = "native"; });
  world.functions.deploy("f");
  const auto first = world.call("busy");
  world.loop.run_pending();
  const auto waits = world.call("f");  // 128 and 200 beside 128
  world.loop.run_pending();
  EXPECT_EQ(world.sandbox.started.size(), 1U);
  world.sandbox.busy_instances().at(0)->finish(TestWorld::outcome(sandbox::Outcome::Kind::ok));
  world.loop.run_pending();
  EXPECT_EQ(world.sandbox.started.size(), 2U);
}

TEST(Environments, GiveWayAfterTheTemplatesThatWereForkedFromThem) {
  TestWorld world(node_of(400));
  share(world, 200);
  world.functions.deploy("f");
  const auto first = world.call("f");
  world.sandbox.environments[0].functions = 1;
  world.loop.run_pending();
  world.loop.advance(seconds{2});
  EXPECT_EQ(world.alive(), 0U);
  EXPECT_EQ(world.invoker->fleet()["memory_bytes"], 207 << 20);
  world.sandbox.hold_invocations = true;
  world.functions.deploy("large", [](auto& version) {
    version.config.runtime = "native";
    version.config.memory_mb = 300;
  });
  world.call("large");
  world.loop.run_pending();
  EXPECT_TRUE(world.sandbox.environments.empty());
  EXPECT_TRUE(world.sandbox.templates.empty());
  EXPECT_EQ(world.sandbox.busy_instances().size(), 1U);
  EXPECT_EQ(world.invoker->fleet()["memory_bytes"], 300 << 20);
}

TEST(Environments, InUseStayAndThenNobodyGivesWay) {
  TestWorld world(node_of(400));
  share(world, 200);
  world.sandbox.environments[0].functions = 2;  // one of them is nobody's template: an instance that ran init itself
  world.functions.deploy("f");
  const auto first = world.call("f");
  world.loop.run_pending();
  world.loop.advance(seconds{2});
  world.functions.deploy("large", [](auto& version) {
    version.config.runtime = "native";
    version.config.memory_mb = 300;
  });
  const auto waits = world.call("large");
  world.loop.run_pending();
  EXPECT_EQ(world.sandbox.environments.size(), 1U);
  EXPECT_EQ(world.sandbox.templates.size(), 1U);
  EXPECT_EQ(waits->times, 0);
  world.sandbox.environments[0].functions = 1;  // it has ended
  world.sandbox.tell_shared();
  world.loop.run_pending();
  EXPECT_TRUE(waits->result);
}

TEST(Environments, ThatGrowBeyondTheMemoryMakeOthersGiveWay) {
  TestWorld world(node_of(400));
  share(world, 50);
  world.functions.deploy("f");
  const auto first = world.call("f");
  world.sandbox.environments[0].functions = 1;
  world.loop.run_pending();
  EXPECT_EQ(world.alive(), 1U);
  world.sandbox.environments[0].bytes = 300 << 20;
  world.sandbox.tell_shared();
  world.loop.run_pending();
  EXPECT_EQ(world.alive(), 0U) << "it was idle";
  EXPECT_EQ(world.sandbox.environments.size(), 1U);
  EXPECT_EQ(world.invoker->fleet()["memory_bytes"], 307 << 20);
}

}  // namespace
}  // namespace sundog::invoke
