// For tests of the jobs: an Invoker that runs the data worker in this process over the server's own Blobs, a Loop that
// runs what is posted at once, and the stores on a folder.
#pragma once

#include <gtest/gtest.h>

#include <atomic>

#include "data/data_jobs.h"
#include "data/worker/task.h"
#include "store/file_blobs.h"
#include "store/sqlite_catalog.h"
#include "store/test_folder.h"

namespace sundog::data {

class PromptLoop final : public net::Loop {
 public:
  void post(std::function<void()> work) override { work(); }
  Id run_after(Duration, std::function<void()>) override { return 1; }
  void cancel(Id) override {}
  Id watch_readable(int, std::function<void()>) override { return 1; }
  Id watch_writable(int, std::function<void()>) override { return 1; }
  void unwatch(Id) override {}
  bool on_loop_thread() const override { return true; }
};

class BlobsHost final : public worker::Host {
 public:
  BlobsHost(store::Blobs& blobs, std::set<std::string> granted) : blobs_(blobs), granted_(std::move(granted)) {}
  Result<UniqueFd> open_blob(const std::string& id) override {
    if (!granted_.contains(id)) return fail(Code::permission_denied, "The blob was not granted: " + id + ".");
    return blobs_.open(id);
  }
  Result<worker::NewFile> create_file() override {
    SUNDOG_TRY(fd, blobs_.scratch());
    const std::string handle = std::to_string(files_.size());
    worker::NewFile file{UniqueFd(::dup(fd.get())), handle};
    files_.push_back(std::move(fd));
    return file;
  }
  const std::set<std::string>& granted() const { return granted_; }
  Result<worker::StoredBlob> commit_file(const std::string& handle) override {
    SUNDOG_TRY(info, blobs_.put_file(files_[std::stoul(handle)].get()));
    granted_.insert(info.id);
    return worker::StoredBlob{info.id, info.bytes};
  }

 private:
  store::Blobs& blobs_;
  std::set<std::string> granted_;
  std::vector<UniqueFd> files_;
};

class LocalInvoker final : public invoke::Invoker {
 public:
  explicit LocalInvoker(store::Blobs& blobs) : blobs_(blobs) {}
  void invoke(invoke::Invocation invocation, invoke::InvokeCallback on_done) override {
    ++calls;
    if (throttle-- > 0) return on_done(fail(Code::resource_exhausted, "No instance.", "Try again."));
    if (hold.load()) {
      held.push_back(std::move(on_done));
      return;
    }
    BlobsHost host(blobs_, invocation.granted_blobs);
    auto answer = worker::run_payload(invocation.payload, host);
    invoke::InvokeResult result;
    if (answer.ok()) {
      result.payload = dump(*answer);
      result.granted_blobs = host.granted();
    } else {
      result.function_error = "Unhandled";
      // As sandbox/native_instance.cc makes it.
      result.payload = dump({{"errorMessage", answer.error().text()}, {"errorType", name(answer.error().code)}});
    }
    on_done(std::move(result));
  }
  void invoke_streaming(invoke::Invocation, invoke::PieceSink, invoke::InvokeCallback) override {}
  void kill(const std::string&, const std::string&) override {}
  void add_host_call(std::string, invoke::HostCallHandler) override {}
  void drain(Millis, std::function<void()>) override {}
  Json fleet() const override { return Json::object(); }

  std::atomic<int> calls{0}, throttle{0};
  std::atomic<bool> hold{false};
  std::vector<invoke::InvokeCallback> held;

 private:
  store::Blobs& blobs_;
};

class DataJobsTest : public testing::Test {
 protected:
  DataJobsTest() {
    EXPECT_TRUE(worker::start_arrow(1).ok());
    blobs_ = std::move(*store::open_file_blobs(folder_.path() / "blobs"));
    catalog_ = std::move(*store::open_sqlite_catalog(folder_.path() / "catalog.db"));
    datasets_ = open_datasets(*catalog_, clock_);
    invoker_ = std::make_unique<LocalInvoker>(*blobs_);
    start();
  }
  ~DataJobsTest() override {
    if (jobs_) jobs_->stop();
  }
  void start() {
    jobs_ = make_jobs(loop_, clock_, Log::none(), *catalog_, *invoker_, 2);
    add_data_jobs(*jobs_, *datasets_, *blobs_, clock_);
    EXPECT_TRUE(jobs_->start().ok());
  }
  Job wait(const std::string& id) {
    for (int i = 0; i < 1000; ++i) {
      auto job = jobs_->wait("t", id, Millis{10'000});
      if (!job.ok()) break;
      if (job->state != "queued" && job->state != "running") return *job;
    }
    ADD_FAILURE() << "job " << id << " does not end";
    return {};
  }
  Job run(const std::string& kind, Json arguments) {
    auto job = jobs_->submit("t", kind, std::move(arguments));
    EXPECT_TRUE(job.ok());
    return job.ok() ? wait(job->id) : Job{};
  }
  Json create(std::string_view content, const std::string& name, const std::string& label, Json more = Json::object()) {
    more["name"] = name;
    more["blob"] = blobs_->put(content)->id;
    more["label"] = label;
    const Job job = run("ingest", more);
    EXPECT_EQ(job.state, "succeeded") << dump(job.error);
    return job.result;
  }
  Job preprocess(const Json& version, Json rules) {
    return run("preprocess",
               {{"dataset", version["dataset"]}, {"version", version["version"]}, {"rules", std::move(rules)}});
  }
  // All rows of a split, with the columns' names in front of nothing: as the shards have them.
  Json rows(const Json& version, const std::string& split) {
    Json blobs = Json::array();
    std::set<std::string> granted;
    for (const auto& shard : version["shards"]) {
      if (shard["split"] != split) continue;
      blobs.push_back(shard["blob"]);
      granted.insert(shard["blob"].get<std::string>());
    }
    BlobsHost host(*blobs_, granted);
    auto answer = worker::run("rows", {{"blobs", blobs}, {"limit", 1000}}, host);
    EXPECT_TRUE(answer.ok());
    return answer.ok() ? (*answer)["rows"] : Json::array();
  }

  store::TestFolder folder_;
  FakeClock clock_;
  PromptLoop loop_;
  std::unique_ptr<store::Blobs> blobs_;
  std::unique_ptr<store::Catalog> catalog_;
  std::unique_ptr<Datasets> datasets_;
  std::unique_ptr<LocalInvoker> invoker_;
  std::unique_ptr<Jobs> jobs_;
};

}  // namespace sundog::data
