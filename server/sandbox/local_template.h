// LocalTemplate: one parked Python process and the forks it makes. Starting holds what is between a request and an
// instance that is ready.
//
// Ownership   Starting is the sandbox's; a LocalTemplate is the sandbox's until it is parked, then the caller's.
// Threads     the loop thread.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>

#include "sandbox/local_instance.h"
#include "sandbox/local_sandbox.h"

namespace sundog::sandbox {

// What every part needs, and the instances that are not ready yet.
struct Starting {
  net::Loop& loop;
  Clock& clock;
  Log& log;
  LauncherClient& launcher;
  const LocalSandboxOptions& options;
  std::map<LocalInstance*, std::unique_ptr<LocalInstance>> instances;

  // Keeps the instance until it is ready, has failed, or `limit` is over.
  void adopt(std::unique_ptr<LocalInstance> instance, Duration limit, Callback<std::unique_ptr<Instance>> on_ready);
  TreeStart python_tree(const TemplateSpec& spec, uint64_t cell, UniqueFd socket, UniqueFd output) const;
  // The CONFIGURE frame; `alone`: the template becomes the instance itself.
  Frame configuration(const TemplateSpec& spec, bool alone) const;
  uint32_t rules_left_out() const;
};

class LocalTemplate final : public Template {
 public:
  using OnStarted = std::function<void(Result<std::shared_ptr<TemplateStart>>)>;

  LocalTemplate(Starting& starting, TemplateSpec spec) : starting_(starting), spec_(std::move(spec)) {}
  ~LocalTemplate() override;

  // `on_started` gets everything but `parked`, which its caller owns already.
  void start(OnStarted on_started);

  void fork(InstanceEvents& events, Callback<std::unique_ptr<Instance>> on_ready) override;
  bool alive() const override { return alive_; }
  int64_t memory_bytes() const override { return alive_ ? cell_.usage_bytes() : 0; }
  void on_death(std::function<void(std::string reason)> callback) override { on_death_ = std::move(callback); }

 private:
  struct Fork {
    InstanceEvents& events;
    Callback<std::unique_ptr<Instance>> on_ready;
  };
  void start_in(Cell cell);
  void on_frame(const Frame& frame);
  void on_parked(const Json& fields);
  void on_forked(uint32_t number, const Json& fields);
  void on_exited(uint32_t number, const Json& fields);
  void on_gone();
  void limit_start(Duration limit);
  void ended_in_init(int status);
  void finish_start(Result<std::shared_ptr<TemplateStart>> result);
  void order_cell();
  void fork_in(Cell cell, Fork request);
  void start_alone(Fork request);
  void start_alone_in(Cell cell, Fork request);

  Starting& starting_;
  TemplateSpec spec_;
  bool alive_ = false, parked_ = false, fork_safe_ = true, cell_ordered_ = false;
  Cell cell_;
  uint64_t tree_ = 0;
  std::unique_ptr<FrameChannel> control_;
  std::unique_ptr<OutputReader> output_;
  std::string init_output_;
  OnStarted on_started_;
  std::function<void(std::string)> on_death_;
  net::Loop::Id init_timer_ = 0;
  std::deque<Cell> spare_;
  std::deque<Fork> waiting_;  // for a cell
  uint32_t next_number_ = 1;
  std::map<uint32_t, std::shared_ptr<ExitNote>> exits_;
  std::shared_ptr<bool> here_ = std::make_shared<bool>(true);
};

}  // namespace sundog::sandbox
