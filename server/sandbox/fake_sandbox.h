// FakeSandbox: a Sandbox without processes, for the tests of whoever uses one. What it answers is scripted.
//
// Ownership   outlives the templates and instances that it made.
// Threads     the loop thread, as the real one; every callback is posted to the loop, never called from inside.
// Use         set `template_script`, `fork_script`, `invoke_script`; or set hold_* and step by release_*().
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "net/loop.h"
#include "sandbox/sandbox.h"

namespace sundog::sandbox {

class FakeSandbox;

class FakeInstance final : public Instance {
 public:
  FakeInstance(FakeSandbox& sandbox, std::string name, InstanceEvents& events, int64_t pid)
      : sandbox_(sandbox), name_(std::move(name)), events_(events), pid_(pid) {}
  ~FakeInstance() override;

  void invoke(InvokeRequest request, std::function<void(Outcome)> on_done) override;
  void kill() override {
    if (*alive_) {
      Outcome outcome;
      outcome.kind = Outcome::Kind::killed;
      outcome.signal = 9;
      finish(std::move(outcome));
      *alive_ = false;
    }
  }
  void hold(bool held) override { this->held = held; }
  bool alive() const override { return *alive_; }
  bool reachable() const override { return *alive_ && !gone; }
  int64_t pid() const override { return *alive_ ? pid_ : 0; }
  int64_t memory_bytes() const override { return *alive_ ? memory : 0; }
  Duration start_time() const override { return start; }

  // Ends the running invocation. Does nothing when none runs.
  void finish(Outcome outcome);
  // The process dies: the running invocation's Outcome, or on_end() when idle.
  void die(Outcome outcome);
  // What the running code asks of its host.
  void host_call(HostCall call, Callback<HostReply> reply) { events_.on_host_call(std::move(call), std::move(reply)); }
  InstanceEvents& events() { return events_; }
  const std::string& name() const { return name_; }
  const InvokeRequest& request() const { return request_; }
  bool busy() const { return on_done_ != nullptr; }

  bool held = false;
  bool gone = false;  // its process has ended, and nobody has told it yet
  int64_t memory = 8 << 20;
  Duration start = Millis{7};

 private:
  FakeSandbox& sandbox_;
  std::string name_;
  InstanceEvents& events_;
  int64_t pid_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  InvokeRequest request_;
  std::function<void(Outcome)> on_done_;
};

class FakeTemplate final : public Template {
 public:
  FakeTemplate(FakeSandbox& sandbox, TemplateSpec spec) : sandbox_(sandbox), spec_(std::move(spec)) {}
  ~FakeTemplate() override;
  void fork(InstanceEvents& events, Callback<std::unique_ptr<Instance>> on_ready) override;
  bool alive() const override { return alive_; }
  int64_t memory_bytes() const override { return alive_ ? memory : 0; }
  void on_death(std::function<void(std::string reason)> callback) override { on_death_ = std::move(callback); }
  void die(std::string reason);
  const TemplateSpec& spec() const { return spec_; }

  int64_t memory = 80 << 20;

 private:
  FakeSandbox& sandbox_;
  TemplateSpec spec_;
  bool alive_ = true;
  std::function<void(std::string)> on_death_;
};

class FakeSandbox final : public Sandbox {
 public:
  explicit FakeSandbox(net::Loop& loop) : loop_(loop) {}

  // What start_template gives: an Error, an InitFailure (type not empty), or a parked template.
  struct TemplateScript {
    std::optional<Error> error;
    InitFailure failure;
    TemplateReady ready{.init = Millis{20}, .memory_bytes = 80 << 20};
    std::string output;
  };
  std::function<TemplateScript(const TemplateSpec&)> template_script = [](const TemplateSpec&) {
    return TemplateScript{};
  };
  // What an instance does before it is ready.
  std::function<void(InstanceEvents&)> before_ready = [](InstanceEvents&) {};
  // What the user's init does wrong in an instance of its own.
  std::function<std::optional<InitFailure>(const std::string& name)> init_script = [](const std::string&) {
    return std::nullopt;
  };
  // An Error for a fork or a native start that fails.
  std::function<std::optional<Error>(const std::string& name)> fork_script = [](const std::string&) {
    return std::nullopt;
  };
  // The Outcome of an invocation; by default the payload comes back.
  std::function<Outcome(FakeInstance&, const InvokeRequest&)> invoke_script = [](FakeInstance&,
                                                                                 const InvokeRequest& request) {
    Outcome outcome;
    outcome.payload = request.payload;
    outcome.consumption = {Millis{5}, Millis{4}, 30 << 20};
    return outcome;
  };

  // The templates of environments that run, and which of them a spec shares; tell_shared() after a change.
  std::vector<SharedTemplate> environments;
  std::function<std::string(const TemplateSpec&)> shares = [](const TemplateSpec&) { return ""; };
  std::map<std::string, int64_t> to_come;
  void tell_shared() {
    if (shared_changed_) loop_.post([this] { shared_changed_(); });
  }
  std::string shared_by(const TemplateSpec& spec) const override { return shares(spec); }
  std::vector<SharedTemplate> shared() const override { return environments; }
  int64_t shared_bytes() const override {
    int64_t total = 0;
    for (const auto& one : environments) total += one.bytes;
    return total;
  }
  int64_t shared_to_come(const std::string& id) const override {
    const auto found = to_come.find(id);
    return found == to_come.end() ? 0 : found->second;
  }
  void end_shared(const std::string& id) override {
    std::erase_if(environments, [&](const auto& one) { return one.id == id; });
    tell_shared();
  }
  void on_shared_change(std::function<void()> callback) override { shared_changed_ = std::move(callback); }

