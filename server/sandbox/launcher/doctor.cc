#include "sandbox/launcher/doctor.h"

#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "sandbox/launcher/cgroups.h"

namespace sundog::sandbox::launcher {
namespace {

// Whether a child can make these namespaces; the errno if not.
int try_namespaces(int flags) {
  const pid_t child = fork();
  if (child < 0) return errno;
  if (child == 0) _exit(unshare(flags) == 0 ? 0 : errno);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

nlohmann::json row(const char* check, bool ok, std::string detail, const char* without) {
  return {{"check", check}, {"ok", ok}, {"detail", std::move(detail)}, {"without", without}};
}

std::string says(int error) {
  return error == 0 ? "works" : strerror(error);
}

}  // namespace

std::string doctor_report() {
  auto rows = nlohmann::json::array();
  utsname system{};
  uname(&system);
  rows.push_back(row("privileges", geteuid() == 0, geteuid() == 0 ? "root" : "rootless, one user",
                     "no cgroup limits and one user for all functions: serve a single tenant only"));
  const int user = try_namespaces(CLONE_NEWUSER);
  rows.push_back(row("user namespaces", user == 0, says(user),
                     "no private /tmp per instance, and mounts are not locked; rootless nothing starts"));
  const int all = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET;
  const int others = try_namespaces(geteuid() == 0 ? all : all | CLONE_NEWUSER);
  rows.push_back(row("pid, mount, ipc, uts, net namespaces", others == 0, says(others), "no instance can be started"));
  const Cgroups cgroups("doctor");
  const bool limits = cgroups.has(Cgroups::kMemory | Cgroups::kCpu | Cgroups::kPids);
  rows.push_back(row("cgroup memory, cpu, pids", limits,
                     cgroups.version() == 0 ? "none writable" : "version " + std::to_string(cgroups.version()),
                     "no memory, cpu and process limit for an instance as a whole"));
  const bool atomic = cgroups.has(Cgroups::kKill), stopped = cgroups.has(Cgroups::kPids);
  rows.push_back(row("ending a whole instance", atomic || stopped,
                     atomic    ? "cgroup.kill"
                     : stopped ? "pids.max and signals"
                               : "neither cgroup.kill nor the pids controller",
                     "a process that forks all the time can escape its end"));
  const bool filter = prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
  rows.push_back(row("seccomp", filter, filter ? "works" : "not in this kernel", "no instance can be started"));
  const auto landlock = syscall(444 /* landlock_create_ruleset */, nullptr, 0, 1U /* version */);
  rows.push_back(row("Landlock scopes", landlock >= 6, landlock < 0 ? "absent" : "ABI " + std::to_string(landlock),
                     "instances of one function can signal each other (needs ABI 6, Linux 6.12)"));
  const auto pidfd = syscall(SYS_pidfd_open, getpid(), 0);
  rows.push_back(
      row("pidfd", pidfd >= 0, pidfd >= 0 ? "works" : strerror(errno), "ends of instances are noticed late"));
  if (pidfd >= 0) close(int(pidfd));
  const auto sealed = syscall(462 /* mseal */, nullptr, 0, 0UL);
  rows.push_back(row("mseal", sealed == 0 || errno != ENOSYS, sealed == 0 || errno != ENOSYS ? "works" : "absent",
                     "init code could mount something else than its private /tmp, in a namespace without rights"));
  rows.push_back(row("kernel", true, std::string(system.release) + " " + system.machine, ""));
  return rows.dump() + "\n";
}

}  // namespace sundog::sandbox::launcher
