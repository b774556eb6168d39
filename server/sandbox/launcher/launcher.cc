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
#include <unordered_map>

#include "sandbox/launcher/cgroups.h"
#include "sandbox/launcher/fd_message.h"
#include "sandbox/launcher/protocol.h"
#include "sandbox/launcher/start.h"
#include "sandbox/launcher/tree.h"

namespace sundog::sandbox::launcher {
namespace {

constexpr uid_t kFirstUser = 231'072;  // of the host users that trees run as; nobody else's by convention (subuid)
constexpr uid_t kUsers = 65'000;

void close_all(const std::vector<int>& fds) {
  for (const int fd : fds) close(fd);
}

class Server {
 public:
  explicit Server(const LauncherOptions& options) : options_(options), cgroups_(options.name) {}
  int run();

 private:
  struct Tree {
    uint64_t id = 0;
    uint64_t request = 0;  // whose reply waits for the error pipe
    int error_pipe = -1;
  };

  bool prepare();
  void take_requests();
  void handle(const Request& request, const std::vector<int>& fds);
  void start(const Request& request, const std::vector<int>& fds);
  void make_cell(const Request& request);
  void clone_mount(const Request& request);
  void reap();
  void read_error_pipe(pid_t pid, Tree& tree);
  void remove_emptied();
  void reply(uint64_t id, int error, const std::string& text, int pid = 0, const CellDescriptors* cell = nullptr);
  void send(const ReplyHeader& header, const std::vector<int>& fds = {});
  static std::string cell_name(uint64_t id) { return "c" + std::to_string(id); }

