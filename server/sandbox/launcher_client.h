// LauncherClient: the server's hand on the launcher. Starts it, speaks to it, and starts it again when it dies.
//
// Ownership   one per sandbox.
// Threads     the loop thread; no callback comes from inside the call that took it.
// Failure     unavailable when the launcher is gone or refuses; every callback that waits then gets it, and every tree
// ends.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/result.h"
#include "net/loop.h"
#include "sandbox/launcher/protocol.h"
#include "sandbox/sandbox.h"

namespace sundog::sandbox {

// The cgroups of one instance. Empty descriptors where the machine has no cgroups for us.
struct Cell {
  uint64_t id = 0;
  std::vector<UniqueFd> attach;
  UniqueFd peak, usage, oom, cpu;

  int64_t peak_bytes() const;   // 0 if unknown
  int64_t usage_bytes() const;  // 0 if unknown
  int64_t oom_kills() const;
  Duration cpu_time() const;
};

struct TreeStart {
  launcher::TreeKind kind = launcher::TreeKind::native;
  std::vector<std::string> argv;
  std::vector<std::string> environment;  // "NAME=value"
  std::vector<Mount> mounts;
  Limits limits;
  Network network = Network::none;
  uint32_t without_rules = 0;
  uint64_t cell = 0;
  UniqueFd socket, output;
};

class LauncherClient {
 public:
  struct Options {
    Path program;
    std::string name = "default";
    Path cgroup;  // delegated_cgroup()
    bool insecure_test = false;
  };
  // Starts the launcher and waits for its greeting, at most 5 s: call it before the loop runs.
  static Result<std::unique_ptr<LauncherClient>> start(net::Loop& loop, Clock& clock, Log& log, Options options);
  ~LauncherClient();

  // `for_tree`: the launcher keeps its attach descriptors for a tree that will begin in it, and they do not come here.
  void make_cell(const Limits& limits, bool for_tree, Callback<Cell> on_made);
  void kill_cell(uint64_t cell);
  void remove_cell(uint64_t cell);  // kills what is in it first
  // The tree's id at once; `on_started` with its first process's pid on the host, `on_ended` exactly once after a start
  // that succeeded (status: exit status, 128 + signal, or -1 if the launcher died).
  uint64_t start_tree(TreeStart spec, Callback<int> on_started, std::function<void(int status)> on_ended);
  void kill_tree(uint64_t tree);
  // A detached, read-only clone of the folder's mount, for a process that will attach it in a namespace of its own.
  void clone_mount(const Path& folder, Callback<UniqueFd> on_cloned);
  int64_t pid() const { return pid_; }
  // Also if nobody has noticed it yet.
  bool has_ended() const;
  int cgroup_version() const { return cgroup_version_; }

 private:
  struct Pending {
    std::function<void(Result<launcher::ReplyHeader>, std::vector<UniqueFd>)> on_reply;
  };
  struct Message {
    std::string bytes;
    std::vector<UniqueFd> fds;
  };
  LauncherClient(net::Loop& loop, Clock& clock, Log& log, Options options);
  Status spawn();
  Status wait_for_greeting();
  void watch();
  void request(launcher::RequestHeader header, const TreeStart* spec, std::vector<UniqueFd> fds,
               std::function<void(Result<launcher::ReplyHeader>, std::vector<UniqueFd>)> on_reply);
  void flush();
  void on_readable();
  bool take_message();  // false: nothing more to read now, or lost
  void lost();
  void reap();

  net::Loop& loop_;
  Clock& clock_;
  Log& log_;
  Options options_;
  UniqueFd socket_;
  int64_t pid_ = 0;
  int cgroup_version_ = 0;
  int failures_ = 0;
  MonoTime started_{};
  uint64_t next_id_ = 1;
  std::map<uint64_t, Pending> pending_;
  std::map<uint64_t, std::function<void(int)>> trees_;
  std::deque<Message> outgoing_;
  net::Loop::Id readable_ = 0, writable_ = 0, restart_ = 0;
};

}  // namespace sundog::sandbox
