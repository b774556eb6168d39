#include "sandbox/launcher/launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "sandbox/launcher/cgroups.h"
#include "sandbox/launcher/fd_message.h"
#include "sandbox/launcher/protocol.h"
#include "sandbox/launcher/start.h"
#include "sandbox/launcher/tree.h"

namespace sundog::sandbox::launcher {
namespace {

constexpr uid_t kFirstUser = 231'072;  // of the host users that trees run as; nobody else's by convention (subuid)
constexpr uid_t kUsers = 65'000;
constexpr size_t kMostTrees = 16'384, kMostCells = 65'536, kMostReady = 1024;

// Of a vector whose order does not matter.
template <class T>
void take_out(std::vector<T>& items, typename std::vector<T>::iterator at) {
  *at = items.back();
  items.pop_back();
}

class Server {
 public:
  explicit Server(const LauncherOptions& options)
      : options_(options), cgroups_(options.name.c_str(), options.cgroup.c_str()) {}
  int run() {
    if (!prepare()) return 1;
    ReplyHeader hello;
    hello.answer = uint16_t(Answer::hello);
    hello.pid = getpid();
    hello.status = cgroups_.version();
    send(hello);
    int pause_ms = 1;
    while (going_) {
      waits_.clear();
      waits_.push_back({options_.socket, POLLIN, 0});
      waits_.push_back({signals_, POLLIN, 0});
      for (const auto& tree : trees_) {
        if (tree.error_pipe >= 0) waits_.push_back({tree.error_pipe, POLLIN, 0});
      }
      const int ready = poll(waits_.data(), waits_.size(), leaving_.empty() ? -1 : pause_ms);
      pause_ms = ready == 0 ? std::min(pause_ms * 2, 50) : 1;
      size_t at = 2;
      for (auto& tree : trees_) {
        if (tree.error_pipe >= 0 && waits_[at++].revents != 0) read_error_pipe(tree);
      }
      if (waits_[1].revents != 0) reap();
      if (waits_[0].revents != 0) take_requests();
      if (!leaving_.empty()) remove_emptied();
    }
    for (const auto& tree : trees_) kill(tree.pid, SIGKILL);
    while (waitpid(-1, nullptr, 0) > 0) continue;
    cgroups_.end();
    return status_;
  }

 private:
  struct Tree {
    pid_t pid = 0;
    uint64_t id = 0;
    uint64_t request = 0;  // whose reply waits for the error pipe
    int error_pipe = -1;
  };
  struct Ready {  // a cell that a tree will begin in
    uint64_t cell = 0;
    FdList attach;
  };

  bool prepare() {
    std::string why;
    native_filter_ = build_filter(TreeKind::native, why);
    if (why.empty()) template_filter_ = build_filter(TreeKind::python_template, why);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGCHLD);
    sigprocmask(SIG_BLOCK, &blocked, nullptr);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);  // a terminal's Ctrl-C is the server's to handle; we end with its socket
    signals_ = signalfd(-1, &blocked, SFD_CLOEXEC | SFD_NONBLOCK);
    if (why.empty() && (signals_ < 0 || pipe2(alive_, O_CLOEXEC) != 0)) why = "no descriptors";
    if (!why.empty()) {
      fprintf(stderr, "sundog-launcher: %s\n", why.c_str());
      return false;
    }
    trees_.reserve(kMostTrees);
    ready_.reserve(kMostReady);
    leaving_.reserve(kMostCells);
    waits_.reserve(kMostTrees + 2);
    cgroups_.begin();
    return true;
  }

  void send(const ReplyHeader& header, const FdList& fds = {}) {
    const std::string_view message(reinterpret_cast<const char*>(&header), sizeof(header));
    // The server always reads; a full buffer for seconds means that it is gone or stuck.
    for (int attempt = 0; attempt < 100; ++attempt) {
      if (send_with_fds(options_.socket, message, fds.begin(), fds.size()) >= 0) return;
      if (errno != EAGAIN) break;
      pollfd wait{options_.socket, POLLOUT, 0};
      poll(&wait, 1, 50);
    }
    going_ = false;
  }

  void reply(uint64_t id, int error, const char* text, int pid = 0, const CellDescriptors* cell = nullptr) {
    ReplyHeader header;
    header.answer = uint16_t(Answer::reply);
    header.id = id;
    header.error = error;
    header.pid = pid;
    snprintf(header.text.data(), header.text.size(), "%s", text);
    FdList fds;
    if (cell) {
      fds = cell->attach;
      header.attach_count = uint8_t(fds.size());
      for (size_t i = 0; i < cell->statistics.size(); ++i) {
        if (cell->statistics[i] >= 0 && fds.add(cell->statistics[i])) header.cell_fds |= uint8_t(1U << i);
      }
    }
    send(header, fds);
  }

  void take_requests() {
    while (going_) {
      Received received = receive_with_fds(options_.socket, buffer_.data(), buffer_.size());
      if (received.bytes < 0 && errno == EAGAIN) return;
      if (received.bytes <= 0) {
        going_ = false;
        return;
      }
      const char* why = received.truncated || received.fds.size() > size_t(kMaxFds)
                            ? "too large"
                            : parse_request({buffer_.data(), size_t(received.bytes)}, request_);
      if (why == nullptr) {
        handle(received.fds);
      } else {
        fprintf(stderr, "sundog-launcher: malformed request: %s\n", why);
        going_ = false;
        status_ = 2;
      }
      received.fds.close_all();
    }
  }

