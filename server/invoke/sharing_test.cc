// How pools share a node: provisioned instances, floods, and queues that cannot be served in time.
#include <gmock/gmock.h>

#include "invoke/invoker.h"
#include "invoke/test_world.h"

namespace sundog::invoke {
namespace {

using sandbox::Outcome;
using std::chrono::hours;
using std::chrono::seconds;
using testing::HasSubstr;

// Room for four instances of 128 MB and two templates of 80.
InvokerOptions small_node() {
  InvokerOptions options;
  options.memory_budget_bytes = (4 * 128LL + 2LL * 80) << 20;
  options.parked_most = 0;
  return options;
}

Invocation by(const std::string& tenant, const std::string& function) {
  Invocation invocation;
  invocation.tenant = tenant;
  invocation.function = function;
  invocation.payload = "{}";
  return invocation;
}

size_t count(const std::vector<std::shared_ptr<Answer>>& answers, bool refused) {
  return static_cast<size_t>(std::count_if(answers.begin(), answers.end(), [&](const auto& one) {
    return refused ? one->error.has_value() : one->result.has_value();
  }));
}

void finish_first(TestWorld& world) {
  world.sandbox.busy_instances().at(0)->finish(TestWorld::outcome(Outcome::Kind::ok));
  world.loop.run_pending();
}

TEST(Sharing, ProvisionedInstancesAreThereBeforeAnybodyCallsAndStay) {
  TestWorld world;
  world.functions.deployed["f"].provisioned = 2;
  world.functions.deploy("f");
  world.loop.run_pending();
  EXPECT_EQ(world.alive(), 2U);
  world.loop.advance(hours{10});
  const auto fleet = world.invoker->fleet();
  ASSERT_EQ(fleet["instances"].size(), 2U);
  for (const auto& one : fleet["instances"]) EXPECT_EQ(one["state"], "idle");
  EXPECT_EQ(fleet["provisioned"][0]["requested"], 2);
  EXPECT_EQ(fleet["provisioned"][0]["available"], 2);
  const auto answer = world.call("f");
  world.loop.run_pending();
  ASSERT_TRUE(answer->result);
  EXPECT_EQ(answer->result->usage.init_ms, 0);
  EXPECT_EQ(answer->result->usage.restore_ms, 0);

  world.functions.deployed["f"].provisioned = 0;
  world.functions.changed("default", "f");
  world.loop.run_pending();
  world.loop.advance(hours{10});
  EXPECT_EQ(world.alive(), 0U);
}

TEST(Sharing, ANewVersionOfProvisionedTakesOver) {
  TestWorld world;
  world.functions.deployed["f"].provisioned = 1;
  world.functions.deploy("f");
  world.loop.run_pending();
  world.functions.deploy("f");
  world.loop.run_pending();
  EXPECT_EQ(world.alive(), 1U);
  EXPECT_EQ(world.sandbox.forks, 2);
}

TEST(Sharing, WhatCannotBeProvisionedSaysWhy) {
  TestWorld world;
  world.sandbox.template_script = [](const auto&) {
    sandbox::FakeSandbox::TemplateScript script;
    script.failure = {"Runtime.ImportModuleError", "No module named 'x'", {}};
    return script;
  };
  world.functions.deployed["f"].provisioned = 1;
  world.functions.deploy("f");
  world.loop.run_pending();
  EXPECT_THAT(world.invoker->fleet()["provisioned"][0]["reason"].get<std::string>(), HasSubstr("No module named"));
  // It is tried again, ever more rarely.
  world.loop.advance(seconds{600});
  EXPECT_GT(world.sandbox.started.size(), 10U);
  EXPECT_LT(world.sandbox.started.size(), 40U);
}

TEST(Sharing, OneTenantsFloodLetsAnotherInAfterOneAnswer) {
  TestWorld world(small_node());
  world.functions.deploy("f");
  world.sandbox.hold_invocations = true;
  std::vector<std::shared_ptr<Answer>> flood;
  for (int i = 0; i < 50; ++i) flood.push_back(world.call(by("rich", "f")));
  world.loop.run_pending();
  EXPECT_EQ(world.sandbox.busy_instances().size(), 4U);
  const auto other = world.call(by("poor", "f"));
  world.loop.run_pending();
  EXPECT_EQ(world.sandbox.busy_instances().size(), 4U);
  // The template of the other tenant is there already or comes with the first instance that ends.
  finish_first(world);
  ASSERT_EQ(world.sandbox.busy_instances().size(), 4U);
  EXPECT_EQ(count(flood, false), 1U);
  // The newest of those that run is the other tenant's.
  world.sandbox.busy_instances().back()->finish(TestWorld::outcome(Outcome::Kind::ok));
  world.loop.run_pending();
  EXPECT_TRUE(other->result);
  EXPECT_EQ(count(flood, true), 0U);
}

TEST(Sharing, AFloodIsServedWhollyOnceTheOthersAre) {
  TestWorld world(small_node());
  world.functions.deploy("f");
  world.sandbox.hold_invocations = true;
  std::vector<std::shared_ptr<Answer>> all;
  for (int i = 0; i < 20; ++i) all.push_back(world.call(by("rich", "f")));
  for (int i = 0; i < 6; ++i) all.push_back(world.call(by("poor", "f")));
  world.loop.run_pending();
  for (int i = 0; i < 26; ++i) {
    ASSERT_FALSE(world.sandbox.busy_instances().empty()) << i;
    finish_first(world);
  }
  EXPECT_EQ(count(all, false), 26U);
  EXPECT_LE(world.invoker->fleet()["memory_bytes"].get<int64_t>(), small_node().memory_budget_bytes);
}

TEST(Sharing, WhatCannotBeServedInTimeIsRefusedAtOnce) {
  TestWorld world;
  world.functions.deployed["f"].reserved = 2;
  world.functions.deploy("f", [](auto& v) { v.config.timeout_s = 60; });
  world.sandbox.hold_invocations = true;
  // It is known that a call takes a second.
  const auto first = world.call("f");
  world.loop.run_pending();
  world.loop.advance(seconds{1});
  finish_first(world);
  ASSERT_TRUE(first->result);

  std::vector<std::shared_ptr<Answer>> flood;
  for (int i = 0; i < 40; ++i) flood.push_back(world.call("f"));
  world.loop.run_pending();
  // Two instances serve fifteen in the three quarters of ten seconds; two run.
  EXPECT_EQ(count(flood, true), 40U - 15 - 2);
  for (const auto& one : flood) {
    if (!one->error) continue;
    EXPECT_EQ(one->error->code, Code::resource_exhausted);
    EXPECT_THAT(one->error->hint, HasSubstr("Retry after 9 s"));
  }
  // And all that were taken are served before their deadline.
  for (int second = 0; second < 9; ++second) {
    world.loop.advance(seconds{1});
    const auto busy = world.sandbox.busy_instances();
    for (auto* instance : busy) instance->finish(TestWorld::outcome(Outcome::Kind::ok));
    world.loop.run_pending();
  }
  EXPECT_EQ(count(flood, false), 17U);
}

TEST(Sharing, OneAheadIsForkedForCallsThatOverlap) {
  TestWorld world;
  world.functions.deploy("f");
  world.sandbox.hold_invocations = true;
  std::vector<std::shared_ptr<Answer>> answers;
  for (int i = 0; i < 3; ++i) {
    answers.push_back(world.call("f"));
    world.loop.run_pending();
  }
  EXPECT_EQ(world.sandbox.busy_instances().size(), 3U);
  EXPECT_EQ(world.alive(), 4U);
  answers.push_back(world.call("f"));
  world.loop.run_pending();
  EXPECT_EQ(world.sandbox.busy_instances().size(), 4U);
  // Who took it waited for no start.
  for (auto* instance : world.sandbox.busy_instances()) instance->finish(TestWorld::outcome(Outcome::Kind::ok));
  world.loop.run_pending();
  ASSERT_TRUE(answers.back()->result);
  EXPECT_EQ(answers.back()->result->usage.restore_ms, 0);
}

}  // namespace
}  // namespace sundog::invoke
