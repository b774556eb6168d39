#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "invoke/test_world.h"

namespace sundog::invoke {
namespace {

using sandbox::InitFailure;
using std::chrono::seconds;
using ::testing::HasSubstr;

void custom(functions::Version& version) {
  version.config.runtime = "provided.al2023";
  version.config.network = sandbox::Network::none;
  version.code_folder = "/data/code/abc";
}

InvokerOptions with_api() {
  InvokerOptions options;
  options.runtime_api = "/bin/sundog-runtime-api";
  return options;
}

TEST(CustomRuntime, RunsTheApiOverThePackage) {
  TestWorld world(with_api());
  world.functions.deploy("f", custom);
  world.sandbox.hold_forks = true;
  const auto answer = world.call("f");
  world.loop.run_pending();
  world.loop.advance(Millis{7});
  world.sandbox.release_fork();
  world.loop.run_pending();
  ASSERT_TRUE(answer->result);
  EXPECT_EQ(answer->result->usage.init_ms, 7) << "an instance's start is its init";
  EXPECT_EQ(answer->result->usage.billed_init_ms, 7);
  EXPECT_EQ(answer->result->usage.restore_ms, 0);
  ASSERT_EQ(world.sandbox.natives.size(), 1U);
  const auto& spec = world.sandbox.natives[0];
  EXPECT_EQ(spec.command, (std::vector<std::string>{"/opt/sundog/bin/sundog-runtime-api", "--init-timeout", "10000"}));
  ASSERT_EQ(spec.mounts.size(), 2U);
  EXPECT_EQ(spec.mounts[0].source, "/bin/sundog-runtime-api");
  EXPECT_EQ(spec.mounts[1].where, "/var/task");
  EXPECT_FALSE(spec.mounts[0].writable || spec.mounts[1].writable);
  EXPECT_EQ(spec.environment.at("+_HANDLER"), "main.handler");
  EXPECT_FALSE(spec.environment.contains("+PYTHONPATH"));
  const auto warm = world.call("f");
  world.loop.run_pending();
  EXPECT_EQ(warm->result->usage.init_ms, 0);
}

TEST(CustomRuntime, AnIdleInstanceIsParkedAsItsStartRepeatsInit) {
  TestWorld world(with_api());
  world.functions.deploy("f", custom);
  world.call("f");
  world.loop.run_pending();
  world.loop.advance(seconds{2});
  ASSERT_EQ(world.invoker->fleet()["instances"].size(), 1U);
  EXPECT_EQ(world.invoker->fleet()["instances"][0]["state"], "parked");
  const auto again = world.call("f");
  world.loop.run_pending();
  ASSERT_TRUE(again->result);
  EXPECT_EQ(again->result->usage.init_ms, 0);
  EXPECT_EQ(world.sandbox.natives.size(), 1U);
}

TEST(CustomRuntime, FindsItsEnvironmentWhereLambdasLayersLie) {
  TestWorld world(with_api());
  functions::Environment environment;
  environment.state = functions::Environment::State::ready;
  environment.python = "3.11";
  environment.folder = "/data/environments/e1";
  world.environments.known["e1"] = environment;
  world.functions.deploy("f", [](auto& version) {
    custom(version);
    version.config.environment_id = "e1";
  });
  world.call("f");
  world.loop.run_pending();
  ASSERT_EQ(world.sandbox.natives.size(), 1U);
  const auto& spec = world.sandbox.natives[0];
  EXPECT_EQ(spec.mounts.back().source, "/data/environments/e1");
  EXPECT_EQ(spec.mounts.back().where, "/opt/python");
  EXPECT_EQ(spec.environment.at("+PYTHONPATH"), "/opt/python");
}

TEST(CustomRuntime, WhatTheFunctionSetsReachesTheBootstrapAlone) {
  TestWorld world(with_api());
  world.functions.deploy("f", [](auto& version) {
    custom(version);
    version.config.network = sandbox::Network::egress;
    version.config.allow = {"api.example.com"};
    version.config.variables = {{"LD_PRELOAD", "/var/task/hook.so"}, {"HTTP_PROXY", "http://mine"}};
  });
  world.call("f");
  world.loop.run_pending();
  ASSERT_EQ(world.sandbox.natives.size(), 1U);
  const auto& spec = world.sandbox.natives[0];
  EXPECT_EQ(spec.command.back(), "--way-out");
  EXPECT_EQ(spec.allow, std::vector<std::string>{"api.example.com"});
  for (const auto& [name, value] : spec.environment) EXPECT_TRUE(name.starts_with("+")) << name;
  EXPECT_EQ(spec.environment.at("+LD_PRELOAD"), "/var/task/hook.so");
  EXPECT_EQ(spec.environment.at("+https_proxy"), "http://127.0.0.1:3128");
  EXPECT_EQ(spec.environment.at("+HTTP_PROXY"), "http://mine") << "its own stays";
}

TEST(CustomRuntime, AnEnvironmentThatIsNotBuiltRefusesTheCall) {
  TestWorld world(with_api());
  world.environments.known["e1"] = {};
  world.functions.deploy("f", [](auto& version) {
    custom(version);
    version.config.environment_id = "e1";
  });
  const auto answer = world.call("f");
  world.loop.run_pending();
  ASSERT_TRUE(answer->error);
  EXPECT_THAT(answer->error->message, HasSubstr("still being built"));
  EXPECT_TRUE(world.sandbox.natives.empty());
}

TEST(CustomRuntime, InitThatFailsEndsOneCallAndIsShown) {
  TestWorld world(with_api());
  world.functions.deploy("f", custom);
  int starts = 0;
  world.sandbox.init_script = [&](const std::string&) -> std::optional<InitFailure> {
    if (++starts > 1) return std::nullopt;
    return InitFailure{"Runtime.ExitError", "Runtime exited with error: exit status 3", {}};
  };
  const auto failed = world.call("f");
  world.loop.run_pending();
  ASSERT_TRUE(failed->result);
  EXPECT_EQ(failed->times, 1);
  EXPECT_EQ(failed->result->function_error, "Unhandled");
  EXPECT_THAT(failed->result->payload, HasSubstr("exit status 3"));
  EXPECT_EQ(failed->result->usage.outcome, "init_error");
  EXPECT_THAT(world.logs.all, HasSubstr("INIT_REPORT"));
  EXPECT_EQ(world.alive(), 0U);
  world.loop.advance(seconds{2});
  const auto again = world.call("f");
  world.loop.run_pending();
  EXPECT_TRUE(again->result);
  world.pool.stop();
  ASSERT_EQ(world.functions.reports().size(), 2U);
  EXPECT_TRUE(world.functions.reports()[0].failed());
  EXPECT_FALSE(world.functions.reports()[1].failed());
}

TEST(CustomRuntime, MemoryThatEndsInitNamesTheLimit) {
  TestWorld world(with_api());
  world.functions.deploy("f", custom);
  world.sandbox.init_script = [](const std::string&) {
    return InitFailure{"Runtime.OutOfMemory", "Init ran out of memory", {}};
  };
  const auto failed = world.call("f");
  world.loop.run_pending();
  ASSERT_TRUE(failed->result);
  EXPECT_THAT(failed->result->payload, HasSubstr("Init ran out of memory: the limit is 128 MB"));
}

TEST(CustomRuntime, WhatInitPrintsIsLogged) {
  TestWorld world(with_api());
  world.functions.deploy("f", custom);
  world.sandbox.before_ready = [](sandbox::InstanceEvents& events) { events.on_output("early words"); };
  world.call("f");
  world.loop.run_pending();
  EXPECT_THAT(world.logs.all, HasSubstr("early words"));
}

}  // namespace
}  // namespace sundog::invoke
