#include "sandbox/launcher/start.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "sandbox/launcher/own_namespaces.h"
#include "sandbox/launcher/tree.h"

namespace sundog::sandbox::launcher {
namespace {

constexpr int kHigh = 700;  // where a child keeps what it needs while it closes the rest

// The descriptors that a child keeps, moved out of the way of everything else.
struct Kept {
  int error = -1, socket = -1, output = -1, alive = -1;
  FdList attach;
};

[[noreturn]] void give_up(int error_pipe, int error, const char* step) {
  StartError report;
  report.error = error != 0 ? error : EINVAL;
  snprintf(report.step, sizeof(report.step), "%s", step);
  if (write(error_pipe, &report, sizeof(report)) < 0) _exit(126);
  _exit(127);
}

Kept keep(const StartPlan& plan, int error_pipe) {
  const auto move = [](int fd) { return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, kHigh); };
  Kept kept{move(error_pipe), move(plan.socket), move(plan.output), move(plan.alive), {}};
  for (const int fd : plan.attach) kept.attach.add(move(fd));
  close_range(0, kHigh - 1, 0);
  // Nothing must ever land on 0, 1 and 2 by accident.
  const int null = open("/dev/null", O_RDWR);
  if (null == 0) {
    dup2(0, 1);
    dup2(0, 2);
  }
  return kept;
}

unsigned namespaces_of(const RequestHeader& header) {
  unsigned own = CLONE_NEWNS;
  for (const auto& [rule, kind] : {std::pair{kRulePids, CLONE_NEWPID},
                                   {kRuleIpc, CLONE_NEWIPC},
                                   {kRuleUts, CLONE_NEWUTS},
                                   {kRuleNetwork, CLONE_NEWNET}}) {
    if ((header.without_rules & rule) == 0) own |= unsigned(kind);
  }
  return header.network == 2 ? own & ~unsigned(CLONE_NEWNET) : own;
}

// Becomes the tree's own user of the host, then enters a user namespace where that user is kInside and nobody else is:
// crossing into it locks the mounts that were made before.
int change_user(const StartPlan& plan) {
  const uint32_t without = plan.request.header.without_rules;
  if ((without & kRuleRights) != 0) return 0;
  const uid_t user = plan.rootless ? 0 : plan.host_user;
  // Without a mapping of its own a rootless launcher may not; then it has no groups to lose either.
  if (setgroups(0, nullptr) != 0 && !plan.rootless) return errno;
  if (setresgid(user, user, user) != 0 || setresuid(user, user, user) != 0) return errno;
  if ((without & kRuleUserNamespace) != 0) return 0;
  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // else the maps would be root's to write
  const int error = unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 ? write_maps(kInside, user, user) : errno;
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);  // nobody of the same user reads pid 1
  return error;
}

[[noreturn]] void execute(const StartPlan& plan, const Kept& kept) {
  for (const int fd : kept.attach) {
    if (write(fd, "0", 1) != 1) give_up(kept.error, errno, "cannot enter the cgroup");
  }
  setsid();
  const int null = open("/dev/null", O_RDONLY);
  if (null < 0 || dup2(null, 0) != 0 || dup2(kept.output, 1) != 1 || dup2(kept.output, 2) != 2 ||
      dup2(kept.socket, 3) != 3) {
    give_up(kept.error, errno, "cannot arrange the descriptors");
  }
  close_range(4, unsigned(kHigh - 1), 0);
  if (const int error = limit_resources(plan.request.header.max_pids, plan.pids_limited)) {
    give_up(kept.error, error, "cannot limit resources");
  }
  std::vector<char*> argv, environment;
  for (const auto& text : plan.request.argv()) argv.push_back(const_cast<char*>(text.data()));
  for (const auto& text : plan.request.environment()) environment.push_back(const_cast<char*>(text.data()));
  argv.push_back(nullptr);
  environment.push_back(nullptr);
  if ((plan.request.header.without_rules & kRuleSeccomp) == 0) {
    if (const int error = install_filter(plan.filter)) give_up(kept.error, error, "cannot install the filter");
  }
  execve(argv[0], argv.data(), environment.data());
  give_up(kept.error, errno, "cannot execute the command");
}

// Pid 1: reaps until nothing is left. A native command's end is its tree's end; a template's children outlive it.
[[noreturn]] void reap(const StartPlan& plan, const Kept& kept, pid_t command) {
  close(kept.error);
  close(kept.socket);
  close(kept.output);
  Kept(kept).attach.close_all();
  prctl(PR_SET_NAME, "sundog-init");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t child_signal;
  sigemptyset(&child_signal);
  sigaddset(&child_signal, SIGCHLD);
  const int signals = signalfd(-1, &child_signal, SFD_CLOEXEC | SFD_NONBLOCK);
  pollfd waits[2] = {{signals, POLLIN, 0}, {kept.alive, POLLIN, 0}};
  int result = 125;
  while (true) {
    int status = 0;
    pid_t ended = 0;
    while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
      if (ended != command) continue;
      result = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      if (plan.request.header.kind == uint8_t(TreeKind::native)) _exit(result);
    }
    if (ended < 0 && errno == ECHILD) _exit(result);
    poll(waits, 2, -1);
    if ((waits[1].revents & (POLLHUP | POLLIN)) != 0) _exit(124);  // the launcher is gone
    signalfd_siginfo drained[8];
    while (read(signals, drained, sizeof(drained)) > 0) continue;
  }
}

[[noreturn]] void become_init(const StartPlan& plan, int error_pipe) {
  const uint32_t without = plan.request.header.without_rules;
  const Kept kept = keep(plan, error_pipe);
  const unsigned own = namespaces_of(plan.request.header);
  if ((own & CLONE_NEWUTS) != 0 && sethostname("sundog", 6) != 0) {
    give_up(kept.error, errno, "cannot set the host name");
  }
  if ((own & CLONE_NEWNET) != 0) {
    if (const int error = loopback_up()) give_up(kept.error, error, "cannot bring the loopback up");
  }
  std::string why;
  if (const int error = build_tree(plan.request, why)) give_up(kept.error, error, why.c_str());
  if (const int error = change_user(plan)) give_up(kept.error, error, "cannot become the tree's user");
  if (const int error = drop_rights(without)) give_up(kept.error, error, "cannot drop the rights");
  const pid_t command = fork();
  if (command < 0) give_up(kept.error, errno, "cannot fork");
  if (command == 0) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    execute(plan, kept);
  }
  reap(plan, kept, command);
}

}  // namespace

Started start_tree(const StartPlan& plan) {
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) return {};
  const uid_t user = geteuid();
  const gid_t group = getegid();
  unsigned long flags = namespaces_of(plan.request.header) | SIGCHLD;
  if (plan.rootless) flags |= CLONE_NEWUSER;
  const auto pid = pid_t(syscall(SYS_clone, flags, nullptr, nullptr, nullptr, nullptr));
  if (pid == 0) {
    close(report[0]);
    // Rootless: this process is root of a first user namespace, over the launcher's single user.
    if (plan.rootless) {
      if (const int error = write_maps(0, user, group)) give_up(report[1], error, "cannot map the user");
    }
    become_init(plan, report[1]);
  }
  const int error = errno;
  close(report[1]);
  if (pid < 0) {
    close(report[0]);
    errno = error;
    return {};
  }
  return {pid, report[0]};
}

}  // namespace sundog::sandbox::launcher
