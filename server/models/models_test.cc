#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "learn/test_world.h"
#include "models/endpoint_record.h"
#include "models/endpoints.h"
#include "models/package.h"
#include "models/predictions.h"
#include "models/registry.h"
#include "models/signature.h"

namespace sundog::testing {
namespace {

const Json kSignature = {
    {"inputs", {{{"name", "income"}, {"type", "float64"}, {"nullable", true}}}},
    {"outputs", {{{"name", "prediction"}, {"type", "int64"}}, {{"name", "probability"}, {"type", "float64"}}}}};

// Runs a job's handler at once, on the caller's thread; an unfinished job can be run again with what it saved.
class FakeJobs final : public data::Jobs {
 public:
  explicit FakeJobs(FakeInvoker& invoker) : invoker_(invoker) {}

  class Context final : public data::JobContext {
   public:
    Context(FakeJobs& jobs, const data::Job& job) : jobs_(jobs), job_(job) {}
    const data::Job& job() const override { return job_; }
    void progress(int64_t, int64_t, std::string) override {}
    bool cancelled() const override { return false; }
    Json saved() const override { return jobs_.saved; }
    Status save(Json state) override {
      jobs_.saved = std::move(state);
      return done;
    }
    Result<invoke::InvokeResult> invoke(invoke::Invocation invocation) override {
      Result<invoke::InvokeResult> out = fail(Code::internal, "not called");
      jobs_.invoker_.invoke(std::move(invocation),
                            [&](Result<invoke::InvokeResult> result) { out = std::move(result); });
      if (out.ok() && !out->function_error.empty()) return fail(Code::invalid_argument, out->payload);
      return out;
    }
    Result<std::vector<invoke::InvokeResult>> invoke_all(std::vector<invoke::Invocation> invocations, int) override {
      std::vector<invoke::InvokeResult> results;
      for (auto& invocation : invocations) {
        SUNDOG_TRY(result, invoke(std::move(invocation)));
        results.push_back(std::move(result));
      }
      return results;
    }

   private:
    FakeJobs& jobs_;
    const data::Job& job_;
  };

  void add_kind(std::string kind, data::JobHandler handler) override { kinds_[std::move(kind)] = std::move(handler); }
  Result<data::Job> submit(const std::string& tenant, const std::string& kind, Json arguments) override {
    last.id = "job-" + std::to_string(++count_);
    last.tenant = tenant;
    last.kind = kind;
    last.arguments = std::move(arguments);
    saved = Json();
    return last;
  }
  Result<Json> run_last() {
    Context context(*this, last);
    return kinds_.at(last.kind)(context);
  }
  Result<data::Job> get(const std::string&, const std::string&) const override { return last; }
  Result<data::Job> wait(const std::string&, const std::string&, Millis) const override { return last; }
  Result<data::JobPage> list(const std::string&, const std::string&, size_t) const override { return data::JobPage{}; }
  Status cancel(const std::string&, const std::string&) override { return done; }
  Status start() override { return done; }
  void ask_to_stop() override {}
  void stop() override {}

  data::Job last;
  Json saved;

 private:
  FakeInvoker& invoker_;
  std::map<std::string, data::JobHandler> kinds_;
  int count_ = 0;
};

class ModelsTest : public ::testing::Test {
 protected:
  ModelsTest() {
    registry_ = models::open_registry(*world_.catalog, *world_.blobs, world_.clock, *world_.runs,
                                      [](const std::string& tenant, const std::string&) { return tenant == kTenant; });
    reopen();
    world_.invoker.answer = [](const invoke::Invocation& call) { return answered(call, Json::object()); };
  }
  void reopen() {
    jobs_ = std::make_unique<FakeJobs>(world_.invoker);
    endpoints_ = std::move(
        *models::open_endpoints({*world_.catalog, *world_.blobs, world_.clock, world_.functions, *registry_, *jobs_}));
    predictions_ = models::make_predictions(*jobs_, world_.datasets, *endpoints_, world_.clock);
  }
  Json artefact(const std::string& content) {
    return {{"artefact", world_.blobs->put(content)->id},
            {"format", "skops"},
            {"signature", kSignature},
            {"environment", "env-1"}};
  }
  Json add(const std::string& content) { return *registry_->add_version(kTenant, "risk", artefact(content)); }
  Result<Json> deploy(int version, const std::string& alias = "live", const Json& weight = Json()) {
    auto job = endpoints_->deploy(kTenant, "risk", {{"version", version}, {"alias", alias}, {"weight", weight}});
    if (!job.ok()) return std::move(job).error();
    return jobs_->run_last();
  }
  functions::Alias alias(const std::string& name) { return *world_.functions.get_alias(kTenant, "model-risk", name); }

