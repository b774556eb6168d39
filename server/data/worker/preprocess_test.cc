#include <gmock/gmock.h>

#include "data/worker/local_services.h"

namespace sundog::data {
namespace {

using testing::HasSubstr;

class Preprocess : public DataJobsTest {
 protected:
  // 400 rows, a quarter of them of class 1; "age" is missing in every tenth, "group" in every seventh.
  Json clients(Json more = Json::object()) {
    std::string text = "id,age,group,t,y\n";
    for (int i = 0; i < 400; ++i) {
      text += std::to_string(i) + "," + (i % 10 == 0 ? "" : std::to_string(20 + i % 50)) + "," +
              (i % 7 == 0 ? ""
               : i % 3    ? "a"
                          : "b") +
              ",2026-01-01T" + (i % 24 < 10 ? "0" : "") + std::to_string(i % 24) + ":00:00," +
              (i % 4 == 0 ? "1" : "0") + "\n";
    }
    return create(text, "clients", "y", std::move(more));
  }
  std::map<int, int> classes(const Json& version, const std::string& split) {
    std::map<int, int> out;
    for (const auto& row : rows(version, split))
      ++out[row[row.size() - (row.back().is_number_float() ? 2 : 1)].get<int>()];
    return out;
  }
};

TEST_F(Preprocess, SplitsEachClassExactlyAndRemembersWhereItCameFrom) {
  const Json version = clients();
  const Job job = preprocess(version, {{"as", "ready"}, {"drop", {"id"}}});
  ASSERT_EQ(job.state, "succeeded") << dump(job.error);
  EXPECT_EQ(classes(job.result, "train"), (std::map<int, int>{{0, 180}, {1, 60}}));
  EXPECT_EQ(classes(job.result, "valid"), (std::map<int, int>{{0, 60}, {1, 20}}));
  EXPECT_EQ(classes(job.result, "test"), (std::map<int, int>{{0, 60}, {1, 20}}));
  EXPECT_EQ(job.result["dataset"], "ready");
  EXPECT_EQ(job.result["lineage"]["parents"], Json::parse(R"(["clients@1"])"));
  EXPECT_EQ(job.result["schema"][0]["name"], "age");
}

TEST_F(Preprocess, SplitsAlikeHoweverTheRowsAreCutIntoShards) {
  const std::string text = [] {
    std::string out = "x,s,y\n";
    for (int i = 0; i < 30000; ++i)
      out += std::to_string(i) + "," + std::string(90, 'a') + "," + std::to_string(i % 3 == 0) + "\n";
    return out;
  }();
  const Json whole = create(text, "whole", "y");
  // Sixteen shards, through the worker alone: the routes cut at 16 MB and more.
  BlobsHost host(*blobs_, {blobs_->put(text)->id});
  Json cut = *worker::run("ingest", {{"blob", blobs_->put(text)->id}, {"shard_memory_bytes", 1 << 20}}, host);
  cut["dataset"] = "cut";
  cut["label"] = "y";
  ASSERT_GT(cut["shards"].size(), 2U);
  ASSERT_TRUE(datasets_->add_version("t", *DatasetVersion::from_json(cut), "token").ok());
  const Json rules{{"as", "ready"}, {"split", {{"by", "stratified"}, {"parts", {0.01, 0.01, 0.98}}, {"seed", 5}}}};
  const Job a = preprocess(whole, rules), b = preprocess({{"dataset", "cut"}, {"version", 1}}, rules);
  ASSERT_EQ(a.state, "succeeded") << dump(a.error);
  ASSERT_EQ(b.state, "succeeded") << dump(b.error);
  EXPECT_EQ(rows(a.result, "train"), rows(b.result, "train"));
  EXPECT_EQ(rows(a.result, "train").size(), 300U);
}

TEST_F(Preprocess, BalancesTheTrainingPartAlone) {
  const Json version = clients();
  const Job under = preprocess(version, {{"as", "u"}, {"balance", "undersample"}});
  EXPECT_EQ(classes(under.result, "train"), (std::map<int, int>{{0, 60}, {1, 60}}));
  EXPECT_EQ(classes(under.result, "test"), (std::map<int, int>{{0, 60}, {1, 20}}));
  const Job over = preprocess(version, {{"as", "o"}, {"balance", "oversample"}});
  EXPECT_EQ(classes(over.result, "train"), (std::map<int, int>{{0, 180}, {1, 180}}));
  EXPECT_EQ(classes(over.result, "valid"), (std::map<int, int>{{0, 60}, {1, 20}}));
  const Job weighted = preprocess(version, {{"as", "w"}, {"balance", "weights"}});
  std::map<int, double> sums;
  for (const auto& row : rows(weighted.result, "train")) sums[row[4].get<int>()] += row[5].get<double>();
  EXPECT_NEAR(sums[0], sums[1], 1e-9);
  EXPECT_EQ(rows(weighted.result, "test")[0].size(), 5U);
}

TEST_F(Preprocess, FillsFromTheTrainingPartAlone) {
  const Json version = create("x,k,y\n1,a,0\n3,a,0\n,b,0\n1000,,0\n1000,,1\n2000,,1\n", "small", "y");
  const Job job = preprocess(version, {{"as", "f"},
                                       {"missing", {{"fill", {{"x", "mean"}, {"k", "most_frequent"}}}}},
                                       {"split", {{"by", "time"}, {"column", "y"}, {"parts", {0.5, 0.5}}}}});
  ASSERT_EQ(job.state, "succeeded") << dump(job.error);
  EXPECT_EQ(rows(job.result, "train"), Json::parse(R"([[1,"a",0],[3,"a",0],[2,"b",0]])"));
  EXPECT_EQ(rows(job.result, "test"), Json::parse(R"([[1000,"a",0],[1000,"a",1],[2000,"a",1]])"));
  EXPECT_EQ(job.result["lineage"]["fills"], Json::parse(R"({"x":2,"k":"a"})"));
}

TEST_F(Preprocess, MakesAnIntegerColumnAFloatWhenItsMeanIsNone) {
  const Json version = create("x,y\n1,0\n2,1\n,0\n,1\n", "small", "y");
  const Job job = preprocess(
      version,
      {{"as", "f"}, {"missing", {{"fill", {{"x", "median"}}}}}, {"split", {{"by", "random"}, {"parts", {1.0}}}}});
  ASSERT_EQ(job.state, "succeeded") << dump(job.error);
  EXPECT_EQ(rows(job.result, "train"), Json::parse("[[1.0,0],[2.0,1],[1.5,0],[1.5,1]]"));
  EXPECT_EQ(job.result["schema"][0], Json::parse(R"({"name":"x","type":"float64","nullable":false})"));
}

TEST_F(Preprocess, QuarantinesWhatIsOutOfRangeAndCountsWhatItDrops) {
  const Json version = create("x,y\n1,0\n2,1\n99,0\n,1\n2,1\n3,0\n", "small", "y");
  const Job job = preprocess(version, {{"as", "r"},
                                       {"ranges", {{"x", {0, 50}}}},
                                       {"missing", {{"drop_rows", {"x"}}}},
                                       {"drop_duplicates", true},
                                       {"split", {{"by", "random"}, {"parts", {1.0}}}}});
  ASSERT_EQ(job.state, "succeeded") << dump(job.error);
  EXPECT_EQ(rows(job.result, "train"), Json::parse("[[1,0],[2,1],[3,0]]"));
  EXPECT_EQ(job.result["lineage"]["rows"],
            Json::parse(
                R"({"in":6,"train":3,"valid":0,"test":0,"dropped_missing":1,"dropped_duplicates":1,"quarantined":1})"));
  BlobsHost host(*blobs_, {job.result["quarantine"]["blob"].get<std::string>()});
  EXPECT_EQ((*worker::run("rows", {{"blobs", {job.result["quarantine"]["blob"]}}}, host))["rows"],
            Json::parse(R"([[3,"column \"x\" is 99, above 50.0","99,0"]])"));
}

TEST_F(Preprocess, SaysWhatIsWrongWithTheLabel) {
  const Json one = create("x,y\n1,0\n2,0\n", "one", "y");
  EXPECT_THAT(dump(preprocess(one, Json::object()).error), HasSubstr("Every row has the same label"));
  const Json missing = create("x,y\n1,0\n2,\n3,1\n", "missing", "y");
  EXPECT_THAT(dump(preprocess(missing, Json::object()).error), HasSubstr("1 of 3 rows have no label"));
  EXPECT_EQ(preprocess(missing, {{"missing", {{"drop_rows", {"y"}}}}, {"split", {{"parts", {1.0}}}}}).state,
            "succeeded");
  EXPECT_THAT(dump(preprocess(missing, {{"drop", {"y"}}}).error), HasSubstr("is dropped"));
  EXPECT_THAT(dump(preprocess(one, {{"ranges", {{"x", {5, 6}}}}}).error), HasSubstr("leave no rows"));
}

TEST_F(Preprocess, CutsShardsToFitAndPacksSmallOnes) {
  std::string text = "a,s,y\n";
  for (int i = 0; i < 100000; ++i)
    text += std::to_string(i) + "," + std::string(200, 'x') + "," + std::to_string(i % 2) + "\n";
  const Json version = create(text, "large", "y", {{"memory_mb", 128}});
  ASSERT_GT(version["shards"].size(), 1U);
  const Job job = preprocess(version, {{"as", "cut"}, {"fit_in_mb", 32}, {"split", {{"parts", {0.9, 0.05, 0.05}}}}});
  ASSERT_EQ(job.state, "succeeded") << dump(job.error);
  std::map<std::string, int> count;
  for (const auto& shard : job.result["shards"]) {
    EXPECT_LE(shard["memory_bytes"].get<int64_t>(), (32 << 20) / 4);
    ++count[shard["split"].get<std::string>()];
  }
  EXPECT_EQ(job.result["rows"], 100000);
  EXPECT_EQ(count["valid"], 1);
  EXPECT_EQ(count["test"], 1);
}

TEST_F(Preprocess, WaitsOutThrottling) {
  invoker_->throttle = 3;
  EXPECT_EQ(create("x\n1\n", "d", "")["rows"], 1);
  EXPECT_EQ(invoker_->calls.load(), 4);
}

TEST_F(Preprocess, CarriesTheWorkersErrorToTheJob) {
  const Job job = run("ingest", {{"name", "d"}, {"blob", blobs_->put("income,y\n1,0\n")->id}, {"label", "incone"}});
  EXPECT_EQ(job.state, "failed");
  EXPECT_EQ(job.error["code"], "invalid_argument");
  EXPECT_THAT(job.error["message"].get<std::string>(), HasSubstr("Near it: \"income\""));
}

TEST_F(Preprocess, CancelsAndLeavesStoppedJobsForTheNextStart) {
  invoker_->hold = true;
  const std::string blob = blobs_->put("x\n1\n")->id;
  const auto first = jobs_->submit("t", "ingest", {{"name", "a"}, {"blob", blob}});
  const auto second = jobs_->submit("t", "ingest", {{"name", "b"}, {"blob", blob}});
  ASSERT_TRUE(jobs_->cancel("t", first->id).ok());
  EXPECT_EQ(wait(first->id).state, "cancelled");
  EXPECT_EQ(jobs_->cancel("t", first->id).error().code, Code::conflict);
  jobs_->stop();
  invoker_->hold = false;
  start();
  EXPECT_EQ(wait(second->id).state, "succeeded");
  EXPECT_EQ(jobs_->get("t", first->id)->state, "cancelled");
  EXPECT_EQ(jobs_->get("other", second->id).error().code, Code::not_found);
  EXPECT_EQ(jobs_->list("t", "", 10)->items.size(), 2U);
}

}  // namespace
}  // namespace sundog::data
