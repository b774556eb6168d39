#include "sandbox/launcher/doctor.h"

#include <linux/seccomp.h>
#include <mntent.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

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

std::string says(int error) {
  return error == 0 ? "works" : strerror(error);
}

// Whether version 2 is mounted so that entering a cgroup does not wait for an RCU grace period.
bool entered_at_once() {
  FILE* table = setmntent("/proc/self/mounts", "re");
  bool found = false;
  mntent entry{};
  char line[4096];
  while (table != nullptr && getmntent_r(table, &entry, line, sizeof(line)) != nullptr) {
    if (strcmp(entry.mnt_type, "cgroup2") == 0 && hasmntopt(&entry, "favordynmods") != nullptr) found = true;
  }
  if (table != nullptr) endmntent(table);
  return found;
}

struct Limits {
  bool all = false;
  std::string detail;
};

// Makes a cell with every limit and removes it.
Limits try_cell(Cgroups& cgroups) {
  if (cgroups.version() == 0) {
    return {false, geteuid() == 0
                       ? "none writable"
                       : "none writable; systemd-run --user --scope -p Delegate=yes gives a user's server one"};
  }
  std::string detail = "version " + std::to_string(cgroups.version());
  bool all = true;
  for (const auto& [name, bit] :
       {std::pair{"memory", Cgroups::kMemory}, {"cpu", Cgroups::kCpu}, {"pids", Cgroups::kPids}}) {
    if (cgroups.has(bit)) continue;
    detail += std::string(all ? " without " : " and ") + name;
    all = false;
  }
  cgroups.begin();
  CellDescriptors cell;
  const char* why = "";
  const int error = cgroups.make(1, {64 << 20, 1000, 64}, cell, why);
  cell.close_all();
  cgroups.end();
  if (error == 0) {
    if (cgroups.version() == 2 && !entered_at_once())
      detail += "; mount -o remount,favordynmods /sys/fs/cgroup spares each start from zero a wait of milliseconds";
    return {all, detail};
  }
  return {false, detail + ", but " + why + ": " + strerror(error)};
}

}  // namespace

std::string doctor_report(const std::string& cgroup) {
  std::string rows;
  // No text of ours needs an escape.
  const auto row = [&rows](const char* check, bool ok, const std::string& detail, const char* without) {
    rows += std::string(rows.empty() ? "[" : ",") + R"({"check":")" + check + R"(","ok":)" + (ok ? "true" : "false") +
            R"(,"detail":")" + detail + R"(","without":")" + without + R"("})";
  };
  utsname system{};
  uname(&system);
  row("privileges", geteuid() == 0, geteuid() == 0 ? "root" : "rootless, one user",
      "one user for all functions: serve a single tenant only");
  const int user = try_namespaces(CLONE_NEWUSER);
  row("user namespaces", user == 0, says(user),
      "no private /tmp per instance, and mounts are not locked; rootless nothing starts");
  const int all = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET;
  const int others = try_namespaces(geteuid() == 0 ? all : all | CLONE_NEWUSER);
  row("pid, mount, ipc, uts, net namespaces", others == 0, says(others), "no instance can be started");
  Cgroups cgroups(("doctor-" + std::to_string(getpid())).c_str(), cgroup.c_str());
  const Limits limits = try_cell(cgroups);
  row("cgroup memory, cpu, pids", limits.all, limits.detail,
      "no memory, cpu and process limit for an instance as a whole");
  const bool atomic = cgroups.has(Cgroups::kKill), stopped = cgroups.has(Cgroups::kPids);
  row("ending a whole instance", atomic || stopped,
      atomic    ? "cgroup.kill"
      : stopped ? "pids.max and signals"
                : "neither cgroup.kill nor the pids controller",
      "a process that forks all the time can escape its end");
  const bool filter = prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
  row("seccomp", filter, filter ? "works" : "not in this kernel", "no instance can be started");
  const auto landlock = syscall(444 /* landlock_create_ruleset */, nullptr, 0, 1U /* version */);
  row("Landlock scopes", landlock >= 6, landlock < 0 ? "absent" : "ABI " + std::to_string(landlock),
      "instances of one function can signal each other and reach each other's abstract sockets, functions of one "
      "environment can signal each other (needs ABI 6, Linux 6.12)");
  const auto pidfd = syscall(SYS_pidfd_open, getpid(), 0);
  row("pidfd", pidfd >= 0, pidfd >= 0 ? "works" : strerror(errno), "ends of instances are noticed late");
  if (pidfd >= 0) close(int(pidfd));
  const auto sealed = syscall(462 /* mseal */, nullptr, 0, 0UL);
  row("mseal", sealed == 0 || errno != ENOSYS, sealed == 0 || errno != ENOSYS ? "works" : "absent",
      "init code could mount something else than its private /tmp, in a namespace without rights");
  row("kernel", true, std::string(system.release) + " " + system.machine, "");
  return rows + "]\n";
}

}  // namespace sundog::sandbox::launcher
