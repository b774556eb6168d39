// For the worker's tests: a folder host with files put in as text, and tasks run over it.
#pragma once

#include <gtest/gtest.h>

#include "base/ids.h"
#include "data/worker/folder_host.h"
#include "data/worker/task.h"

namespace sundog::data::worker {

class WorkerTest : public testing::Test {
 protected:
  WorkerTest() : folder_(std::filesystem::temp_directory_path() / short_id("worker-test")) {
    EXPECT_TRUE(make_directories(folder_).ok());
    EXPECT_TRUE(start_arrow(1).ok());
  }
  ~WorkerTest() override { EXPECT_TRUE(remove_tree(folder_).ok()); }

  std::string put(std::string_view content) {
    auto blob = host_.put(content);
    EXPECT_TRUE(blob.ok());
    return blob.ok() ? blob->id : "";
  }
  Result<Json> try_ingest(std::string_view content, Json settings = Json::object()) {
    settings["blob"] = put(content);
    return run("ingest", settings, host_);
  }
  Json ingest(std::string_view content, Json settings = Json::object()) {
    return good(try_ingest(content, std::move(settings)));
  }
  Json task(const std::string& name, const Json& arguments) { return good(run(name, arguments, host_)); }

  static Json good(Result<Json> result) {
    EXPECT_TRUE(result.ok()) << result.error().text();
    return result.ok() ? *result : Json::object();
  }
  // All rows of an ingest's answer.
  Json rows_of(const Json& answer) {
    Json blobs = Json::array();
    for (const auto& shard : answer.value("shards", Json::array())) blobs.push_back(shard["blob"]);
    return task("rows", {{"blobs", blobs}, {"limit", 1000}})["rows"];
  }
  Json quarantine_of(const Json& answer) {
    return task("rows", {{"blobs", {answer["quarantine"]["blob"]}}, {"limit", 1000}})["rows"];
  }
  static std::string types_of(const Json& answer) {
    std::string out;
    for (const auto& column : answer.value("schema", Json::array())) {
      out += (out.empty() ? "" : " ") + column["name"].get<std::string>() + ":" + column["type"].get<std::string>() +
             (column["nullable"] == true ? "?" : "");
    }
    return out;
  }

  Path folder_;
  FolderHost host_{folder_};
};

#define EXPECT_FAILS(expr, wanted_code, part)                                                  \
  do {                                                                                         \
    const auto& failed_ = (expr);                                                              \
    ASSERT_FALSE(failed_.ok());                                                                \
    EXPECT_EQ(failed_.error().code, wanted_code) << failed_.error().text();                    \
    EXPECT_NE(failed_.error().text().find(part), std::string::npos) << failed_.error().text(); \
  } while (false)

}  // namespace sundog::data::worker
