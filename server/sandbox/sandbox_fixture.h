// A sandbox over the real launcher, and functions written as Python text, for tests.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "base/file.h"
#include "base/ids.h"
#include "sandbox/local_sandbox.h"
#include "sandbox/poll_loop.h"

namespace sundog::sandbox {

// Records what an instance says.
struct Witness : InstanceEvents {
  std::string output, streamed;
  std::optional<InitFailure> init_failure;
  int ends = 0;
  std::function<void(HostCall, Callback<HostReply>)> host = [](const HostCall& call, const Callback<HostReply>& reply) {
    reply(fail(Code::not_found, "No host call " + call.name + "."));
  };
  void on_output(std::string_view text) override { output += text; }
  void on_host_call(HostCall call, Callback<HostReply> reply) override { host(std::move(call), std::move(reply)); }
  void on_init_failure(InitFailure failure) override { init_failure = std::move(failure); }
  void on_stream(std::string_view piece) override { streamed += piece; }
  void on_end() override { ++ends; }
};

class SandboxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "starting confined processes with cgroups needs root";
    folder_ = std::filesystem::temp_directory_path() / ("sundog-" + short_id("test"));
    std::filesystem::create_directories(folder_);
    std::filesystem::permissions(folder_, std::filesystem::perms(0755));
    open_sandbox({});
  }
  void TearDown() override {
    sandbox_.reset();
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  void open_sandbox(LocalSandboxOptions options) {
    sandbox_.reset();
    options.launcher = SUNDOG_TEST_LAUNCHER;
    options.runtime = SUNDOG_TEST_RUNTIME;
    options.native_extension = SUNDOG_TEST_NATIVE;
    options.data = folder_;
    options.name = short_id("t");
    cgroup_name_ = options.name;
    auto started = start_local_sandbox(loop_, clock_, Log::none(), options);
    ASSERT_TRUE(started.ok()) << started.error().text();
    sandbox_ = std::move(*started);
  }

  Path write_code(const std::string& name, const std::string& text) {
    const Path code = folder_ / name;
    std::filesystem::create_directories(code);
    std::ofstream(code / "app.py") << text;
    return code;
  }

  TemplateSpec spec_of(const std::string& text, int memory_mb = 256) {
    TemplateSpec spec;
    spec.name = "test/function:1";
    spec.python = SUNDOG_TEST_PYTHON;
    spec.code = write_code("code-" + short_id("c"), text);
    spec.handler = "app.handler";
    spec.limits.memory_bytes = int64_t{memory_mb} << 20;
    return spec;
  }

  std::shared_ptr<TemplateStart> start(TemplateSpec spec) {
    std::shared_ptr<TemplateStart> started;
    bool done = false;
    sandbox_->start_template(std::move(spec), [&](Result<std::shared_ptr<TemplateStart>> result) {
      done = true;
      if (result.ok()) {
        started = *result;
      } else {
        ADD_FAILURE() << result.error().text();
      }
    });
    EXPECT_TRUE(loop_.run_until([&] { return done; }));
    return started ? started : std::make_shared<TemplateStart>();
  }
  std::shared_ptr<TemplateStart> start(const std::string& text, int memory_mb = 256) {
    auto started = start(spec_of(text, memory_mb));
    EXPECT_TRUE(started->parked) << started->failure.type << ": " << started->failure.message << "\n"
                                 << started->output;
    return started;
  }

  std::unique_ptr<Instance> fork(Template& parked, InstanceEvents& events) {
    std::unique_ptr<Instance> instance;
    bool done = false;
    parked.fork(events, [&](Result<std::unique_ptr<Instance>> result) {
      done = true;
      if (result.ok()) {
        instance = std::move(*result);
      } else {
        ADD_FAILURE() << result.error().text();
      }
    });
    EXPECT_TRUE(loop_.run_until([&] { return done; }));
    return instance;
  }

  Outcome invoke(Instance& instance, std::string payload, Json meta = nullptr) {
    std::optional<Outcome> outcome;
    begin(instance, std::move(payload), outcome, std::move(meta));
    EXPECT_TRUE(loop_.run_until([&] { return outcome.has_value(); }));
    return outcome.value_or(Outcome{.kind = Outcome::Kind::broken, .detail = "no outcome"});
  }
  void begin(Instance& instance, std::string payload, std::optional<Outcome>& outcome, Json meta = nullptr) {
    InvokeRequest request;
    request.request_id = uuid4();
    request.payload = std::move(payload);
    request.deadline = clock_.wall() + std::chrono::seconds(30);
    request.function_arn = "arn:aws:lambda:local:000000000000:function:test";
    request.function_name = "test";
    request.version = "1";
    request.memory_mb = 256;
    request.meta = std::move(meta);
    instance.invoke(std::move(request), [&outcome](Outcome result) { outcome = std::move(result); });
  }

  SystemClock clock_;
  PollLoop loop_;
  Path folder_;
  std::string cgroup_name_;
  std::unique_ptr<Sandbox> sandbox_;
};

}  // namespace sundog::sandbox
