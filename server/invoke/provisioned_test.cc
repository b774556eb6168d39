// Instances that are kept ready, where they cannot be at once.
#include <gmock/gmock.h>

#include "invoke/invoker.h"
#include "invoke/test_world.h"

namespace sundog::invoke {
namespace {

using sandbox::Outcome;
using std::chrono::minutes;
using testing::HasSubstr;

void provision(TestWorld& world, const std::string& name, int count,
               const std::function<void(functions::Version&)>& change = {}) {
  world.functions.deployed[name].provisioned = count;
  world.functions.deploy(name, change);
  world.loop.run_pending();
}

Json provisioned(TestWorld& world) {
  return world.invoker->fleet()["provisioned"].at(0);
}

TEST(Provisioned, WithoutRoomSaysSoKeepsItsTemplateAndStartsOnceThereIsSome) {
  InvokerOptions options;
  options.memory_budget_bytes = (2 * 128LL + 80 + 40) << 20;
  options.parked_most = 0;
  TestWorld world(options);
  world.functions.deploy("a", [](auto& version) { version.config.timeout_s = 900; });
  world.sandbox.hold_invocations = true;
  const auto first = world.call("a");
  world.loop.run_pending();
  provision(world, "f", 1);
  EXPECT_EQ(world.alive(), 1U);
  EXPECT_EQ(provisioned(world)["available"], 0);
  EXPECT_THAT(provisioned(world)["reason"].get<std::string>(), HasSubstr("128 MB, and 288 MB of the server's 376 MB"));
  // A caller for whom its template would make room waits.
  const auto second = world.call("a");
  world.loop.run_pending();
  EXPECT_EQ(world.sandbox.templates.size(), 2U);
  world.loop.advance(minutes{10});
  EXPECT_TRUE(second->error);
  EXPECT_EQ(world.sandbox.templates.size(), 2U);
  EXPECT_EQ(world.sandbox.started.size(), 2U);

  world.sandbox.busy_instances().at(0)->finish(TestWorld::outcome(Outcome::Kind::ok));
  world.loop.run_pending();
  EXPECT_TRUE(first->result);
  EXPECT_EQ(provisioned(world)["available"], 1);
  EXPECT_EQ(provisioned(world)["reason"], "");
}

TEST(Provisioned, StartsWhenOthersStartsAreDone) {
  InvokerOptions options;
  options.cores = 1;  // four starts at once
  TestWorld world(options);
  world.sandbox.hold_forks = true;
  provision(world, "g", 4);
  provision(world, "f", 1);
  EXPECT_EQ(world.sandbox.held_forks(), 4U);
  const auto fleet = world.invoker->fleet();
  for (const auto& one : fleet.at("provisioned")) EXPECT_EQ(one.at("reason"), "");
  world.sandbox.release_fork();
  world.loop.run_pending();
  EXPECT_EQ(world.sandbox.held_forks(), 4U);
  EXPECT_EQ(world.sandbox.forks, 5);
}

TEST(Provisioned, OneThatCrashesBesideAnIdleOneIsReplacedAtOnce) {
  TestWorld world;
  provision(world, "f", 2);
  world.sandbox.hold_invocations = true;
  world.call("f");
  world.loop.run_pending();
  world.sandbox.busy_instances().at(0)->finish(TestWorld::outcome(Outcome::Kind::exited));
  world.loop.run_pending();
  EXPECT_EQ(world.alive(), 2U);
}

TEST(Provisioned, AnEnvironmentThatFailedIsTheReasonAndOneThatIsBeingBuiltIsNone) {
  for (const std::string runtime : {"python3.11", "provided.al2023"}) {
    TestWorld world;
    auto& environment = world.environments.known["e1"];
    environment.python = "3.11";
    environment.state = functions::Environment::State::building;
    provision(world, "f", 1, [&](auto& version) {
      version.config.runtime = runtime;
      version.config.environment_id = "e1";
    });
    EXPECT_EQ(provisioned(world)["reason"], "");
    environment.state = functions::Environment::State::failed;
    world.functions.changed("default", "f");
    world.loop.run_pending();
    EXPECT_THAT(provisioned(world)["reason"].get<std::string>(), HasSubstr("failed to build"));
    environment.state = functions::Environment::State::ready;
    world.functions.changed("default", "f");
    world.loop.run_pending();
    EXPECT_EQ(provisioned(world)["available"], 1) << runtime;
    EXPECT_EQ(provisioned(world)["reason"], "");
  }
}

TEST(Provisioned, APoolThatStillLacksThemGoesWithItsVersion) {
  InvokerOptions options;
  options.memory_budget_bytes = 200LL << 20;
  TestWorld world(options);
  provision(world, "f", 1);
  EXPECT_THAT(provisioned(world)["reason"].get<std::string>(), HasSubstr("no room"));
  world.functions.deployed["f"].provisioned = 0;
  world.functions.deploy("f");
  world.loop.run_pending();
  EXPECT_EQ(world.invoker->fleet()["provisioned"].size(), 0U);
  EXPECT_TRUE(world.sandbox.templates.empty());
}

}  // namespace
}  // namespace sundog::invoke
