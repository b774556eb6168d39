#include <gmock/gmock.h>

#include "data/worker/column_profile.h"
#include "data/worker/test_tables.h"

namespace sundog::data::worker {
namespace {

using testing::HasSubstr;

class Profile : public WorkerTest {
 protected:
  Json profile(const Json& answer, const std::string& label = "") {
    Json blobs = Json::array();
    for (const auto& shard : answer["shards"]) blobs.push_back(shard["blob"]);
    return task("profile", {{"blobs", blobs}, {"label", label}});
  }
  static Json column(const Json& profile, const std::string& name) {
    for (const auto& one : profile["columns"]) {
      if (one["name"] == name) return one;
    }
    ADD_FAILURE() << "no column " << name;
    return Json::object();
  }
};

TEST_F(Profile, CountsWhatAColumnHolds) {
  const Json p = profile(ingest("x,s\n1,a\n2,b\n3,a\n4,\n10,a\n"));
  EXPECT_EQ(p["rows"], 5);
  const Json x = column(p, "x");
  EXPECT_EQ(x["distinct"], 5);
  EXPECT_EQ(x["min"], 1);
  EXPECT_EQ(x["max"], 10);
  EXPECT_DOUBLE_EQ(x["mean"].get<double>(), 4.0);
  EXPECT_NEAR(x["std"].get<double>(), 3.535533905932738, 1e-12);
  EXPECT_DOUBLE_EQ(x["quantiles"]["0.5"].get<double>(), 3.0);
  EXPECT_DOUBLE_EQ(x["quantiles"]["0.25"].get<double>(), 2.0);
  EXPECT_EQ(x["histogram"]["edges"].size(), 21U);
  EXPECT_EQ(x["histogram"]["rows"][0], 1);
  EXPECT_EQ(x["histogram"]["rows"][19], 1);
  const Json s = column(p, "s");
  EXPECT_EQ(s["missing"], 1);
  EXPECT_EQ(s["top"], Json::parse(R"([{"value":"a","rows":3},{"value":"b","rows":1}])"));
}

TEST_F(Profile, SuspectsCopiesLeaksAndConstants) {
  std::string text = "id,x,copy,leak,same,one,word,y\n";
  for (int i = 0; i < 200; ++i) {
    const int y = i % 4 == 0;
    text += std::to_string(i) + "," + std::to_string(i * 37 % 101) + "," + std::to_string(i * 37 % 101) + ".0," +
            std::to_string(y * 100 + i % 10) + "," + std::to_string(y) + ",7," + (y ? "bad" : "good") + "," +
            std::to_string(y) + "\n";
  }
  const Json p = profile(ingest(text), "y");
  EXPECT_EQ(column(p, "copy")["suspicious"], Json::parse(R"(["duplicates column \"x\""])"));
  EXPECT_EQ(column(p, "x")["suspicious"], Json::array());
  EXPECT_EQ(column(p, "leak")["suspicious"], Json::parse(R"(["leaks the label"])"));
  EXPECT_THAT(dump(column(p, "same")["suspicious"]), HasSubstr("equals the label"));
  EXPECT_THAT(dump(column(p, "word")["suspicious"]), HasSubstr("leaks the label"));
  EXPECT_EQ(column(p, "one")["constant"], true);
  EXPECT_EQ(column(p, "leak")["label_auc"], 1.0);
  EXPECT_NEAR(column(p, "x")["label_auc"].get<double>(), 0.5, 0.1);
  EXPECT_EQ(p["classes"], Json::parse(R"([{"value":"0","rows":150},{"value":"1","rows":50}])"));
  EXPECT_THAT(dump(p["warnings"]), HasSubstr("imbalanced: 3.0 to 1"));
}

TEST_F(Profile, CountsDuplicateRowsOverShards) {
  const Json first = ingest("a,b\n1,x\n2,y\n1,x\n"), second = ingest("a,b\n2,y\n3,z\n");
  const Json p = task("profile", {{"blobs", {first["shards"][0]["blob"], second["shards"][0]["blob"]}}});
  EXPECT_EQ(p["rows"], 5);
  EXPECT_EQ(p["duplicate_rows"], 2);
}

TEST_F(Profile, WarnsOfOneClassAndOfMissingLabels) {
  EXPECT_THAT(dump(profile(ingest("x,y\n1,0\n2,0\n"), "y")["warnings"]), HasSubstr("same label"));
  EXPECT_THAT(dump(profile(ingest("x,y\n1,0\n2,\n3,1\n"), "y")["warnings"]), HasSubstr("1 of 3 rows have no label"));
  EXPECT_FAILS(run("profile", {{"blobs", {ingest("x\n1\n")["shards"][0]["blob"]}}, {"label", "why"}}, host_),
               Code::invalid_argument, "no column \"why\"");
}

TEST(DistinctCounter, IsExactBelowItsCapacityAndCloseAbove) {
  DistinctCounter counter(10'000);
  uint64_t state = 1;
  for (int i = 0; i < 10'000; ++i) counter.add(state = state * 6364136223846793005ULL + 1442695040888963407ULL);
  EXPECT_TRUE(counter.exact());
  EXPECT_EQ(counter.count(), 10'000);
  // Hashes mixed well, as XXH3's are: a low-discrepancy sequence would not do for the trailing bits.
  DistinctCounter many(10'000);
  for (uint64_t i = 0; i < 400'000; ++i) {
    uint64_t x = i + 0x9E3779B97F4A7C15ULL * (i + 1);
    x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27U)) * 0x94D049BB133111EBULL;
    many.add(x ^ (x >> 31U));
  }
  EXPECT_FALSE(many.exact());
  EXPECT_NEAR(static_cast<double>(many.count()), 400'000, 400'000 * 0.06);
}

}  // namespace
}  // namespace sundog::data::worker
