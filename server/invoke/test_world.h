// TestWorld: an invoker over fakes: a loop and a clock that the test steps, a sandbox without processes.
#pragma once

#include <mutex>

#include "invoke/invoker.h"
#include "meter/fake_ledger.h"
#include "net/fake_loop.h"
#include "sandbox/fake_sandbox.h"
#include "store/file_blobs.h"
#include "store/test_folder.h"

namespace sundog::invoke {

class FakeFunctions final : public functions::Functions {
 public:
  struct Deployed {
    functions::VersionPtr version;
    std::optional<int> reserved;
    functions::VersionPtr other;  // gets `share` of the traffic
    double share = 0;
    int provisioned = 0;
  };
  std::map<std::string, Deployed> deployed;                // by name
  std::map<std::string, functions::VersionPtr> published;  // by "name:version"
  std::function<void(const std::string&, const std::string&)> changed;
  std::function<void(const functions::VersionPtr&)> was_deployed;

  functions::VersionPtr deploy(const std::string& name, const std::function<void(functions::Version&)>& change = {}) {
    auto version = std::make_shared<functions::Version>();
    version->tenant = "default";
    version->config.name = name;
    version->config.handler = "main.handler";
    version->state = functions::State::active;
    version->revision_id = "r" + std::to_string(++revision_);
    if (change) change(*version);
    deployed[name].version = version;
    if (changed) changed("default", name);
    return version;
  }
  struct Report {
    std::string name;
    functions::InitReport said;
    bool failed() const { return said.failure.has_value(); }
  };
  std::vector<Report> reports() const {
    const std::lock_guard lock(mutex_);
    return reports_;
  }

  Result<functions::Resolved> resolve(const std::string&, const std::string& name, const std::string& qualifier,
                                      double dice) const override {
    if (const auto one = published.find(name + ":" + qualifier); one != published.end()) {
      return functions::Resolved{one->second, std::nullopt};
    }
    const auto found = deployed.find(name);
    if (found == deployed.end()) return fail(Code::not_found, "No function \"" + name + "\".");
    const auto& one = found->second;
    return functions::Resolved{one.other && dice < one.share ? one.other : one.version, one.reserved};
  }
  void on_change(std::function<void(const std::string&, const std::string&)> callback) override {
    changed = std::move(callback);
  }
  void on_deploy(std::function<void(const functions::VersionPtr&)> callback) override {
    was_deployed = std::move(callback);
  }
  void report_init(const functions::Version& version, const functions::InitReport& report) override {
    const std::lock_guard lock(mutex_);
    reports_.push_back({version.config.name, report});
  }

  // What the invoker never calls.
  using Text = const std::string&;
  static Error not_here() { return fail(Code::unsupported, "The fake has no such thing."); }
  Result<functions::Version> create(Text, functions::Config, std::string, bool) override { return not_here(); }
  Result<functions::Version> update_code(Text, Text, std::string, bool, Text, bool) override { return not_here(); }
  Result<functions::Version> update_config(Text, Text, Text, std::function<Status(functions::Config&)>) override {
    return not_here();
  }
  Status remove(Text, Text, Text) override { return not_here(); }
  Result<functions::Version> get(Text, Text, Text) const override { return not_here(); }
  Result<functions::Page<functions::Version>> list(Text, Text, int) const override { return not_here(); }
  Result<functions::Version> publish(Text, Text, Text, Text, Text) override { return not_here(); }
  Result<functions::Page<functions::Version>> versions(Text, Text, Text, int) const override { return not_here(); }
  Result<functions::Alias> create_alias(Text, Text, functions::Alias) override { return not_here(); }
  Result<functions::Alias> update_alias(Text, Text, const functions::Alias&, Text) override { return not_here(); }
  Result<functions::Alias> get_alias(Text, Text, Text) const override { return not_here(); }
  Status remove_alias(Text, Text, Text) override { return not_here(); }
  Result<functions::Page<functions::Alias>> aliases(Text, Text, Text, Text, int) const override { return not_here(); }
  Status set_reserved_concurrency(Text, Text, std::optional<int>) override { return not_here(); }
  Status set_provisioned(Text, Text, Text, std::optional<int>) override { return not_here(); }
  std::vector<functions::Provisioned> provisioned(Text, Text name) const override {
    std::vector<functions::Provisioned> all;
    for (const auto& [function, one] : deployed) {
      if (one.provisioned > 0 && (name.empty() || name == function)) {
        all.push_back({"1", one.provisioned, {}, one.version});
      }
    }
    return all;
  }
  void add_builtin(functions::Version) override {}

