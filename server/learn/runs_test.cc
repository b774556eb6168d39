#include "learn/runs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "learn/test_world.h"

namespace sundog::testing {
namespace {

class RunsTest : public ::testing::Test {
 protected:
  World world_;
};

Json success(const std::string& blob) {
  return {{"metrics", {{"auc", 0.8}}},
          {"artefact", {{"blob", blob}, {"format", "skops"}, {"bytes", 10}}},
          {"signature", {{"inputs", Json::array()}, {"outputs", Json::array()}}},
          {"stopped", false},
          {"error", nullptr}};
}

TEST_F(RunsTest, CreateQueuesOneDurableEventWithItsBlobs) {
  const auto run = world_.start_run();
  EXPECT_EQ(run["state"], "queued");
  EXPECT_EQ(run["dataset"], "clients@2");
  EXPECT_EQ(run["lineage"]["environment"], "env-1");
  EXPECT_FALSE(run.contains("request_id"));
  ASSERT_EQ(world_.events.accepted.size(), 1u);
  const auto& event = world_.events.accepted[0];
  EXPECT_EQ(event.function, "fit");
  EXPECT_EQ(Json(event.tags.at("run")), run["id"]);
  EXPECT_EQ(event.granted_blobs, (std::set<std::string>{std::string(64, 'a'), std::string(64, 'b')}));
  EXPECT_EQ(event.kind, functions::Kind::training);
  EXPECT_EQ(event.meta["parameters"], (Json{{"rate", 0.1}}));
  EXPECT_EQ(event.meta["data"]["label"], "default");
  EXPECT_EQ(event.meta["attempt"], 1);
}

TEST_F(RunsTest, RefusesWhatCannotTrain) {
  learn::NewRun run;
  run.function = "absent";
  EXPECT_EQ(world_.runs->create(kTenant, run).error().code, Code::not_found);
  functions::Config config;
  config.name = "plain";
  ASSERT_TRUE(world_.functions.create(kTenant, config, "code", false).ok());
  run.function = "plain";
  EXPECT_EQ(world_.runs->create(kTenant, run).error().code, Code::invalid_argument);
  run.function = "fit";
  run.dataset = "absent";
  EXPECT_EQ(world_.runs->create(kTenant, run).error().code, Code::not_found);
  world_.functions.at(kTenant, "fit").latest.state = functions::State::pending;
  EXPECT_EQ(world_.runs->create(kTenant, run).error().code, Code::conflict);
  EXPECT_TRUE(world_.events.accepted.empty());
  EXPECT_TRUE(world_.runs->list(kTenant, "", "", 10)->items.empty());
}

TEST_F(RunsTest, MetricsAreStoredBeforeTheReplyAndShown) {
  const std::string id = world_.start_run()["id"];
  const auto event = world_.events.accepted[0];
  EXPECT_EQ(world_.host_call(event, "run.metrics", {{"values", {{"auc", 1}}}}).error().code, Code::conflict);
  EXPECT_EQ((*world_.host_call(event, "run.start", Json::object()))["attempt"], 1);
  EXPECT_EQ(world_.get(id)["state"], "running");
  EXPECT_EQ((*world_.host_call(event, "run.metrics", {{"step", nullptr}, {"values", {{"auc", 0.5}}}}))["stop"], false);
  ASSERT_TRUE(
      world_.host_call(event, "run.metrics", {{"step", 7}, {"values", {{"auc", 0.6}, {"loss", nullptr}}}}).ok());
  const auto run = world_.get(id, 0);
  ASSERT_EQ(run["points"].size(), 2u);
  EXPECT_EQ(run["points"][0]["step"], 1);
  EXPECT_EQ(run["points"][1]["n"], 2);
  EXPECT_EQ(run["points"][1]["step"], 7);
  EXPECT_EQ(run["metrics"], (Json{{"auc", 0.6}}));
  EXPECT_EQ(world_.get(id, 1)["points"].size(), 1u);
  EXPECT_EQ(world_.host_call(event, "run.metrics", {{"values", {{"auc", "high"}}}}).error().code,
            Code::invalid_argument);
  world_.restart();
  EXPECT_EQ(world_.get(id, 0)["points"].size(), 2u);
}

TEST_F(RunsTest, ForeignInvocationsMayNotCall) {
  invoke::Invocation other;
  other.tenant = kTenant;
  EXPECT_EQ(world_.host_call(other, "run.start", Json::object()).error().code, Code::permission_denied);
}

TEST_F(RunsTest, AnAnswerEndsTheRunWithItsCostOverAllAttempts) {
  const std::string id = world_.start_run()["id"];
  const auto event = world_.events.accepted[0];
  ASSERT_TRUE(world_.host_call(event, "run.start", Json::object()).ok());
  ASSERT_TRUE(world_.host_call(event, "run.metrics", {{"values", {{"loss", 2.0}}}}).ok());
  meter::UsageRecord first;
  first.id = "first";
  first.tenant = kTenant;
  first.request_id = event.request_id;
  first.billed_ms = 900;
  first.memory_mb = 1024;
  first.ended = world_.clock.wall();
  ASSERT_TRUE(world_.ledger.append(first).ok());
  const auto blob = std::string(64, 'c');
  world_.end_and_settle(event, answered(event, success(blob), 100));
  const auto run = world_.get(id);
  EXPECT_EQ(run["state"], "succeeded");
  EXPECT_EQ(run["metrics"], (Json{{"auc", 0.8}, {"loss", 2.0}}));
  EXPECT_EQ(run["artefact"]["blob"], blob);
  EXPECT_EQ(run["billed_ms"], 1000);
  EXPECT_NEAR(run["cost"].get<double>(), 0.0000166667 + 2 * 0.2e-6, 1e-9);
  EXPECT_TRUE(world_.runs->names_blob(kTenant, blob));
  EXPECT_FALSE(world_.runs->names_blob("other", blob));
  EXPECT_TRUE((*world_.runs->result(kTenant, id)).contains("signature"));
}

TEST_F(RunsTest, ABlobThatTheRunDidNotWriteIsNotItsArtefact) {
  const std::string id = world_.start_run()["id"];
  const auto event = world_.events.accepted[0];
  const auto blob = std::string(64, 'c');
  auto result = answered(event, success(blob), 100);
  result.granted_blobs.erase(blob);
  world_.end_and_settle(event, result);
  EXPECT_EQ(world_.get(id)["state"], "failed");
  EXPECT_EQ(world_.get(id)["error"]["code"], "permission_denied");
  EXPECT_FALSE(world_.runs->names_blob(kTenant, blob));
}

TEST_F(RunsTest, AFunctionWhoseInitFailedMayTrainAndOneWithoutItsEnvironmentMayNot) {
  world_.functions.state_of_new_code = functions::State::failed;
  world_.functions.reason_code_of_new_code = "FunctionError.RuntimeInitError";
  ASSERT_TRUE(world_.functions.update_code(kTenant, "fit", "new code", false, "", false).ok());
  world_.start_run();
  world_.functions.reason_code_of_new_code = "InvalidConfiguration";
  ASSERT_TRUE(world_.functions.update_code(kTenant, "fit", "newer code", false, "", false).ok());
  learn::NewRun run;
  run.function = "fit";
  const auto refused = world_.blocking([&] { return world_.runs->create(kTenant, run); });
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::conflict);
}

TEST_F(RunsTest, TheUsersErrorIsTheRunsError) {
  const std::string id = world_.start_run()["id"];
  const auto event = world_.events.accepted[0];
  world_.end_and_settle(
      event, answered(event, {{"error", {{"errorType", "KeyError"}, {"errorMessage", "'x'"}, {"stackTrace", {"a"}}}}}));
  const auto run = world_.get(id);
  EXPECT_EQ(run["state"], "failed");
  EXPECT_EQ(run["error"]["type"], "KeyError");
  EXPECT_EQ(run["error"]["message"], "KeyError: 'x'");
  EXPECT_EQ(run["error"]["stack"], Json::array({"a"}));
}

TEST_F(RunsTest, ATimeoutAfterAllAttemptsSaysWhatToDo) {
  const std::string id = world_.start_run()["id"];
  const auto event = world_.events.accepted[0];
  auto result =
      answered(event, {{"errorType", "Sandbox.Timedout"}, {"errorMessage", "Task timed out after 3.00 seconds"}});
  result.function_error = "Unhandled";
  world_.end_and_settle(event, result);
  EXPECT_EQ(world_.get(id)["state"], "failed");
  EXPECT_THAT(world_.get(id)["error"]["hint"].get<std::string>(), ::testing::HasSubstr("run.checkpoint()"));
}

TEST_F(RunsTest, AnAnswerThatIsNoResultFailsTheRun) {
  for (const auto& payload :
       {Json("text"), Json{{"artefact", {{"blob", "../x"}, {"format", "skops"}}}}, Json(nullptr)}) {
    const std::string id = world_.start_run()["id"];
    const auto event = world_.events.accepted.back();
    world_.end_and_settle(event, answered(event, payload));
    EXPECT_EQ(world_.get(id)["state"], "failed") << payload;
  }
}

TEST_F(RunsTest, AQueuedRunStopsAtOnceAndItsEventDoesNothing) {
  const std::string id = world_.start_run()["id"];
  const auto event = world_.events.accepted[0];
  EXPECT_EQ((*world_.runs->stop_run(kTenant, id))["state"], "stopped");
  EXPECT_EQ((*world_.host_call(event, "run.start", Json::object()))["stop"], true);
  EXPECT_EQ(world_.get(id)["attempt"], 0);
  world_.end_and_settle(event, answered(event, {{"stopped", true}}));
  EXPECT_EQ(world_.get(id)["state"], "stopped");
}

TEST_F(RunsTest, ARunningRunIsToldAtItsNextLog) {
  const std::string id = world_.start_run()["id"];
  const auto event = world_.events.accepted[0];
  ASSERT_TRUE(world_.host_call(event, "run.start", Json::object()).ok());
  EXPECT_EQ((*world_.runs->stop_run(kTenant, id))["state"], "running");
  EXPECT_EQ((*world_.host_call(event, "run.metrics", {{"values", {{"auc", 1}}}}))["stop"], true);
  world_.end_and_settle(event, answered(event, {{"stopped", true}}));
  EXPECT_EQ(world_.get(id)["state"], "stopped");
  EXPECT_EQ((*world_.runs->stop_run(kTenant, id))["state"], "stopped");
}

TEST_F(RunsTest, ARunThatLogsNothingIsKilledSomeTimeAfterItWasAskedToStop) {
  const std::string id = world_.start_run()["id"];
  const auto event = world_.events.accepted[0];
  ASSERT_TRUE(world_.host_call(event, "run.start", Json::object()).ok());
  ASSERT_TRUE(world_.runs->stop_run(kTenant, id).ok());
  ASSERT_TRUE(world_.runs->stop_run(kTenant, id).ok());
  world_.loop.advance(Millis{9'900});
  EXPECT_THAT(world_.invoker.killed, ::testing::IsEmpty());
  world_.loop.advance(Millis{200});
  EXPECT_TRUE(world_.loop.run_until([&] { return !world_.invoker.killed.empty(); }));
  EXPECT_THAT(world_.invoker.killed, ::testing::ElementsAre(event.request_id));
  // The event is delivered again, and told.
  EXPECT_EQ((*world_.host_call(event, "run.start", Json::object()))["stop"], true);
  world_.end_and_settle(event, answered(event, {{"stopped", true}}));
  EXPECT_EQ(world_.get(id)["state"], "stopped");
}

TEST_F(RunsTest, ARunThatEndsInTimeAfterItWasAskedToStopIsNotKilled) {
  const std::string id = world_.start_run()["id"];
  const auto event = world_.events.accepted[0];
  ASSERT_TRUE(world_.host_call(event, "run.start", Json::object()).ok());
  ASSERT_TRUE(world_.runs->stop_run(kTenant, id).ok());
  world_.end_and_settle(event, answered(event, {{"stopped", true}}));
  world_.loop.advance(Millis{20'000});
  world_.shut_down();  // when the pool's work is done
  EXPECT_THAT(world_.invoker.killed, ::testing::IsEmpty());
}

TEST_F(RunsTest, ARedeliveredEventGoesOnFromTheCheckpoint) {
  const std::string id = world_.start_run()["id"];
  auto event = world_.events.accepted[0];
  ASSERT_TRUE(world_.host_call(event, "run.start", Json::object()).ok());
  ASSERT_TRUE(world_.host_call(event, "run.metrics", {{"values", {{"loss", 3}}}}).ok());
  const auto blob = world_.blobs->put("state of step 4")->id;
  EXPECT_EQ(world_.host_call(event, "run.checkpoint", {{"blob", blob}}).error().code, Code::permission_denied);
  event.granted_blobs.insert(blob);
  ASSERT_TRUE(world_.host_call(event, "run.checkpoint", {{"blob", blob}}).ok());
  EXPECT_EQ(world_.host_call(event, "run.checkpoint", {{"blob", "x"}}).error().code, Code::invalid_argument);
  world_.restart();
  auto begun = world_.host_call_with_files(event, "run.start", Json::object());
  ASSERT_TRUE(begun.ok());
  EXPECT_EQ(begun->result["attempt"], 2);
  EXPECT_EQ(begun->result["checkpoint"], blob);
  ASSERT_EQ(begun->fds.size(), 1u);
  std::string content(15, '\0');
  EXPECT_EQ(::pread(begun->fds[0].get(), content.data(), content.size(), 0), 15);
  EXPECT_EQ(content, "state of step 4");
  ASSERT_TRUE(world_.host_call(event, "run.metrics", {{"values", {{"loss", 2}}}}).ok());
  const auto points = world_.get(id, 0)["points"];
  ASSERT_EQ(points.size(), 2u);
  EXPECT_EQ(points[1]["n"], 2);
  EXPECT_EQ(points[1]["attempt"], 2);
}

TEST_F(RunsTest, ARunWhoseEventWasLostIsHandedOverAgainAndGivenUpInTheEnd) {
  const std::string id = world_.start_run()["id"];
  for (int attempt = 1; attempt <= 3; ++attempt) {
    const auto event = world_.events.accepted.back();
    ASSERT_TRUE(world_.host_call(event, "run.start", Json::object()).ok());
    const auto before = world_.events.accepted.size();
    world_.restart();
    world_.runs->start();
    if (attempt < 3) {
      ASSERT_TRUE(world_.loop.run_until([&] { return world_.events.accepted.size() > before; }));
      EXPECT_EQ(world_.events.accepted.back().meta["attempt"], attempt + 1);
    }
  }
  ASSERT_TRUE(world_.loop.run_until([&] { return world_.get(id)["state"] == "failed"; }));
}

TEST_F(RunsTest, AnEventThatStillWaitsIsNotHandedOverTwice) {
  world_.start_run();
  ASSERT_TRUE(world_.queue->append(invoke::event_queue(kTenant, "fit"), "the event").ok());
  world_.runs->start();
  world_.pool.reset();
  world_.loop.run_pending();
  EXPECT_EQ(world_.events.accepted.size(), 1u);
  world_.pool = std::make_unique<Pool>("test", Pool::Options{});
  world_.restart();
}

TEST_F(RunsTest, AnEventOnItsWayIsNotTakenForLost) {
  world_.events.hold = true;
  learn::NewRun run;
  run.function = "fit";
  auto made = std::async(std::launch::async, [&] { return world_.runs->create(kTenant, run); });
  ASSERT_TRUE(world_.loop.run_until([&] { return !world_.events.held.empty(); }));
  world_.events.hold = false;
  world_.clock.advance(Millis{5});
  const auto lost = world_.start_run()["id"];  // its event is in no queue
  world_.runs->start();
  ASSERT_TRUE(world_.loop.run_until([&] { return world_.events.accepted.size() >= 3; }));
  EXPECT_EQ(Json(world_.events.accepted[2].tags.at("run")), lost);
  world_.events.held[0]();
  ASSERT_TRUE(made.get().ok());
  world_.loop.run_pending();
  EXPECT_EQ(world_.events.accepted.size(), 3U);
}

TEST_F(RunsTest, AWaitEndsWithNewsOrItsTime) {
  const std::string id = world_.start_run()["id"];
  const auto event = world_.events.accepted[0];
  ASSERT_TRUE(world_.host_call(event, "run.start", Json::object()).ok());
  world_.loop.run_pending();
  std::optional<Result<Json>> seen;
  std::mutex mutex;
  const auto wait = [&](int64_t after) {
    seen.reset();
    world_.runs->wait(kTenant, id, after, Millis{20'000}, [&](Result<Json> run) {
      const std::lock_guard lock(mutex);
      seen.emplace(std::move(run));
    });
    world_.loop.run_pending();
  };
  const auto has_come = [&] {
    const std::lock_guard lock(mutex);
    return seen.has_value();
  };
  wait(0);
  EXPECT_FALSE(has_come());
  ASSERT_TRUE(world_.host_call(event, "run.metrics", {{"values", {{"auc", 0.5}}}}).ok());
  ASSERT_TRUE(world_.loop.run_until(has_come));
  EXPECT_EQ((**seen)["points"].size(), 1u);
  wait(1);
  EXPECT_FALSE(has_come());
  world_.loop.advance(Millis{20'000});
  ASSERT_TRUE(world_.loop.run_until(has_come));
  EXPECT_TRUE((**seen)["points"].empty());
  wait(1);
  world_.end_and_settle(event, answered(event, {{"stopped", true}}));
  ASSERT_TRUE(world_.loop.run_until(has_come));
  EXPECT_EQ((**seen)["state"], "stopped");
}

TEST_F(RunsTest, ListIsPagedInOrderOfCreation) {
  std::vector<std::string> made;
  for (int i = 0; i < 5; ++i) {
    made.push_back(world_.start_run()["id"]);
    world_.clock.advance(Millis{5});
  }
  const auto first = *world_.runs->list(kTenant, "", "", 3);
  const auto second = *world_.runs->list(kTenant, "", first.next, 3);
  std::vector<std::string> listed;
  for (const auto* page : {&first, &second}) {
    for (const auto& run : page->items) listed.push_back(run["id"]);
  }
  EXPECT_EQ(listed, made);
  EXPECT_EQ(second.next, "");
  EXPECT_TRUE(world_.runs->list("other", "", "", 3)->items.empty());
}

// ---- studies ----

Json settings() {
  return {{"name", "search"}, {"function", "fit"},       {"dataset", "clients"}, {"space", {{"rate", {0.01, 0.5}}}},
          {"metric", "auc"},  {"direction", "maximise"}, {"trials", 5}};
}

TEST_F(RunsTest, AStudyIsResumedByItsNameAndSettings) {
  const auto study = *world_.studies->create(kTenant, settings());
  EXPECT_EQ(study["dataset"], "clients@2");
  EXPECT_EQ(study["total"], 5);
  EXPECT_TRUE(world_.studies->create(kTenant, settings()).ok());
  auto other = settings();
  other["trials"] = 9;
  const auto refused = world_.studies->create(kTenant, other);
  EXPECT_EQ(refused.error().code, Code::conflict);
  EXPECT_THAT(refused.error().message, ::testing::HasSubstr("trials 5, not 9"));
  other = settings();
  other["direction"] = "up";
  EXPECT_EQ(world_.studies->create(kTenant, other).error().code, Code::invalid_argument);
}

TEST_F(RunsTest, ATrialIsOneRunHoweverOftenItIsAskedFor) {
  ASSERT_TRUE(world_.studies->create(kTenant, settings()).ok());
  const Json trial{{"number", 0}, {"parameters", {{"rate", 0.2}}}};
  const auto add = [&] { return world_.studies->add_trial(kTenant, "search", trial); };
  const auto run = *world_.blocking(add);
  EXPECT_EQ(run["study"], "search");
  EXPECT_EQ((*world_.blocking(add))["id"], run["id"]);
  EXPECT_EQ(world_.events.accepted.size(), 1u);
  const Json other{{"number", 0}, {"parameters", {{"rate", 0.3}}}};
  EXPECT_EQ(world_.studies->add_trial(kTenant, "search", other).error().code, Code::conflict);

  const auto event = world_.events.accepted[0];
  ASSERT_TRUE(world_.host_call(event, "run.start", Json::object()).ok());
  ASSERT_TRUE(world_.host_call(event, "run.metrics", {{"values", {{"auc", 0.7}}}}).ok());
  ASSERT_TRUE(world_.studies->set_trial(kTenant, "search", 0, {{"state", "succeeded"}, {"value", 0.7}}).ok());
  world_.restart();
  const auto study = *world_.studies->get(kTenant, "search");
  EXPECT_EQ(study["best"]["value"], 0.7);
  EXPECT_EQ(study["best"]["run"], run["id"]);
  EXPECT_EQ(study["trials"][0]["points"], (Json{{{"n", 1}, {"step", 1}, {"value", 0.7}}}));
  EXPECT_EQ(world_.studies->set_trial(kTenant, "search", 4, {{"state", "failed"}}).error().code, Code::not_found);
  EXPECT_EQ(world_.studies->set_trial(kTenant, "search", 0, {{"state", "good"}}).error().code, Code::invalid_argument);
}

}  // namespace
}  // namespace sundog::testing
