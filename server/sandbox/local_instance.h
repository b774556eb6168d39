// LocalInstance: one running process tree, or one process forked from a template, seen from the server.
//
// Ownership   the caller's; what it shares with its tree (the exit note) may outlive it.
// Threads     the loop thread.
#pragma once

#include <memory>
#include <string>

#include "net/loop.h"
#include "sandbox/frames.h"
#include "sandbox/launcher_client.h"
#include "sandbox/output_reader.h"
#include "sandbox/sandbox.h"

namespace sundog::sandbox {

// How a process ended, told by whoever is its parent. `status` as exit status or 128 + signal; -1: nobody will ever
// know.
struct ExitNote {
  bool known = false;
  int status = -1;
  std::string error;  // why there never was such a process, if its parent said so
  std::function<void()> on_known;

  void tell(int how) {
    if (known) return;
    known = true;
    status = how;
    if (auto callback = std::exchange(on_known, nullptr)) callback();
  }
};

class LocalInstance final : public Instance {
 public:
  struct Parts {
    std::string name;
    UniqueFd socket;  // ours of the pair
    UniqueFd output;  // read end
    Cell cell;
    uint64_t tree = 0;  // that is this instance's alone; 0 if it was forked
    std::shared_ptr<ExitNote> exit;
  };
  LocalInstance(net::Loop& loop, Clock& clock, LauncherClient& launcher, InstanceEvents& events, Parts parts);
  ~LocalInstance() override;

  // Once the process says that it is ready, or the error if it ends before. Called once.
  void on_ready(std::function<void(Status)> callback) { on_ready_ = std::move(callback); }
  // Its tree hands over its way out before anything else, once; what `let_out` gives lives as long as the instance.
  void let_out_by(std::function<std::shared_ptr<void>(std::vector<UniqueFd>)> let_out) {
    let_out_ = std::move(let_out);
  }
  // Something that must live as long as the instance.
  void keep(std::shared_ptr<void> what) { kept_ = std::move(what); }

  void invoke(InvokeRequest request, std::function<void(Outcome)> on_done) override;
  void hold(bool held) override { held && !exited_ ? channel_.pause() : channel_.resume(); }
  void kill() override;
  bool alive() const override { return state_ == State::starting || state_ == State::idle || state_ == State::busy; }
  bool reachable() const override { return state_ == State::idle && !parts_.exit->known && channel_.has_peer(); }
  int64_t pid() const override { return alive() ? channel_.peer_pid() : 0; }
  int64_t memory_bytes() const override { return alive() ? parts_.cell.usage_bytes() : 0; }
  Duration start_time() const override { return start_time_; }

 private:
  enum class State { starting, idle, busy, dead };
  void on_frame(Frame frame);
  void touched();
  void on_way_out(Frame frame);
  void on_ready_frame();
  void on_init_failed(const Frame& frame);
  void on_result(Frame frame);
  void on_host_call(Frame frame);
  void on_stream(const Frame& frame);
  void answer_host_call(uint32_t id, Result<HostReply> reply);
  void on_closed(const std::string& reason);
  void on_exited();
  void broken(std::string detail);
  void wait_for_exit();
  void finish();
  void kill_processes();
  Consumption consumed() const;

  net::Loop& loop_;
  Clock& clock_;
  LauncherClient& launcher_;
  InstanceEvents& events_;
  Parts parts_;
  FrameChannel channel_;
  OutputReader output_;
  State state_ = State::starting;
  std::string payload_;     // of the invocation that runs, if it is small enough to be kept
  bool untouched_ = false;  // nothing has been said by either side since INVOKE
  bool removed_ = false;
  bool exited_ = false;  // its process; what it said last is read, held or not
  uint32_t invocation_ = 0;
  std::function<std::shared_ptr<void>(std::vector<UniqueFd>)> let_out_;
  std::function<void(Status)> on_ready_;
  std::function<void(Outcome)> on_done_;
  Outcome ending_;  // what is known while the exit status is awaited
  MonoTime made_, invoked_{};
  Duration cpu_before_{}, start_time_{};
  net::Loop::Id exit_timer_ = 0;
  std::shared_ptr<void> kept_;
  std::shared_ptr<bool> here_ = std::make_shared<bool>(true);
};

}  // namespace sundog::sandbox
