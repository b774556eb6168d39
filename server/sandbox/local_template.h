// LocalTemplate: one parked Python process of a function's, and the forks it makes.
//
// Ownership   the sandbox's until it is parked, then the caller's.
// Threads     the loop thread.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <string>

#include "sandbox/starting.h"

namespace sundog::sandbox {

class LocalTemplate final : public Template {
 public:
  using OnStarted = std::function<void(Result<std::shared_ptr<TemplateStart>>)>;

  LocalTemplate(Starting& starting, TemplateSpec spec) : starting_(starting), spec_(std::move(spec)) {}
  ~LocalTemplate() override;

  // `on_started` gets everything but `parked`, which its caller owns already. It begins as a fork of its environment's
  // template where it may share one, else, or if that fails, in a process tree of its own.
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
  // What a fork of the environment's template needs beside sockets: a cell that it enters, and its code.
  using OnPrepared = std::function<void(Result<Cell> cell, UniqueFd code)>;
  void prepare_fork(OnPrepared on_prepared);
  void start_shared();
  void start_fork(Cell cell, UniqueFd code);
  void start_own();
  void start_own_in(Cell cell);
  void start_over(const std::string& reason);
  bool open_channels(UniqueFd& socket, UniqueFd& output);
  void on_exit_known(int status);
  void on_process_end(int status);
  std::string why_no_fork();
  void on_frame(Frame frame);
  void on_configured(std::vector<UniqueFd> handed);
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
  std::shared_ptr<void> configure_alone(UniqueFd control, UniqueFd socket);
  void start_alone_in(Cell cell, UniqueFd code, Fork request);

  Starting& starting_;
  TemplateSpec spec_;
  bool alive_ = false, parked_ = false, fork_safe_ = true, cell_ordered_ = false;
  bool shared_ = false, configured_ = false;
  std::string why_own_;  // why it is not shared
  Cell cell_;
  uint64_t tree_ = 0;               // of its own
  std::shared_ptr<ExitNote> exit_;  // of a fork
  std::shared_ptr<void> way_out_;   // with the network egress; its instances hold it too
  std::unique_ptr<FrameChannel> control_;
  std::unique_ptr<OutputReader> output_;
  std::string init_output_;
  OnStarted on_started_;
  std::function<void(std::string)> on_death_;
  net::Loop::Id init_timer_ = 0;
  std::list<Cell> spare_;    // (lists: a parked template holds little)
  std::list<Fork> waiting_;  // for a cell
  uint32_t next_number_ = 1;
  std::map<uint32_t, std::shared_ptr<ExitNote>> exits_;
  std::shared_ptr<bool> here_ = std::make_shared<bool>(true);
};

}  // namespace sundog::sandbox
