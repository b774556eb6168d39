// Runs and Studies over real stores and a loop stepped by hand; for the tests of learn/ and models/.
#pragma once

#include <gtest/gtest.h>

#include <future>

#include "learn/fake_functions.h"
#include "learn/fake_parts.h"
#include "learn/runs.h"
#include "learn/studies.h"
#include "net/fake_loop.h"
#include "store/file_blobs.h"
#include "store/sqlite_catalog.h"
#include "store/sqlite_queue.h"
#include "store/test_folder.h"

namespace sundog::testing {

inline const std::string kTenant = "acme";

class World {
 public:
  World() {
    catalog = std::move(*store::open_sqlite_catalog(folder.path() / "catalog.db"));
    queue = std::move(*store::open_sqlite_queue(folder.path() / "queue.db", clock));
    blobs = std::move(*store::open_file_blobs(folder.path() / "blobs"));
    functions::Config config;
    config.name = "fit";
    config.kind = functions::Kind::training;
    config.environment_id = "env-1";
    EXPECT_TRUE(functions.create(kTenant, config, "code", false).ok());
    data::DatasetVersion dataset;
    dataset.dataset = "clients";
    dataset.version = 2;
    dataset.label = "default";
    dataset.schema = {{"income", "float64", true}, {"default", "int64", false}};
    dataset.shards = {{"train", std::string(64, 'a'), 100, 1000, 2000}, {"valid", std::string(64, 'b'), 50, 500, 900}};
    dataset.lineage = Json::object();
    datasets.versions.push_back(dataset);
    restart();
  }
  ~World() { shut_down(); }

  // As after kill -9: what was in memory is gone, what is stored is not.
  void restart() {
    shut_down();
    pool = std::make_unique<Pool>("test", Pool::Options{4, 1024});
    learn::Runs::Options options;
    options.max_attempts = 3;
    runs = learn::open_runs(
        {loop, clock, *pool, Log::none(), *catalog, *queue, *blobs, functions, datasets, events, ledger}, options);
    studies = learn::open_studies(*catalog, clock, datasets, *runs);
    invoker.host_calls.clear();
    runs->register_host_calls(invoker);
  }
  void shut_down() {
    if (runs) runs->stop();
    pool.reset();  // finishes what was queued
    loop.run_pending();
    studies.reset();
    runs.reset();
  }

  // Runs blocking work beside the loop, as an api thread does.
  template <class Work>
  auto blocking(Work work) {
    auto result = std::async(std::launch::async, std::move(work));
    EXPECT_TRUE(loop.run_until([&] { return result.wait_for(Millis{0}) == std::future_status::ready; }));
    return result.get();
  }
  Json start_run(Json parameters = {{"rate", 0.1}}) {
    learn::NewRun run;
    run.function = "fit";
    run.dataset = "clients";
    run.parameters = std::move(parameters);
    auto made = blocking([&] { return runs->create(kTenant, run); });
    EXPECT_TRUE(made.ok()) << made.error().text();
    return *made;
  }
  Result<Json> host_call(const invoke::Invocation& who, const std::string& name, Json arguments) {
    auto answer = host_call_with_files(who, name, std::move(arguments));
    if (!answer.ok()) return std::move(answer).error();
    return std::move(answer->result);
  }
  Result<sandbox::HostReply> host_call_with_files(const invoke::Invocation& who, const std::string& name,
                                                  Json arguments) {
    auto answer = std::make_shared<std::optional<Result<sandbox::HostReply>>>();
    invoker.host_calls.at(name)(who, {name, std::move(arguments), {}},
                                [answer](Result<sandbox::HostReply> reply) { answer->emplace(std::move(reply)); });
    EXPECT_TRUE(loop.run_until([&] { return answer->has_value(); }));
    return std::move(**answer);
  }
  Json get(const std::string& id, int64_t after = -1) { return *runs->get(kTenant, id, after); }
  void end_and_settle(const invoke::Invocation& event, const Result<invoke::InvokeResult>& result) {
    events.end(event, result);
    const auto id = event.tags.at("run");
    EXPECT_TRUE(loop.run_until([&] { return !get(id)["ended"].is_null(); }));
  }

  store::TestFolder folder{store::On::memory};
  FakeClock clock;
  net::FakeLoop loop{clock};
  std::unique_ptr<store::Catalog> catalog;
  std::unique_ptr<store::Queue> queue;
  std::unique_ptr<store::Blobs> blobs;
  FakeFunctions functions;
  FakeDatasets datasets;
  FakeEvents events;
  meter::FakeLedger ledger;
  FakeInvoker invoker;
  std::unique_ptr<Pool> pool;
  std::unique_ptr<learn::Runs> runs;
  std::unique_ptr<learn::Studies> studies;
};

inline invoke::InvokeResult answered(const invoke::Invocation& event, const Json& payload, int64_t billed_ms = 100) {
  invoke::InvokeResult result;
  result.request_id = event.request_id;
  result.payload = dump(payload);
  result.usage.id = event.request_id + "-last";
  result.usage.request_id = event.request_id;
  result.usage.tenant = event.tenant;
  result.usage.billed_ms = billed_ms;
  result.usage.memory_mb = 1024;
  // As if it had written what it names.
  result.granted_blobs = event.granted_blobs;
  const Json named = payload.is_object() && payload.contains("artefact") ? payload["artefact"] : payload;
  if (named.is_object() && named.contains("blob")) result.granted_blobs.insert(named["blob"].get<std::string>());
  return result;
}

}  // namespace sundog::testing