  World world_;
  std::unique_ptr<models::Registry> registry_;
  std::unique_ptr<FakeJobs> jobs_;
  std::unique_ptr<models::Endpoints> endpoints_;
  std::unique_ptr<models::Predictions> predictions_;
};

TEST_F(ModelsTest, NumbersAreNeverGivenTwice) {
  EXPECT_EQ(add("one")["version"], 1);
  EXPECT_EQ(add("two")["version"], 2);
  ASSERT_TRUE(registry_->remove_version(kTenant, "risk", 2).ok());
  EXPECT_EQ(add("three")["version"], 3);
  EXPECT_EQ(registry_->get_version(kTenant, "risk", "2").error().code, Code::not_found);
  EXPECT_EQ((*registry_->get_version(kTenant, "risk", "latest"))["version"], 3);
  EXPECT_EQ(registry_->describe("other", "risk").error().code, Code::not_found);
}

TEST_F(ModelsTest, AliasesHoldTheirVersion) {
  add("one");
  ASSERT_TRUE(registry_->set_alias(kTenant, "risk", "best", 1).ok());
  EXPECT_EQ((*registry_->get_version(kTenant, "risk", "best"))["version"], 1);
  EXPECT_EQ(registry_->remove_version(kTenant, "risk", 1).error().code, Code::conflict);
  EXPECT_EQ(registry_->set_alias(kTenant, "risk", "best", 7).error().code, Code::not_found);
  EXPECT_EQ(registry_->set_alias(kTenant, "risk", "latest", 1).error().code, Code::invalid_argument);
  ASSERT_TRUE(registry_->remove_alias(kTenant, "risk", "best").ok());
  EXPECT_TRUE(registry_->remove_version(kTenant, "risk", 1).ok());
}

TEST_F(ModelsTest, WhatIsNoModelIsRefused) {
  auto request = artefact("one");
  EXPECT_EQ(registry_->add_version(kTenant, "a.b", request).error().code, Code::invalid_argument);
  EXPECT_EQ(registry_->add_version("other", "risk", request).error().code, Code::not_found);
  request["format"] = "pickle";
  EXPECT_EQ(registry_->add_version(kTenant, "risk", request).error().code, Code::invalid_argument);
  request = artefact("one");
  request["signature"]["inputs"][0]["type"] = "complex";
  EXPECT_THAT(registry_->add_version(kTenant, "risk", request).error().message, ::testing::HasSubstr("\"income\""));
}

TEST_F(ModelsTest, ARunThatSucceededBecomesAVersion) {
  const std::string id = world_.start_run()["id"];
  EXPECT_EQ(registry_->add_version(kTenant, "risk", {{"run", id}}).error().code, Code::conflict);
  const auto blob = world_.blobs->put("fitted")->id;
  const auto event = world_.events.accepted[0];
  world_.end_and_settle(event, answered(event, {{"metrics", {{"auc", 0.8}}},
                                                {"artefact", {{"blob", blob}, {"format", "skops"}, {"bytes", 6}}},
                                                {"signature", kSignature}}));
  const auto version = *registry_->add_version(kTenant, "risk", {{"run", id}});
  EXPECT_EQ(version["metrics"]["auc"], 0.8);
  EXPECT_EQ(version["lineage"]["dataset"], "clients@2");
  EXPECT_EQ(version["environment"], "env-1");
  EXPECT_EQ(version["signature"], kSignature);
  EXPECT_TRUE(registry_->names_blob(kTenant, blob));
}

TEST_F(ModelsTest, ADeployIsCalledOnceBeforeItsAliasMoves) {
  add("one");
  const auto endpoint = deploy(1);
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().text();
  EXPECT_EQ((*endpoint)["weights"], (Json{{"1", 1.0}}));
  EXPECT_EQ(alias("live").version, "1");
  ASSERT_EQ(world_.invoker.invoked.size(), 1u);
  EXPECT_EQ(world_.invoker.invoked[0].qualifier, "1");
  const auto& config = world_.functions.at(kTenant, "model-risk").latest.config;
  EXPECT_EQ(config.handler, models::kHandler);
  EXPECT_EQ(config.environment_id, "env-1");
  EXPECT_EQ(config.kind, functions::Kind::prediction);

  add("two");
  world_.invoker.answer = [](const invoke::Invocation& call) {
    auto result = answered(call, {{"errorType", "ArtefactError"}});
    result.function_error = "Unhandled";
    return result;
  };
  EXPECT_FALSE(deploy(2).ok());
  EXPECT_EQ(alias("live").version, "1");
  EXPECT_EQ((*endpoints_->get(kTenant, "risk", ""))["weights"], (Json{{"1", 1.0}}));
}

TEST_F(ModelsTest, ADeployThatCameBetweenIsAConflictAndTriedAgain) {
  add("one");
  world_.functions.before_publish = [&] {
    ASSERT_TRUE(world_.functions.update_code(kTenant, "model-risk", "another's", false, "", false).ok());
  };
  const auto endpoint = deploy(1);
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().text();
  EXPECT_EQ(world_.functions.at(kTenant, "model-risk").published.size(), 1u);
  EXPECT_NE(world_.functions.last_zip, "another's");
}

TEST_F(ModelsTest, TrafficMovesByWeightsAndSurvivesARestart) {
  add("one");
  add("two");
  ASSERT_TRUE(deploy(1).ok());
  EXPECT_EQ(endpoints_->set_traffic(kTenant, "risk", {{"weights", {{"1", 0.9}, {"2", 0.1}}}}).error().code,
            Code::not_found);
  ASSERT_TRUE(deploy(2, "next").ok());
  EXPECT_EQ(alias("live").version, "1");
  ASSERT_TRUE(endpoints_->set_traffic(kTenant, "risk", {{"weights", {{"1", 0.9}, {"2", 0.1}}}}).ok());
  EXPECT_EQ(alias("live").version, "1");
  EXPECT_EQ(alias("live").weights, (std::map<std::string, double>{{"2", 0.1}}));
  EXPECT_EQ(endpoints_->check_unused(kTenant, "risk", 2).error().code, Code::conflict);
  for (const auto& bad : {Json{{"1", 0.5}}, Json{{"1", -0.5}, {"2", 1.5}}, Json{{"1", "x"}}, Json::object(), Json(3)}) {
    EXPECT_EQ(endpoints_->set_traffic(kTenant, "risk", {{"weights", bad}}).error().code, Code::invalid_argument) << bad;
  }
  reopen();
  const auto serving = *endpoints_->serving(kTenant, "risk", "", "");
  EXPECT_EQ(serving.qualifier, "live");
  EXPECT_EQ(serving.version, "1");
  EXPECT_EQ(*serving.signature, kSignature);
  EXPECT_EQ(endpoints_->serving(kTenant, "risk", "2", "")->qualifier, "2");
  EXPECT_EQ(endpoints_->serving(kTenant, "risk", "9", "").error().code, Code::not_found);
  EXPECT_EQ(endpoints_->serving("other", "risk", "", "").error().code, Code::not_found);
}

TEST_F(ModelsTest, EndpointsAreListedPageByPage) {
  add("one");
  for (const auto* alias : {"live", "canary", "next"}) ASSERT_TRUE(deploy(1, alias).ok());
  ASSERT_TRUE(registry_->add_version(kTenant, "churn", artefact("two")).ok());
  ASSERT_TRUE(endpoints_->deploy(kTenant, "churn", {{"version", 1}, {"alias", "live"}}).ok());
  ASSERT_TRUE(jobs_->run_last().ok());
  for (const size_t limit : {1, 2, 3, 4, 100}) {
    std::vector<std::string> listed;
    std::string after;
    do {
      const auto page = *endpoints_->list(kTenant, after, limit);
      EXPECT_LE(page["items"].size(), limit);
      for (const auto& item : page["items"])
        listed.push_back(item["model"].get<std::string>() + ":" + item["alias"].get<std::string>());
      after = page["next"];
    } while (!after.empty());
    EXPECT_EQ(listed, (std::vector<std::string>{"churn:live", "risk:canary", "risk:live", "risk:next"})) << limit;
  }
  EXPECT_EQ((*endpoints_->list(kTenant, "", 4))["next"], "");
  EXPECT_EQ((*endpoints_->list(kTenant, "risk", 10))["items"].size(), 3U);
  EXPECT_TRUE((*endpoints_->list("other", "", 10))["items"].empty());
}

TEST_F(ModelsTest, ADeployWithAWeightLeavesTheRestToWhatAnswersNow) {
  for (const char* content : {"one", "two", "three"}) add(content);
  EXPECT_EQ((*deploy(1, "live", 0.25))["weights"], (Json{{"1", 1.0}})) << "nothing else answers";
  EXPECT_EQ((*deploy(2, "live", 0.25))["weights"], (Json{{"1", 0.75}, {"2", 0.25}}));
  EXPECT_EQ(alias("live").weights, (std::map<std::string, double>{{"2", 0.25}}));
  EXPECT_EQ(deploy(3, "live", 0.5).error().code, Code::conflict);
  EXPECT_EQ((*deploy(2, "live", 0.5))["weights"], (Json{{"1", 0.5}, {"2", 0.5}}));
  EXPECT_EQ((*deploy(3))["weights"], (Json{{"3", 1.0}}));
  for (const Json& bad : {Json(0), Json(-0.1), Json(1.1), Json("x")}) {
    EXPECT_EQ(deploy(1, "live", bad).error().code, Code::invalid_argument) << bad;
  }
}

TEST_F(ModelsTest, TheSameVersionGivesTheSamePackage) {
  const auto version = add("one");
  const auto zip = *models::package_of(version, *world_.blobs);
  EXPECT_EQ(zip, *models::package_of(version, *world_.blobs));
  EXPECT_THAT(zip, ::testing::HasSubstr("model.json"));
  EXPECT_EQ(zip.substr(0, 2), "PK");
}

TEST_F(ModelsTest, APredictionGoesOnAfterTheShardsThatAreDone) {
  add("one");
  ASSERT_TRUE(deploy(1).ok());
  auto& shards = world_.datasets.versions[0].shards;
  shards.clear();
  for (int i = 0; i < 7; ++i) shards.push_back({"all", std::string(64, static_cast<char>('0' + i)), 10 + i, 100, 200});
  ASSERT_TRUE(predictions_->predict(kTenant, "risk", {{"dataset", "clients"}, {"as", "scored"}, {"parallel", 1}}).ok());
  world_.invoker.invoked.clear();
  int left = 5;
  world_.invoker.answer = [&](const invoke::Invocation& call) -> Result<invoke::InvokeResult> {
    if (left-- == 0) return fail(Code::unavailable, "the server stops here");
    const std::string blob = (*parse_json(call.payload, "payload"))["blob"];
    EXPECT_TRUE(call.granted_blobs.contains(blob));
    return answered(call, {{"blob", std::string(63, 'f') + blob[0]}, {"rows", 10 + (blob[0] - '0')}, {"bytes", 5}});
  };
  EXPECT_EQ(jobs_->run_last().error().code, Code::unavailable);
  left = 100;
  const auto made = jobs_->run_last();
  ASSERT_TRUE(made.ok()) << made.error().text();
  EXPECT_EQ(world_.invoker.invoked.size(), 9u);  // 4 kept, the fifth's group of two repeated
  const auto& scored = world_.datasets.versions.back();
  ASSERT_EQ(scored.shards.size(), 7u);
  for (int i = 0; i < 7; ++i) EXPECT_EQ(scored.shards[i].rows, 10 + i);
  EXPECT_EQ(scored.schema.back().name, "probability");
  EXPECT_EQ(scored.lineage["kind"], "prediction");
}

TEST_F(ModelsTest, APredictionTakesNoBlobThatTheModelDidNotWrite) {
  add("one");
  ASSERT_TRUE(deploy(1).ok());
  ASSERT_TRUE(predictions_->predict(kTenant, "risk", {{"dataset", "clients"}, {"as", "scored"}}).ok());
  const int64_t rows = world_.datasets.versions[0].shards[0].rows;
  world_.invoker.answer = [&](const invoke::Invocation& call) -> Result<invoke::InvokeResult> {
    auto result = answered(call, {{"blob", std::string(64, 'f')}, {"rows", rows}, {"bytes", 5}});
    result.granted_blobs = call.granted_blobs;
    return result;
  };
  EXPECT_EQ(jobs_->run_last().error().code, Code::permission_denied);
}

}  // namespace
}  // namespace sundog::testing
