#include "invoke/invoker.h"

#include <gmock/gmock.h>

#include "invoke/test_world.h"

namespace sundog::invoke {
namespace {

using sandbox::Outcome;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

size_t answered(const std::vector<std::shared_ptr<Answer>>& answers) {
  return static_cast<size_t>(
      std::count_if(answers.begin(), answers.end(), [](const auto& one) { return one->result.has_value(); }));
}

TEST(Invoker, ScalesFromZeroAndBackToZero) {
  TestWorld world;
  world.functions.deploy("f");
  world.sandbox.hold_invocations = true;
  std::vector<std::shared_ptr<Answer>> answers;
  for (int i = 0; i < 3; ++i) answers.push_back(world.call("f"));
  world.loop.run_pending();
  EXPECT_EQ(world.sandbox.templates.size(), 1U);
  EXPECT_EQ(world.alive(), 3U);
  for (auto* instance : world.sandbox.busy_instances()) instance->finish(TestWorld::outcome(Outcome::Kind::ok));
  world.loop.run_pending();
  EXPECT_EQ(answered(answers), 3U);
  EXPECT_EQ(world.invoker->fleet()["instances"].size(), 3U);
  world.loop.advance(seconds{2});
  const auto parked = world.invoker->fleet();
  EXPECT_EQ(parked["instances"].size(), 3U);
  for (const auto& one : parked["instances"]) EXPECT_EQ(one["state"], "parked");
  EXPECT_EQ(parked["parked_bytes"], 3 * (8 << 20));
  EXPECT_EQ(parked["template_bytes"], 80 << 20);
  EXPECT_EQ(parked["memory_bytes"], 3 * (8 << 20) + (80 << 20));
  // A start of 7 ms and an init of 20 ms are soon no longer worth 8 MB and 80 MB.
  world.loop.advance(seconds{600});
  EXPECT_EQ(world.alive(), 0U);
  EXPECT_TRUE(world.sandbox.templates.empty());
  EXPECT_EQ(world.invoker->fleet()["memory_bytes"], 0);
  EXPECT_EQ(world.loop.timers(), 0U);
}

TEST(Invoker, TellsWhatMemoryWasHeldFor) {
  TestWorld world;
  world.functions.deploy("f", [](auto& version) { version.config.memory_mb = 1024; });
  world.sandbox.hold_invocations = true;
  const auto answer = world.call("f");
  world.loop.run_pending();
  world.loop.advance(seconds{2});
  auto held = world.invoker->fleet()["held"];
  EXPECT_NEAR(held["busy"].get<double>(), 2.0, 1e-9);
  EXPECT_NEAR(held["idle"].get<double>(), 0.0, 1e-9);
  EXPECT_GT(held["templates"].get<double>(), 0.0);
  world.sandbox.busy_instances().at(0)->finish(TestWorld::outcome(Outcome::Kind::ok));
  world.loop.run_pending();
  world.loop.advance(Millis{500});
  held = world.invoker->fleet()["held"];
  EXPECT_NEAR(held["busy"].get<double>(), 2.0, 1e-9);
  EXPECT_NEAR(held["idle"].get<double>() + held["parked"].get<double>(), 0.5, 0.4);
  EXPECT_EQ(world.ledger.records.size(), 1U) << "nothing of it is on a bill";
}

TEST(Invoker, AWarmCallUsesTheSameInstance) {
  TestWorld world;
  world.functions.deploy("f");
  for (int i = 0; i < 5; ++i) {
    const auto answer = world.call("f", "\"" + std::to_string(i) + "\"");
    world.loop.run_pending();
    ASSERT_TRUE(answer->result);
    EXPECT_EQ(answer->result->payload, "\"" + std::to_string(i) + "\"");
    EXPECT_EQ(answer->times, 1);
  }
  EXPECT_EQ(world.sandbox.forks, 1);
  EXPECT_EQ(world.sandbox.invocations[0].function_name, "f");
}

TEST(Invoker, TheAnswerNeverComesFromInsideTheCall) {
  TestWorld world;
  const auto unknown = world.call("nobody");
  EXPECT_EQ(unknown->times, 0);
  world.loop.run_pending();
  ASSERT_TRUE(unknown->error);
  EXPECT_EQ(unknown->error->code, Code::not_found);
}

TEST(Invoker, NothingBeginsThatCannotBeBilled) {
  TestWorld world;
  world.functions.deploy("f");
  world.ledger.refusal = fail(Code::unavailable, "The ledger cannot be written.");
  const auto refused = world.call("f");
  world.loop.run_pending();
  ASSERT_TRUE(refused->error);
  EXPECT_EQ(refused->error->code, Code::unavailable);
  EXPECT_EQ(world.sandbox.forks, 0);
  world.ledger.refusal.reset();
  const auto taken = world.call("f");
  world.loop.run_pending();
  EXPECT_TRUE(taken->result);
}

TEST(Invoker, ReservedConcurrencyQueuesTheRest) {
  TestWorld world;
  world.functions.deploy("f");
  world.functions.deployed["f"].reserved = 2;
  world.sandbox.hold_invocations = true;
  std::vector<std::shared_ptr<Answer>> answers;
  for (int i = 0; i < 4; ++i) answers.push_back(world.call("f"));
  world.loop.run_pending();
  EXPECT_EQ(world.alive(), 2U);
  EXPECT_EQ(world.sandbox.busy_instances().size(), 2U);
  world.sandbox.busy_instances()[0]->finish(TestWorld::outcome(Outcome::Kind::ok));
  world.loop.run_pending();
  EXPECT_EQ(answered(answers), 1U);
  EXPECT_EQ(world.sandbox.busy_instances().size(), 2U);
  EXPECT_EQ(world.sandbox.forks, 2);
}

TEST(Invoker, WaitingTooLongIs429WithARetryHint) {
  TestWorld world;
  world.functions.deploy("f");
  world.functions.deployed["f"].reserved = 1;
  world.functions.deployed["f"].version = world.functions.deploy("f", [](auto& v) { v.config.timeout_s = 60; });
  world.sandbox.hold_invocations = true;
  const auto first = world.call("f");
  const auto second = world.call("f");
  world.loop.advance(Millis{9'999});
  EXPECT_EQ(second->times, 0);
  world.loop.advance(Millis{2});
  ASSERT_TRUE(second->error);
  EXPECT_EQ(second->error->code, Code::resource_exhausted);
  EXPECT_THAT(second->error->hint, HasSubstr("Retry after"));
  EXPECT_EQ(first->times, 0);
  EXPECT_TRUE(world.ledger.records.empty());
}

TEST(Invoker, AFullQueueIs429AtOnce) {
  InvokerOptions options;
  options.queue_length = 2;
  TestWorld world(options);
  world.functions.deploy("f");
  world.functions.deployed["f"].reserved = 1;
  world.sandbox.hold_invocations = true;
  std::vector<std::shared_ptr<Answer>> answers{world.call("f")};
  world.loop.run_pending();
  for (int i = 0; i < 3; ++i) answers.push_back(world.call("f"));
  world.loop.run_pending();
  EXPECT_EQ(answers[1]->times, 0);
  EXPECT_EQ(answers[2]->times, 0);
  ASSERT_TRUE(answers[3]->error);
  EXPECT_EQ(answers[3]->error->code, Code::resource_exhausted);
}

TEST(Invoker, ACrashHurtsItsOwnInvocationOnly) {
  TestWorld world;
  world.functions.deploy("bad");
  world.functions.deploy("good");
  world.sandbox.hold_invocations = true;
  const auto good = world.call("good");
  const auto bad = world.call("bad");
  const auto other = world.call("bad");
  world.loop.run_pending();
  auto busy = world.sandbox.busy_instances();
  ASSERT_EQ(busy.size(), 3U);
  const auto crashing =
      std::find_if(busy.begin(), busy.end(), [](auto* one) { return one->name() == "default/bad:$LATEST"; });
  auto outcome = TestWorld::outcome(Outcome::Kind::exited, "");
  outcome.exit_status = 3;
  (*crashing)->die(outcome);
  world.loop.run_pending();
  ASSERT_TRUE(bad->result);
  EXPECT_EQ(bad->result->function_error, "Unhandled");
  const auto payload = Json::parse(bad->result->payload);
  EXPECT_EQ(payload["errorType"], "Runtime.ExitError");
  EXPECT_EQ(payload["errorMessage"],
            "RequestId: " + bad->result->request_id + " Error: Runtime exited with error: exit status 3");
  EXPECT_EQ(bad->result->usage.outcome, "crash");
  EXPECT_EQ(good->times + other->times, 0);
  EXPECT_EQ(world.alive(), 2U);
  for (auto* instance : world.sandbox.busy_instances()) instance->finish(TestWorld::outcome(Outcome::Kind::ok));
  world.loop.run_pending();
  EXPECT_TRUE(good->result && other->result);
}

TEST(Invoker, ATimeoutKillsAnswersAndBillsTheLimit) {
  TestWorld world;
  world.functions.deploy("slow");
  world.sandbox.hold_invocations = true;
  const auto answer = world.call("slow");
  world.loop.run_pending();
  world.loop.advance(Millis{2'999});
  EXPECT_EQ(answer->times, 0);
  world.loop.advance(Millis{1});
  ASSERT_TRUE(answer->result);
  const auto payload = Json::parse(answer->result->payload);
  EXPECT_EQ(payload["errorType"], "Sandbox.Timedout");
  EXPECT_EQ(payload["errorMessage"],
            "RequestId: " + answer->result->request_id + " Error: Task timed out after 3.00 seconds");
  EXPECT_EQ(answer->result->usage.outcome, "timeout");
  EXPECT_EQ(answer->result->usage.billed_ms, 3000);
  EXPECT_EQ(world.alive(), 0U);
  EXPECT_THAT(world.logs.all, HasSubstr("\tStatus: timeout\n"));
  world.sandbox.hold_invocations = false;
  const auto next = world.call("slow");
  world.loop.run_pending();
  EXPECT_TRUE(next->result && next->result->function_error.empty());
}

TEST(Invoker, OutOfMemoryNamesLimitAndPeak) {
  TestWorld world;
  world.functions.deploy("big");
  world.sandbox.invoke_script = [](auto&, const auto&) {
    auto outcome = TestWorld::outcome(Outcome::Kind::out_of_memory, "");
    outcome.consumption.peak_memory_bytes = 128 << 20;
    return outcome;
  };
  const auto answer = world.call("big");
  world.loop.run_pending();
  ASSERT_TRUE(answer->result);
  const auto payload = Json::parse(answer->result->payload);
  EXPECT_EQ(payload["errorType"], "Runtime.OutOfMemory");
  EXPECT_THAT(payload["errorMessage"].get<std::string>(),
              HasSubstr("Runtime exited with error: signal: killed (memory size 128 MB, used 128 MB)"));
  EXPECT_EQ(answer->result->usage.outcome, "out_of_memory");
  EXPECT_EQ(world.alive(), 0U);
}

TEST(Invoker, AnInitFailureAnswersEveryoneWhoWaits) {
  TestWorld world;
  world.functions.deploy("broken");
  world.sandbox.template_script = [](const auto&) {
    sandbox::FakeSandbox::TemplateScript script;
    script.failure = {"Runtime.ImportModuleError", "Unable to import module 'main': No module named 'x'", {"line 1"}};
    script.output = "starting\n";
    return script;
  };
  world.sandbox.hold_starts = true;
  const auto first = world.call("broken");
  const auto second = world.call("broken");
  world.loop.advance(Millis{1'250});
  world.sandbox.release_start();
  world.loop.run_pending();
  for (const auto& answer : {first, second}) {
    ASSERT_TRUE(answer->result);
    EXPECT_EQ(answer->result->function_error, "Unhandled");
    const auto payload = Json::parse(answer->result->payload);
    EXPECT_EQ(payload["errorType"], "Runtime.ImportModuleError");
    EXPECT_EQ(payload["stackTrace"], Json::array({"line 1"}));
    EXPECT_EQ(answer->result->usage.outcome, "init_error");
  }
  EXPECT_EQ(first->result->usage.billed_init_ms, 1250);
  EXPECT_EQ(second->result->usage.billed_init_ms, 0);
  EXPECT_TRUE(world.loop.run_until([&] { return world.functions.reports().size() == 1; }));
  EXPECT_TRUE(world.functions.reports()[0].failed());
  EXPECT_THAT(world.logs.all, HasSubstr("starting\n[ERROR] Runtime.ImportModuleError"));
}

TEST(Invoker, AFunctionWhoseInitKeepsFailingIsNotTriedAgainAndAgain) {
  TestWorld world;
  world.functions.deploy("broken");
  bool broken = true;
  world.sandbox.template_script = [&broken](const auto&) {
    sandbox::FakeSandbox::TemplateScript script;
    if (broken) script.failure = {"Runtime.ExitError", "exit status 1", {}};
    return script;
  };
  for (int i = 0; i < 50; ++i) {
    const auto answer = world.call("broken");
    world.loop.advance(Millis{900});
    world.loop.run_pending();
  }
  // 45 s: three at once, then after 0.25, 0.5, 1, 2, 4, 8 and 16 s.
  EXPECT_GE(world.sandbox.started.size(), 7U);
  EXPECT_LE(world.sandbox.started.size(), 12U);
  EXPECT_EQ(world.ledger.records.size(), 50U);
  broken = false;
  world.loop.advance(seconds{31});
  const auto answer = world.call("broken");
  world.loop.run_pending();
  ASSERT_TRUE(answer->result);
  EXPECT_EQ(answer->result->function_error, "");
  EXPECT_TRUE(world.loop.run_until([&] { return world.functions.reports().size() == 2; }));
  EXPECT_FALSE(world.functions.reports()[1].failed());
}

TEST(Invoker, InitIsBilledOnceToWhoWaitedForIt) {
  TestWorld world;
  world.functions.deploy("f");
  world.sandbox.hold_starts = true;
  const auto first = world.call("f");
  const auto second = world.call("f");
  world.loop.advance(Millis{30});
  world.sandbox.release_start();
  world.loop.run_pending();
  const auto third = world.call("f");
  world.loop.run_pending();
  ASSERT_TRUE(first->result && second->result && third->result);
  EXPECT_EQ(first->result->usage.billed_init_ms + second->result->usage.billed_init_ms, 20);
  EXPECT_EQ(third->result->usage.init_ms, 0);
  EXPECT_EQ(third->result->usage.restore_ms, 0);
  EXPECT_EQ(third->result->usage.billed_ms, 5);
  EXPECT_EQ(world.ledger.records.size(), 3U);
  EXPECT_THAT(world.logs.all, HasSubstr("\tInit Duration: 20.00 ms"));
}

TEST(Invoker, WritesLambdasLinesAndTheirTail) {
  TestWorld world;
  world.functions.deploy("f");
  world.sandbox.invoke_script = [](sandbox::FakeInstance& instance, const auto&) {
    instance.events().on_output("hello\nwor");
    instance.events().on_output("ld\nlast");
    return TestWorld::outcome(Outcome::Kind::ok);
  };
  Invocation invocation;
  invocation.tenant = "default";
  invocation.function = "f";
  invocation.request_id = "r-1";
  invocation.want_log_tail = true;
  const auto answer = world.call(invocation);
  world.loop.run_pending();
  ASSERT_TRUE(answer->result);
  EXPECT_THAT(
      answer->result->log_tail,
      HasSubstr("START RequestId: r-1 Version: $LATEST\nhello\nworld\nlast\nEND RequestId: r-1\nREPORT RequestId: "
                "r-1\tDuration: 5.00 ms\tBilled Duration: 5 ms\tMemory Size: 128 MB\tMax Memory Used: 30 MB"));
}

TEST(Invoker, AChangedVersionEndsTheOldInstancesAfterTheirWork) {
  TestWorld world;
  world.functions.deploy("f");
  world.sandbox.hold_invocations = true;
  const auto old_call = world.call("f");
  const auto idle_call = world.call("f");
  world.loop.run_pending();
  auto busy = world.sandbox.busy_instances();
  busy[1]->finish(TestWorld::outcome(Outcome::Kind::ok));
  world.loop.run_pending();
  world.functions.deploy("f");
  world.loop.run_pending();
  EXPECT_EQ(world.alive(), 1U) << "the idle one ended";
  const auto new_call = world.call("f");
  world.loop.run_pending();
  EXPECT_EQ(world.sandbox.templates.size(), 2U);
  for (auto* instance : world.sandbox.busy_instances()) instance->finish(TestWorld::outcome(Outcome::Kind::ok));
  world.loop.run_pending();
  EXPECT_TRUE(old_call->result && new_call->result);
  EXPECT_EQ(world.alive(), 1U);
  EXPECT_EQ(world.sandbox.templates.size(), 1U);
}

TEST(Invoker, AWeightedAliasSplitsTheTraffic) {
  TestWorld world;
  const auto one = world.functions.deploy("f", [](auto& v) { v.version = "1"; });
  const auto two = world.functions.deploy("f", [](auto& v) { v.version = "2"; });
  world.functions.deployed["f"] = {one, std::nullopt, two, 0.25};
  int second = 0;
  for (int i = 0; i < 2000; ++i) {
    const auto answer = world.call("f");
    world.loop.run_pending();
    ASSERT_TRUE(answer->result);
    second += answer->result->executed_version == "2" ? 1 : 0;
  }
  EXPECT_NEAR(second, 500, 150);  // 7 standard deviations
}

TEST(Invoker, AnIdleInstanceOfAnotherFunctionMakesRoom) {
  InvokerOptions options;
  options.memory_budget_bytes = 330LL << 20;  // two templates of 80 MB, one instance of 128 MB
  TestWorld world(options);
  world.functions.deploy("a");
  world.functions.deploy("b");
  const auto a = world.call("a");
  world.loop.run_pending();
  EXPECT_EQ(world.alive(), 1U);
  const auto b = world.call("b");
  world.loop.run_pending();
  ASSERT_TRUE(a->result && b->result);
  // The idle one of a was parked for b's.
  ASSERT_EQ(world.alive(), 2U);
  EXPECT_EQ(world.invoker->fleet()["parked_bytes"], 8 << 20);
  const auto more = world.call("b");
  const auto second = world.call("b");
  world.loop.run_pending();
  ASSERT_TRUE(more->result && second->result);
  EXPECT_LE(world.invoker->fleet()["memory_bytes"].get<int64_t>(), options.memory_budget_bytes);
}

TEST(Invoker, AFunctionTooLargeForTheNodeIsRefusedWithTheFigures) {
  InvokerOptions options;
  options.memory_budget_bytes = 1LL << 30;
  TestWorld world(options);
  world.functions.deploy("f", [](auto& v) { v.config.memory_mb = 2048; });
  const auto answer = world.call("f");
  world.loop.run_pending();
  ASSERT_TRUE(answer->error);
  EXPECT_THAT(answer->error->message, HasSubstr("2048 MB"));
  EXPECT_THAT(answer->error->message, HasSubstr("1024 MB"));
}

TEST(Invoker, NativeFunctionsNeedNoTemplate) {
  TestWorld world;
  world.functions.deploy("ingest", [](auto& v) {
    v.config.runtime = "native";
    v.native_command = {"/opt/ingest"};
  });
  const auto answer = world.call("ingest");
  world.loop.run_pending();
  ASSERT_TRUE(answer->result);
  EXPECT_TRUE(world.sandbox.templates.empty());
  EXPECT_EQ(world.sandbox.forks, 0);
  world.loop.advance(seconds{2});
  EXPECT_EQ(world.alive(), 0U) << "parked, though it starts in no time";
}

TEST(Invoker, AParkedInstanceServesTheNextCallWithoutAStart) {
  TestWorld world;
  world.functions.deploy("f");
  world.call("f");
  world.loop.run_pending();
  world.loop.advance(seconds{30});
  EXPECT_EQ(world.invoker->fleet()["instances"][0]["state"], "parked");
  const auto again = world.call("f");
  world.loop.run_pending();
  ASSERT_TRUE(again->result);
  EXPECT_EQ(again->result->usage.restore_ms, 0);
  EXPECT_EQ(again->result->usage.init_ms, 0);
  EXPECT_EQ(world.sandbox.forks, 1);
  EXPECT_EQ(world.invoker->fleet()["parked_bytes"], 0);
  EXPECT_EQ(world.ledger.records.size(), 2U);  // nothing is booked for the time between
}

TEST(Invoker, AnInstanceThatHoldsMuchEndsInPlaceOfParking) {
  TestWorld world;
  world.functions.deploy("f");
  world.call("f");
  world.loop.run_pending();
  world.sandbox.instances[0]->memory = 100 << 20;  // of 128 MB
  world.loop.advance(seconds{2});
  EXPECT_EQ(world.alive(), 0U);
}

TEST(Invoker, AParkedInstanceThatDiesIsNoCrash) {
  TestWorld world;
  world.functions.deploy("f");
  for (int i = 0; i < 5; ++i) {  // more than may crash before the next start is delayed
    const auto answer = world.call("f");
    world.loop.run_pending();
    EXPECT_TRUE(answer->result) << i;
    world.loop.advance(seconds{3});
    ASSERT_EQ(world.alive(), 1U);
    world.sandbox.instances[0]->die(TestWorld::outcome(Outcome::Kind::exited));
    world.loop.run_pending();
    EXPECT_EQ(world.invoker->fleet()["parked_bytes"], 0);
    EXPECT_EQ(world.alive(), 0U);
  }
  EXPECT_EQ(world.sandbox.forks, 5);
}

TEST(Invoker, WhoHasEndedIsCalledByNobodyThoughItsEndIsNotTold) {
  TestWorld world;
  world.functions.deploy("f");
  for (const Duration rest : {Duration{0}, Duration{seconds{3}}}) {  // an idle one, a parked one
    world.call("f");
    world.loop.run_pending();
    world.loop.advance(rest);
    ASSERT_EQ(world.alive(), 1U);
    world.sandbox.instances[0]->gone = true;
    const int forks = world.sandbox.forks;
    const auto answer = world.call("f");
    world.loop.run_pending();
    ASSERT_TRUE(answer->result);
    EXPECT_EQ(answer->result->function_error, "");
    EXPECT_EQ(world.sandbox.forks, forks + 1);
    EXPECT_EQ(world.alive(), 1U);
    EXPECT_EQ(world.invoker->fleet()["parked_bytes"], 0);
  }
}

TEST(Invoker, WhatWasNotReadIsGivenToAnother) {
  TestWorld world;
  world.functions.deploy("f");
  world.sandbox.hold_invocations = true;
  Invocation invocation;
  invocation.tenant = "default";
  invocation.function = "f";
  invocation.payload = "\"mine\"";
  invocation.client_context = "{\"a\":1}";
  const auto answer = world.call(std::move(invocation));
  const auto second = world.call("f");
  world.loop.run_pending();
  ASSERT_EQ(world.sandbox.busy_instances().size(), 2U);
  auto unread = TestWorld::outcome(Outcome::Kind::exited, "\"mine\"");
  unread.unread = true;
  world.sandbox.busy_instances()[0]->finish(unread);
  world.loop.run_pending();
  EXPECT_FALSE(answer->result);
  EXPECT_TRUE(world.ledger.records.empty()) << "nothing of it ran";
  ASSERT_EQ(world.sandbox.invocations.size(), 3U);
  EXPECT_EQ(world.sandbox.invocations[2].payload, "\"mine\"");
  EXPECT_EQ(world.sandbox.invocations[2].client_context, "{\"a\":1}");
  world.sandbox.busy_instances().back()->finish(TestWorld::outcome(Outcome::Kind::ok));
  world.loop.run_pending();
  ASSERT_TRUE(answer->result);
  EXPECT_EQ(answer->result->function_error, "");
  EXPECT_EQ(answer->times, 1);
  EXPECT_EQ(world.ledger.records.size(), 1U);
  const auto first_start = world.logs.all.find("START RequestId: " + answer->result->request_id);
  EXPECT_NE(first_start, std::string::npos);
  EXPECT_EQ(world.logs.all.find("START RequestId: " + answer->result->request_id, first_start + 1), std::string::npos);
}

TEST(Invoker, WhatNobodyReadsEndsWithAnError) {
  TestWorld world;
  world.functions.deploy("f");
  world.sandbox.invoke_script = [](auto&, const auto& request) {
    auto unread = TestWorld::outcome(Outcome::Kind::exited, request.payload);
    unread.unread = true;
    return unread;
  };
  const auto answer = world.call("f");
  world.loop.run_pending();
  world.loop.advance(seconds{5});
  ASSERT_TRUE(answer->result || answer->error);
  EXPECT_EQ(answer->times, 1);
  EXPECT_LE(world.sandbox.invocations.size(), 4U);
  EXPECT_EQ(world.invoker->fleet()["queued"], 0);
}

TEST(Invoker, AsManyAsAreCalledAreLookedAt) {
  TestWorld world;
  world.functions.deploy("f");
  world.sandbox.hold_invocations = true;
  for (int i = 0; i < 3; ++i) world.call("f");
  world.loop.run_pending();
  ASSERT_EQ(world.sandbox.busy_instances().size(), 3U);
  for (auto* one : world.sandbox.busy_instances()) one->finish(TestWorld::outcome(Outcome::Kind::ok));
  world.loop.run_pending();
  world.loop.advance(seconds{2});
  world.sandbox.instances[0]->gone = world.sandbox.instances[2]->gone = true;
  world.sandbox.hold_invocations = false;
  const auto first = world.call("f");
  const auto second = world.call("f");
  world.loop.run_pending();
  ASSERT_TRUE(first->result && second->result);
  EXPECT_EQ(first->result->function_error + second->result->function_error, "");
  EXPECT_EQ(world.sandbox.forks, 4) << "the one that is there was used";
}

TEST(Invoker, ADeadTemplateIsReplaced) {
  InvokerOptions options;
  options.parked_most = 0;
  TestWorld world(options);
  world.functions.deploy("f");
  const auto first = world.call("f");
  world.loop.run_pending();
  world.loop.advance(seconds{6});
  world.sandbox.templates.at(0)->die("killed");
  world.loop.run_pending();
  const auto second = world.call("f");
  world.loop.run_pending();
  EXPECT_TRUE(first->result && second->result);
  EXPECT_EQ(world.sandbox.started.size(), 2U);
}

TEST(Invoker, AnIdleCrashIsNoticed) {
  TestWorld world;
  world.functions.deploy("f");
  world.call("f");
  world.loop.run_pending();
  world.sandbox.instances.at(0)->die(TestWorld::outcome(Outcome::Kind::exited));
  world.loop.run_pending();
  EXPECT_EQ(world.alive(), 0U);
  const auto answer = world.call("f");
  world.loop.run_pending();
  EXPECT_TRUE(answer->result);
}

TEST(Invoker, AStartThatAlwaysFailsSaysWhyBeforeTheDeadline) {
  TestWorld world;
  world.functions.deploy("f");
  world.sandbox.template_script = [](const auto&) {
    sandbox::FakeSandbox::TemplateScript script;
    script.error = fail(Code::unavailable, "The launcher is gone.");
    return script;
  };
  const auto answer = world.call("f");
  world.loop.advance(seconds{10});
  ASSERT_TRUE(answer->error);
  EXPECT_EQ(answer->error->code, Code::unavailable);
  EXPECT_THAT(answer->error->message, HasSubstr("launcher"));
}

TEST(Invoker, PendingFunctionsAreAConflict) {
  TestWorld world;
  world.functions.deploy("f", [](auto& v) { v.state = functions::State::pending; });
  const auto answer = world.call("f");
  world.loop.run_pending();
  ASSERT_TRUE(answer->error);
  EXPECT_EQ(answer->error->code, Code::conflict);
}

TEST(Invoker, DrainLetsWorkFinishAndTakesNoMore) {
  TestWorld world;
  world.functions.deploy("f");
  world.sandbox.hold_invocations = true;
  const auto running = world.call("f");
  world.loop.run_pending();
  bool drained = false;
  world.invoker->drain(seconds{10}, [&] { drained = true; });
  const auto late = world.call("f");
  world.loop.run_pending();
  ASSERT_TRUE(late->error);
  EXPECT_EQ(late->error->code, Code::unavailable);
  EXPECT_FALSE(drained);
  world.sandbox.busy_instances()[0]->finish(TestWorld::outcome(Outcome::Kind::ok));
  world.loop.run_pending();
  EXPECT_TRUE(running->result);
  EXPECT_TRUE(drained);
}

TEST(Invoker, DrainKillsWhatIsLeftAfterTheGrace) {
  TestWorld world;
  world.functions.deploy("f", [](auto& v) { v.config.timeout_s = 900; });
  world.sandbox.hold_invocations = true;
  const auto running = world.call("f");
  world.loop.run_pending();
  bool drained = false;
  world.invoker->drain(seconds{2}, [&] { drained = true; });
  world.loop.advance(seconds{2});
  EXPECT_TRUE(drained);
  ASSERT_TRUE(running->result);
  EXPECT_EQ(running->result->function_error, "Unhandled");
}

TEST(Invoker, StreamsPiecesBeforeTheAnswer) {
  TestWorld world;
  world.functions.deploy("f");
  world.sandbox.invoke_script = [](sandbox::FakeInstance& instance, const auto&) {
    instance.events().on_stream("one ");
    instance.events().on_stream("two");
    return TestWorld::outcome(Outcome::Kind::ok, "");
  };
  Invocation invocation;
  invocation.tenant = "default";
  invocation.function = "f";
  std::string pieces;
  std::optional<InvokeResult> result;
  world.invoker->invoke_streaming(
      invocation,
      [&](const StreamPiece& piece) {
        pieces += piece.bytes;
        return true;
      },
      [&](Result<InvokeResult> done) {
        ASSERT_TRUE(done.ok());
        result = *done;
      });
  world.loop.run_pending();
  ASSERT_TRUE(result);
  EXPECT_EQ(pieces, "one two");
  EXPECT_EQ(result->usage.bytes_out, 7);
}

TEST(Invoker, ALargePayloadIsMovedNotCopied) {
  TestWorld world;
  world.functions.deploy("f");
  std::string payload(6 << 20, 'x');
  const char* const data = payload.data();
  const char* seen = nullptr;
  Invocation invocation;
  invocation.tenant = "default";
  invocation.function = "f";
  invocation.payload = std::move(payload);
  world.sandbox.invoke_script = [&](auto&, const sandbox::InvokeRequest& request) {
    seen = request.payload.data();
    return TestWorld::outcome(Outcome::Kind::ok);
  };
  world.call(std::move(invocation));
  world.loop.run_pending();
  EXPECT_EQ(seen, data);
  EXPECT_EQ(world.ledger.records.at(0).bytes_in, 6 << 20);
}

TEST(Invoker, KillsTheInstanceOfOneInvocationAndOfNoOther) {
  TestWorld world;
  world.functions.deploy("f");
  world.sandbox.hold_invocations = true;
  std::map<std::string, std::string> ended;  // request id → outcome
  for (const char* id : {"one", "two"}) {
    Invocation invocation;
    invocation.tenant = "default";
    invocation.function = "f";
    invocation.request_id = id;
    world.invoker->invoke(invocation, [&ended, id](const Result<InvokeResult>& done) {
      ended[id] = done.ok() ? done->usage.outcome : done.error().text();
    });
  }
  world.loop.run_pending();
  world.invoker->kill("another", "one");
  world.invoker->kill("default", "three");
  world.loop.run_pending();
  EXPECT_TRUE(ended.empty());
  world.invoker->kill("default", "one");
  world.loop.run_pending();
  EXPECT_EQ(ended, (std::map<std::string, std::string>{{"one", "crash"}}));
}

}  // namespace
}  // namespace sundog::invoke