  void handle(const FdList& fds) {
    const uint64_t subject = request_.header.subject;
    switch (Command(request_.header.command)) {
      case Command::start:
        return start(fds);
      case Command::make_cell:
        return make_cell();
      case Command::kill_cell:
        cgroups_.kill(subject);
        break;
      case Command::remove_cell:
        remove_cell(subject);
        break;
      case Command::kill_tree:
        if (const auto tree = std::ranges::find(trees_, subject, &Tree::id); tree != trees_.end())
          kill(tree->pid, SIGKILL);
        break;
      case Command::clone_mount:
        return clone_mount();
    }
    reply(request_.header.id, 0, "");
  }

  void make_cell() {
    const auto& header = request_.header;
    CellDescriptors descriptors;
    const char* why = "too many cells";
    int error = EAGAIN;
    if (leaving_.size() < kMostCells && ready_.size() < kMostReady) {
      const CellLimits limits{header.memory_bytes, header.cpu_millis, header.max_pids};
      error = cgroups_.make(header.subject, limits, descriptors, why);
    }
    reply(header.id, error, error == 0 ? "" : why, 0, error == 0 ? &descriptors : nullptr);
    if (error != 0) {
      remove_cell(header.subject);
    } else if (header.kind == 1) {
      ready_.push_back({header.subject, std::exchange(descriptors.attach, {})});  // a tree will begin in it
    }
    descriptors.close_all();
  }

  void remove_cell(uint64_t cell) {
    if (const auto found = std::ranges::find(ready_, cell, &Ready::cell); found != ready_.end()) {
      found->attach.close_all();
      take_out(ready_, found);
    }
    if (leaving_.size() < kMostCells) leaving_.push_back(cell);
    cgroups_.kill(cell);
    remove_emptied();
  }

  void clone_mount() {
    // NOLINTNEXTLINE(bugprone-suspicious-stringview-data-usage): a NUL follows it in the message
    const int clone = clone_read_only(request_.mounts()[0].source.data());
    if (clone < 0) return reply(request_.header.id, errno, "cannot clone a mount");
    CellDescriptors descriptors;
    descriptors.attach.add(clone);
    reply(request_.header.id, 0, "", 0, &descriptors);
    descriptors.close_all();
  }

  void start(const FdList& fds) {
    const auto& header = request_.header;
    if (fds.size() != 2) return reply(header.id, EINVAL, "a start takes a socket and an output pipe");
    if (header.without_rules != 0 && !options_.insecure_test)
      return reply(header.id, EPERM, "rules cannot be left out");
    if (trees_.size() == kMostTrees) return reply(header.id, EAGAIN, "too many trees");
    StartPlan plan{request_, header.kind == 0 ? native_filter_ : template_filter_};
    plan.socket = fds[0];
    plan.output = fds[1];
    plan.alive = alive_[0];
    plan.rootless = geteuid() != 0;
    plan.pids_limited = header.cell != 0 && cgroups_.has(Cgroups::kPids);
    plan.host_user = plan.rootless ? geteuid() : kFirstUser + uid_t(header.subject % kUsers);
    if (header.cell != 0) {
      const auto found = std::ranges::find(ready_, header.cell, &Ready::cell);
      if (found == ready_.end()) return reply(header.id, ENOENT, "no such cell");
      plan.attach = found->attach;
      take_out(ready_, found);
    }
    const Started started = start_tree(plan);
    const int error = errno;
    plan.attach.close_all();
    if (started.pid < 0) return reply(header.id, error, "cannot clone into new namespaces");
    fcntl(started.error_pipe, F_SETFL, O_NONBLOCK);
    trees_.push_back({started.pid, header.subject, header.id, started.error_pipe});
  }

  void read_error_pipe(Tree& tree) {
    StartError report;
    const ssize_t bytes = read(tree.error_pipe, &report, sizeof(report));
    if (bytes < 0 && errno == EAGAIN) return;
    close(std::exchange(tree.error_pipe, -1));
    if (bytes != ssize_t(sizeof(report))) return reply(tree.request, 0, "", tree.pid);
    report.step[sizeof(report.step) - 1] = '\0';
    reply(tree.request, report.error, report.step);
    kill(tree.pid, SIGKILL);
  }

  void reap() {
    signalfd_siginfo drained[16];
    while (read(signals_, drained, sizeof(drained)) > 0) continue;
    int status = 0;
    for (pid_t pid = 0; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
      const auto tree = std::ranges::find(trees_, pid, &Tree::pid);
      if (tree == trees_.end()) continue;
      if (tree->error_pipe >= 0) read_error_pipe(*tree);
      if (tree->error_pipe >= 0) close(tree->error_pipe);
      ReplyHeader header;
      header.answer = uint16_t(Answer::tree_ended);
      header.id = tree->id;
      header.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      take_out(trees_, tree);
      send(header);
    }
  }

  void remove_emptied() {
    std::erase_if(leaving_, [this](uint64_t cell) { return cgroups_.try_remove(cell); });
  }

  LauncherOptions options_;
  Cgroups cgroups_;
  Filter native_filter_, template_filter_;
  int signals_ = -1;
  int alive_[2] = {-1, -1};
  bool going_ = true;
  int status_ = 0;
  Request request_;  // that is being answered
  // None of these ever grows: prepare() makes room for all that there may be.
  std::vector<Tree> trees_;
  std::vector<Ready> ready_;
  std::vector<uint64_t> leaving_;  // cells to remove once they are empty
  std::vector<pollfd> waits_;
  std::vector<char> buffer_ = std::vector<char>(sizeof(RequestHeader) + kMaxSpec + 1);
};

}  // namespace

int serve(const LauncherOptions& options) {
  return Server(options).run();
}

}  // namespace sundog::sandbox::launcher
