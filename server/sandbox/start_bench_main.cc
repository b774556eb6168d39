// What a start costs: fork to first answer, and a warm call, over the real launcher. Prints one JSON line a function.
//   start_bench [ROUNDS]      (as root)
#include <algorithm>
#include <cstdio>
#include <fstream>

#include "base/ids.h"
#include "sandbox/local_sandbox.h"
#include "sandbox/poll_loop.h"

namespace sundog::sandbox {
namespace {

struct Silent final : InstanceEvents {
  void on_output(std::string_view text) override { fwrite(text.data(), 1, text.size(), stderr); }
  void on_host_call(HostCall, Callback<HostReply> reply) override { reply(fail(Code::not_found, "none")); }
  void on_init_failure(InitFailure) override {}
  void on_stream(std::string_view) override {}
  void on_end() override {}
};

double at(std::vector<double>& sorted, double share) {
  return sorted[std::min(sorted.size() - 1, size_t(share * double(sorted.size())))];
}

Json summary(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {{"min", values.front()}, {"p50", at(values, 0.5)}, {"p99", at(values, 0.99)}};
}

class Bench {
 public:
  Bench() {
    LocalSandboxOptions options;
    options.launcher = SUNDOG_TEST_LAUNCHER;
    options.runtime = SUNDOG_TEST_RUNTIME;
    options.native_extension = SUNDOG_TEST_NATIVE;
    options.data = "/tmp";
    options.name = short_id("bench");
    sandbox_ = *start_local_sandbox(loop_, clock_, Log::none(), options);
    folder_ = std::filesystem::temp_directory_path() / short_id("bench");
  }
  ~Bench() { std::filesystem::remove_all(folder_); }

  bool measure(const char* name, const char* code, int rounds) {
    std::filesystem::create_directories(folder_);
    std::filesystem::permissions(folder_, std::filesystem::perms(0755));
    std::ofstream(folder_ / "app.py") << code;
    TemplateSpec spec;
    spec.name = name;
    spec.python = SUNDOG_TEST_PYTHON;
    spec.code = folder_;
    spec.handler = "app.handler";
    spec.site_packages = {SUNDOG_TEST_SITE_PACKAGES};
    spec.limits.memory_bytes = 1024 << 20;
    spec.limits.cpu_millis = 1000;
    spec.init_timeout = Millis{60'000};
    std::shared_ptr<TemplateStart> started;
    bool done = false;
    sandbox_->start_template(spec, [&](Result<std::shared_ptr<TemplateStart>> result) {
      done = true;
      if (result.ok()) started = *result;
    });
    loop_.run_until([&] { return done; }, std::chrono::seconds(90));
    if (!started || !started->parked) {
      fprintf(stderr, "%s did not start: %s\n", name, started ? started->failure.message.c_str() : "");
      return false;
    }
    std::vector<double> ready, first, warm, memory;
    for (int round = 0; round < rounds; ++round) {
      const auto begin = clock_.mono();
      Silent events;
      std::unique_ptr<Instance> instance;
      started->parked->fork(events, [&](Result<std::unique_ptr<Instance>> result) {
        if (result.ok()) instance = std::move(*result);
      });
      loop_.run_until([&] { return instance != nullptr; });
      ready.push_back(millis_since(begin));
      if (!call(*instance)) return false;
      first.push_back(millis_since(begin));
      for (int i = 0; i < 5; ++i) {
        const auto again = clock_.mono();
        call(*instance);
        warm.push_back(millis_since(again));
      }
      memory.push_back(double(instance->memory_bytes()) / (1 << 20));
      instance.reset();
      const auto pause = clock_.mono() + Millis{15};  // its end is not the next one's start
      loop_.run_until([&] { return clock_.mono() > pause; });
    }
    printf("%s\n", dump({{"function", name},
                         {"init_ms", double(started->ready.init.count()) / 1e6},
                         {"fork_safe", started->ready.fork_safe},
                         {"reason", started->ready.reason},
                         {"template_mb", started->ready.memory_bytes >> 20},
                         {"fork_to_ready_ms", summary(ready)},
                         {"fork_to_first_answer_ms", summary(first)},
                         {"warm_call_ms", summary(warm)},
                         {"instance_mb", summary(memory)}})
                       .c_str());
    return true;
  }

 private:
  double millis_since(MonoTime begin) const { return double((clock_.mono() - begin).count()) / 1e6; }
  bool call(Instance& instance) {
    InvokeRequest request;
    request.request_id = "r";
    request.payload = "[0.1, 0.2, 0.3]";
    request.deadline = clock_.wall() + std::chrono::seconds(30);
    std::optional<Outcome> outcome;
    instance.invoke(std::move(request), [&](Outcome result) { outcome = std::move(result); });
    loop_.run_until([&] { return outcome.has_value(); });
    if (outcome && outcome->kind == Outcome::Kind::ok) return true;
    fprintf(stderr, "no answer: %s\n", outcome ? (outcome->payload + outcome->detail).c_str() : "");
    return false;
  }

  SystemClock clock_;
  PollLoop loop_;
  std::unique_ptr<Sandbox> sandbox_;
  Path folder_;
};

constexpr const char* kBare = "def handler(event, context):\n    return event\n";
constexpr const char* kSklearn = R"(
import numpy
from sklearn.linear_model import LogisticRegression
rng = numpy.random.default_rng(0)
x = rng.normal(size=(500, 30))
model = LogisticRegression().fit(x, (x[:, 0] > 0).astype(int))
def handler(event, context):
    row = numpy.resize(numpy.asarray(event, dtype=float), (1, 30))
    return {"probability": float(model.predict_proba(row)[0, 1])}
for _ in range(3):
    handler([0.1], None)
)";

}  // namespace
}  // namespace sundog::sandbox

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 100;
  sundog::sandbox::Bench bench;
  const bool bare = bench.measure("bare", sundog::sandbox::kBare, rounds);
  return bare && bench.measure("scikit-learn", sundog::sandbox::kSklearn, rounds) ? 0 : 1;
}