  // With hold_invocations an invocation runs until the test calls FakeInstance::finish() on busy_instances().
  bool hold_invocations = false;
  // With hold_starts / hold_forks the answer waits for release_start() / release_fork().
  bool hold_starts = false;
  bool hold_forks = false;
  void release_start() { release(held_starts_); }
  void release_fork() { release(held_forks_); }

  std::vector<FakeInstance*> instances;    // that exist, in order of their making
  std::vector<FakeTemplate*> templates;    // that exist
  std::vector<std::string> started;        // names of every template and native process ever asked for
  std::vector<NativeSpec> natives;         // ever asked for
  int forks = 0;                           // ever asked for
  std::vector<InvokeRequest> invocations;  // ever asked for
  std::vector<FakeInstance*> busy_instances() const {
    std::vector<FakeInstance*> busy;
    std::copy_if(instances.begin(), instances.end(), std::back_inserter(busy), [](auto* one) { return one->busy(); });
    return busy;
  }
  size_t held_starts() const { return held_starts_.size(); }
  size_t held_forks() const { return held_forks_.size(); }

  void start_template(TemplateSpec spec, Callback<std::shared_ptr<TemplateStart>> on_started) override {
    started.push_back(spec.name);
    hold_or_post(hold_starts, held_starts_, [this, spec = std::move(spec), on_started = std::move(on_started)] {
      const auto script = template_script(spec);
      if (script.error) return on_started(*script.error);
      auto start = std::make_shared<TemplateStart>();
      start->output = script.output;
      start->ready = script.ready;
      start->failure = script.failure;
      if (script.failure.type.empty()) {
        auto parked = std::make_unique<FakeTemplate>(*this, spec);
        parked->memory = script.ready.memory_bytes;
        templates.push_back(parked.get());
        start->parked = std::move(parked);
      }
      on_started(std::move(start));
    });
  }
  void start_native(NativeSpec spec, InstanceEvents& events, Callback<std::unique_ptr<Instance>> on_ready) override {
    started.push_back(spec.name);
    natives.push_back(spec);
    make_instance(spec.name, events, std::move(on_ready));
  }
  Json doctor() const override {
    return Json::array({{{"check", "fake"}, {"ok", true}, {"detail", "no processes"}, {"without", ""}}});
  }

  void make_instance(std::string name, InstanceEvents& events, Callback<std::unique_ptr<Instance>> on_ready) {
    hold_or_post(hold_forks, held_forks_, [this, name = std::move(name), &events, on_ready = std::move(on_ready)] {
      before_ready(events);
      if (auto failure = init_script(name)) {
        events.on_init_failure(*failure);
        return on_ready(fail(Code::unavailable, "Its init failed."));
      }
      if (auto error = fork_script(name)) return on_ready(*error);
      auto instance = std::make_unique<FakeInstance>(*this, name, events, next_pid_++);
      instances.push_back(instance.get());
      on_ready(std::unique_ptr<Instance>(std::move(instance)));
    });
  }
  net::Loop& loop() { return loop_; }

 private:
  using Held = std::deque<std::function<void()>>;
  void hold_or_post(bool hold, Held& held, std::function<void()> work) {
    if (hold) {
      held.push_back(std::move(work));
    } else {
      loop_.post(std::move(work));
    }
  }
  void release(Held& held) {
    if (held.empty()) return;
    loop_.post(std::move(held.front()));
    held.pop_front();
  }

  net::Loop& loop_;
  std::function<void()> shared_changed_;
  int64_t next_pid_ = 1000;
  Held held_starts_, held_forks_;
};

inline FakeInstance::~FakeInstance() {
  kill();
  std::erase(sandbox_.instances, this);
}

inline void FakeInstance::invoke(InvokeRequest request, std::function<void(Outcome)> on_done) {
  request_ = std::move(request);
  sandbox_.invocations.push_back(request_);
  on_done_ = std::move(on_done);
  if (sandbox_.hold_invocations) return;
  sandbox_.loop().post([this, alive = alive_] {
    if (*alive) finish(sandbox_.invoke_script(*this, request_));
  });
}

inline void FakeInstance::finish(Outcome outcome) {
  if (!on_done_) return;
  if (outcome.kind != Outcome::Kind::ok && outcome.kind != Outcome::Kind::handler_error) *alive_ = false;
  sandbox_.loop().post(
      [on_done = std::exchange(on_done_, nullptr), outcome = std::move(outcome)] { on_done(outcome); });
}

inline void FakeInstance::die(Outcome outcome) {
  if (!*alive_) return;
  if (on_done_) return finish(std::move(outcome));
  *alive_ = false;
  // Not through the pointer: the owner may drop the instance before the loop turns.
  sandbox_.loop().post([&events = events_] { events.on_end(); });
}

inline FakeTemplate::~FakeTemplate() {
  std::erase(sandbox_.templates, this);
}

inline void FakeTemplate::fork(InstanceEvents& events, Callback<std::unique_ptr<Instance>> on_ready) {
  ++sandbox_.forks;
  if (!alive_) {
    sandbox_.loop().post([name = spec_.name, on_ready = std::move(on_ready)] {
      on_ready(fail(Code::unavailable, "The template of " + name + " has ended."));
    });
    return;
  }
  sandbox_.make_instance(spec_.name, events, std::move(on_ready));
}

inline void FakeTemplate::die(std::string reason) {
  alive_ = false;
  if (on_death_) sandbox_.loop().post([callback = on_death_, reason = std::move(reason)] { callback(reason); });
}

}  // namespace sundog::sandbox