 private:
  mutable std::mutex mutex_;
  std::vector<Report> reports_;
  int revision_ = 0;
};

class FakeEnvironments final : public functions::Environments {
 public:
  std::map<std::string, functions::Environment> known;
  Result<functions::Environment> ensure(const std::string&, std::vector<std::string>) override {
    return FakeFunctions::not_here();
  }
  Result<functions::Environment> get(const std::string& id) const override {
    const auto found = known.find(id);
    if (found == known.end()) return fail(Code::not_found, "No environment \"" + id + "\".");
    return found->second;
  }
  void on_built(std::function<void(const functions::Environment&)>) override {}
  Result<Path> python(const std::string& version) const override {
    if (version != "3.11") return fail(Code::unavailable, "This machine has no Python " + version + ".");
    return Path("/usr/bin/python3.11");
  }
};

class FakeLogs final : public FunctionLogs {
 public:
  std::string all;
  void append(const std::string&, const std::string&, const std::string&, std::string_view text) override {
    all.append(text).append("\n");
  }
  void end(const std::string&, const std::string&, const std::string&, std::string_view text) override {
    all.append(text).append("\n");
  }
  Result<std::vector<LogLine>> read(const std::string&, const std::string&, int64_t, size_t) const override {
    return std::vector<LogLine>{};
  }
  Token follow(const std::string&, const std::string&, std::function<void()>) override { return nullptr; }
  void remove(const std::string&, const std::string&) override {}
};

// What an invocation came to.
struct Answer {
  std::optional<InvokeResult> result;
  std::optional<Error> error;
  int times = 0;
};

class TestWorld {
 public:
  explicit TestWorld(InvokerOptions with = {}) : options(std::move(with)) {
    if (options.memory_budget_bytes == 0) options.memory_budget_bytes = 4LL << 30;
    if (options.cores == 0) options.cores = 2;
    invoker = make_invoker(loop, clock, pool, Log::none(), sandbox, functions, environments, *blobs, ledger, budgets,
                           logs, options);
  }

  std::shared_ptr<Answer> call(Invocation invocation) {
    auto answer = std::make_shared<Answer>();
    invoker->invoke(std::move(invocation), [answer](Result<InvokeResult> result) {
      ++answer->times;
      if (result.ok()) {
        answer->result = *std::move(result);
      } else {
        answer->error = result.error();
      }
    });
    return answer;
  }
  std::shared_ptr<Answer> call(const std::string& function, std::string payload = "{}") {
    Invocation invocation;
    invocation.tenant = "default";
    invocation.function = function;
    invocation.payload = std::move(payload);
    return call(std::move(invocation));
  }
  static sandbox::Outcome outcome(sandbox::Outcome::Kind kind, std::string payload = "\"done\"") {
    sandbox::Outcome out;
    out.kind = kind;
    out.payload = std::move(payload);
    out.consumption = {Millis{5}, Millis{4}, 30 << 20};
    return out;
  }
  size_t alive() const { return sandbox.instances.size(); }

  FakeClock clock;
  net::FakeLoop loop{clock};
  sandbox::FakeSandbox sandbox{loop};
  FakeFunctions functions;
  FakeEnvironments environments;
  store::TestFolder folder;
  std::unique_ptr<store::Blobs> blobs = *store::open_file_blobs(folder.path() / "blobs");
  meter::FakeLedger ledger;
  meter::PricePlans plans;
  meter::Budgets budgets{plans, clock};
  FakeLogs logs;
  InvokerOptions options;
  Pool pool{"test", {.threads = 2}};  // ends before what its work uses
  std::unique_ptr<Invoker> invoker;
};

}  // namespace sundog::invoke