  LauncherOptions options_;
  Cgroups cgroups_;
  Filter native_filter_, template_filter_;
  int signals_ = -1;
  int alive_[2] = {-1, -1};
  bool going_ = true;
  int status_ = 0;
  std::unordered_map<pid_t, Tree> trees_;
  std::unordered_map<uint64_t, std::vector<int>> attach_;  // of the cells that a tree may still start in
  std::vector<std::string> leaving_;                       // cells to remove once they are empty
  std::vector<char> buffer_ = std::vector<char>(sizeof(RequestHeader) + kMaxSpec + 1);
};

bool Server::prepare() {
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
  cgroups_.begin();
  return true;
}

void Server::send(const ReplyHeader& header, const std::vector<int>& fds) {
  const std::string_view message(reinterpret_cast<const char*>(&header), sizeof(header));
  // The server always reads; a full buffer for seconds means that it is gone or stuck.
  for (int attempt = 0; attempt < 100; ++attempt) {
    if (send_with_fds(options_.socket, message, fds.data(), fds.size()) >= 0) return;
    if (errno != EAGAIN) break;
    pollfd wait{options_.socket, POLLOUT, 0};
    poll(&wait, 1, 50);
  }
  going_ = false;
}

void Server::reply(uint64_t id, int error, const std::string& text, int pid, const CellDescriptors* cell) {
  ReplyHeader header;
  header.answer = uint16_t(Answer::reply);
  header.id = id;
  header.error = error;
  header.pid = pid;
  snprintf(header.text.data(), header.text.size(), "%s", text.c_str());
  std::vector<int> fds;
  if (cell) {
    header.attach_count = uint8_t(cell->attach.size());
    header.cell_fds = cell->which;
    fds = cell->attach;
    fds.insert(fds.end(), cell->statistics.begin(), cell->statistics.end());
  }
  send(header, fds);
}

void Server::take_requests() {
  while (going_) {
    Received received = receive_with_fds(options_.socket, buffer_.data(), buffer_.size());
    if (received.bytes < 0 && errno == EAGAIN) return;
    if (received.bytes <= 0) {
      going_ = false;
      return;
    }
    Request request;
    std::string why;
    if (received.truncated || received.fds.size() > size_t(kMaxFds)) {
      why = "too large";
    } else {
      parse_request({buffer_.data(), size_t(received.bytes)}, request, why);
    }
    if (why.empty()) {
      handle(request, received.fds);
    } else {
      fprintf(stderr, "sundog-launcher: malformed request: %s\n", why.c_str());
      going_ = false;
      status_ = 2;
    }
    close_all(received.fds);
  }
}

void Server::handle(const Request& request, const std::vector<int>& fds) {
  const auto& header = request.header;
  switch (Command(header.command)) {
    case Command::start:
      return start(request, fds);
    case Command::make_cell:
      return make_cell(request);
    case Command::kill_cell:
      cgroups_.kill(cell_name(header.subject));
      return reply(header.id, 0, "");
    case Command::remove_cell:
      cgroups_.kill(cell_name(header.subject));
      if (const auto found = attach_.find(header.subject); found != attach_.end()) {
        close_all(found->second);
        attach_.erase(found);
      }
      leaving_.push_back(cell_name(header.subject));
      remove_emptied();
      return reply(header.id, 0, "");
    case Command::kill_tree:
      for (const auto& [pid, tree] : trees_) {
        if (tree.id == header.subject) kill(pid, SIGKILL);
      }
      return reply(header.id, 0, "");
    case Command::clone_mount:
      return clone_mount(request);
  }
}

void Server::make_cell(const Request& request) {
  const auto& header = request.header;
  CellDescriptors descriptors;
  std::string why;
  const CellLimits limits{header.memory_bytes, header.cpu_millis, header.max_pids};
  const int error = cgroups_.make(cell_name(header.subject), limits, descriptors, why);
  if (error == 0) {
    reply(header.id, 0, "", 0, &descriptors);
  } else {
    leaving_.push_back(cell_name(header.subject));
    reply(header.id, error, why);
  }
  close_all(descriptors.statistics);
  if (error == 0 && header.kind == 1) {
    attach_[header.subject] = std::move(descriptors.attach);  // a tree will begin in it
  } else {
    close_all(descriptors.attach);
  }
}

void Server::clone_mount(const Request& request) {
  const int clone = clone_read_only(std::string(request.mounts.front().source).c_str());
  if (clone < 0) return reply(request.header.id, errno, "cannot clone a mount");
  CellDescriptors descriptors;
  descriptors.attach.push_back(clone);
  reply(request.header.id, 0, "", 0, &descriptors);
  close(clone);
}

void Server::start(const Request& request, const std::vector<int>& fds) {
  const auto& header = request.header;
  if (fds.size() != 2) return reply(header.id, EINVAL, "a start takes a socket and an output pipe");
  if (header.without_rules != 0 && !options_.insecure_test) return reply(header.id, EPERM, "rules cannot be left out");
  StartPlan plan{request, header.kind == 0 ? native_filter_ : template_filter_};
  plan.socket = fds[0];
  plan.output = fds[1];
  plan.alive = alive_[0];
  plan.rootless = geteuid() != 0;
  plan.host_user = plan.rootless ? geteuid() : kFirstUser + uid_t(header.subject % kUsers);
  if (header.cell != 0) {
    const auto found = attach_.find(header.cell);
    if (found == attach_.end()) return reply(header.id, ENOENT, "no such cell");
    plan.attach = std::move(found->second);
    attach_.erase(found);
  }
  const Started started = start_tree(plan);
  const int error = errno;
  close_all(plan.attach);
  if (started.pid < 0) return reply(header.id, error, "cannot clone into new namespaces");
  fcntl(started.error_pipe, F_SETFL, O_NONBLOCK);
  trees_[started.pid] = {header.subject, header.id, started.error_pipe};
}

void Server::read_error_pipe(pid_t pid, Tree& tree) {
  StartError report;
  const ssize_t bytes = read(tree.error_pipe, &report, sizeof(report));
  if (bytes < 0 && errno == EAGAIN) return;
  close(tree.error_pipe);
  tree.error_pipe = -1;
  if (bytes == ssize_t(sizeof(report))) {
    report.step[sizeof(report.step) - 1] = '\0';
    reply(tree.request, report.error, report.step);
    kill(pid, SIGKILL);
  } else {
    reply(tree.request, 0, "", pid);
  }
}

void Server::reap() {
  signalfd_siginfo drained[16];
  while (read(signals_, drained, sizeof(drained)) > 0) continue;
  int status = 0;
  for (pid_t pid = 0; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    const auto found = trees_.find(pid);
    if (found == trees_.end()) continue;
    if (found->second.error_pipe >= 0) read_error_pipe(pid, found->second);
    if (found->second.error_pipe >= 0) close(found->second.error_pipe);
    ReplyHeader header;
    header.answer = uint16_t(Answer::tree_ended);
    header.id = found->second.id;
    header.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    trees_.erase(found);
    send(header);
  }
}

void Server::remove_emptied() {
  std::erase_if(leaving_, [this](const std::string& cell) { return cgroups_.try_remove(cell); });
}

int Server::run() {
  if (!prepare()) return 1;
  ReplyHeader hello;
  hello.answer = uint16_t(Answer::hello);
  hello.pid = getpid();
  hello.status = cgroups_.version();
  send(hello);
  int pause_ms = 1;
  while (going_) {
    std::vector<pollfd> waits = {{options_.socket, POLLIN, 0}, {signals_, POLLIN, 0}};
    std::vector<pid_t> starting;
    for (const auto& [pid, tree] : trees_) {
      if (tree.error_pipe < 0) continue;
      waits.push_back({tree.error_pipe, POLLIN, 0});
      starting.push_back(pid);
    }
    const int ready = poll(waits.data(), waits.size(), leaving_.empty() ? -1 : pause_ms);
    pause_ms = ready == 0 ? std::min(pause_ms * 2, 50) : 1;
    for (size_t i = 0; i < starting.size(); ++i) {
      if (waits[i + 2].revents != 0) read_error_pipe(starting[i], trees_[starting[i]]);
    }
    if (waits[1].revents != 0) reap();
    if (waits[0].revents != 0) take_requests();
    if (!leaving_.empty()) remove_emptied();
  }
  for (const auto& [pid, tree] : trees_) kill(pid, SIGKILL);
  while (waitpid(-1, nullptr, 0) > 0) continue;
  cgroups_.end();
  return status_;
}

}  // namespace

int serve(const LauncherOptions& options) {
  return Server(options).run();
}

}  // namespace sundog::sandbox::launcher
