#include "sandbox/launcher/cgroups.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <mntent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <utility>

namespace sundog::sandbox::launcher {
namespace {

struct CellName {
  char text[24];
  explicit CellName(uint64_t cell) { snprintf(text, sizeof(text), "c%" PRIu64, cell); }
};

int open_folder(int at, const char* name) {
  return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

// SIGKILL to every process that a cgroup lists.
void kill_listed(int cell) {
  const int file = openat(cell, "cgroup.procs", O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  char text[4096];
  pid_t pid = 0;
  for (ssize_t bytes = 0; (bytes = read(file, text, sizeof(text))) > 0;) {
    for (const char* at = text; at < text + bytes; ++at) {
      if (*at >= '0' && *at <= '9') {
        pid = pid * 10 + (*at - '0');
        continue;
      }
      if (pid > 1 && pid != getpid()) ::kill(pid, SIGKILL);
      pid = 0;
    }
  }
  close(file);
}

// What version 2 has in cgroup.controllers, with commas between, as version 1 has it among its mount's options.
char* controllers_of(const char* mount, char* text, size_t size) {
  snprintf(text, size, "%s/cgroup.controllers", mount);
  const int file = open(text, O_RDONLY | O_CLOEXEC);
  const ssize_t bytes = file < 0 ? 0 : read(file, text, size - 1);
  if (file >= 0) close(file);
  text[std::max<ssize_t>(bytes, 0)] = '\0';
  std::replace_if(text, text + strlen(text), [](char c) { return c == ' ' || c == '\n'; }, ',');
  return text;
}

constexpr std::pair<const char*, unsigned> kControllers[] = {
    {"memory", Cgroups::kMemory}, {"cpu", Cgroups::kCpu}, {"pids", Cgroups::kPids}, {"cpuacct", Cgroups::kAccount}};

}  // namespace

void CellDescriptors::close_all() {
  attach.close_all();
  for (int& fd : statistics) {
    if (fd >= 0) close(std::exchange(fd, -1));
  }
}

Cgroups::Cgroups(const char* name, const char* base, const char* mounts, int creating) : creating_(creating) {
  snprintf(folder_, sizeof(folder_), "sundog-%s", name);
  find(base, mounts);
}

Cgroups::~Cgroups() {
  for (size_t i = 0; i < count_; ++i) {
    close(hierarchies_[i].mount);
    if (hierarchies_[i].own >= 0) close(hierarchies_[i].own);
  }
}

void Cgroups::find(const char* base, const char* mounts) {
  FILE* table = setmntent(mounts, "re");
  if (table == nullptr) return;
  mntent entry{};
  char line[4096];
  while (getmntent_r(table, &entry, line, sizeof(line)) != nullptr) {
    const bool v2 = strcmp(entry.mnt_type, "cgroup2") == 0;
    if (!v2 && strcmp(entry.mnt_type, "cgroup") != 0) continue;
    unsigned controllers = v2 ? kKill : 0;
    if (v2 && *base != '\0') entry.mnt_dir = const_cast<char*>(base);
    char listed[1024];
    if (v2) entry.mnt_opts = controllers_of(entry.mnt_dir, listed, sizeof(listed));
    for (const auto& [word, bit] : kControllers) {
      if (hasmntopt(&entry, word) != nullptr) controllers |= bit;
    }
    if (add(entry.mnt_dir, controllers, v2) && (controllers & ~kKill) != 0) version_ = v2 ? 2 : std::max(version_, 1);
  }
  endmntent(table);
  // A v2 without controllers would only give cgroup.kill, and entering it waits for an RCU grace period (4 to 14 ms).
  if (version_ == 1) {
    const auto end = std::partition(hierarchies_.begin(), hierarchies_.begin() + ptrdiff_t(count_),
                                    [](const Hierarchy& one) { return !one.v2; });
    for (auto one = end; one != hierarchies_.begin() + ptrdiff_t(count_); ++one) close(one->mount);
    count_ = size_t(end - hierarchies_.begin());
  }
}

bool Cgroups::add(const char* mount, unsigned controllers, bool v2) {
  if (controllers == 0 || count_ == hierarchies_.size() || access(mount, W_OK) != 0) return false;
  const int folder = open_folder(AT_FDCWD, mount);
  struct stat status{};
  struct statfs file_system{};
  if (folder < 0) return false;
  bool known = fstat(folder, &status) != 0 || fstatfs(folder, &file_system) != 0;
  // Another file system may be mounted over it.
  if (file_system.f_type != CGROUP_SUPER_MAGIC && file_system.f_type != CGROUP2_SUPER_MAGIC)
    known = known || creating_ == 0;
  // The same hierarchy may be mounted at several places, for instance in a chroot: the first is enough.
  for (size_t i = 0; i < count_; ++i) {
    struct stat other{};
    if (fstat(hierarchies_[i].mount, &other) == 0 && other.st_dev == status.st_dev && creating_ == 0) known = true;
  }
  if (known) {
    close(folder);
    return false;
  }
  hierarchies_[count_++] = {folder, -1, controllers, v2};
  return true;
}

bool Cgroups::has(unsigned controllers) const {
  unsigned found = 0;
  for (size_t i = 0; i < count_; ++i) found |= hierarchies_[i].controllers;
  return (found & controllers) == controllers;
}

int Cgroups::write_file(int folder, const char* file, const char* text) const {
  const int fd = openat(folder, file, O_WRONLY | O_CLOEXEC | creating_, 0600);
  if (fd < 0) return errno;
  const int error = write(fd, text, strlen(text)) < 0 ? errno : 0;
  close(fd);
  return error;
}

// On version 2 the children of a folder have those controllers that it passes on. Each by itself: one that is refused
// takes no other with it, and is named when a limit is not there.
void Cgroups::give_controllers(const Hierarchy& hierarchy, int folder) const {
  for (const auto& [name, bit] : kControllers) {
    char text[16];
    snprintf(text, sizeof(text), "+%s", name);
    if (hierarchy.v2 && (hierarchy.controllers & bit) != 0) write_file(folder, "cgroup.subtree_control", text);
  }
}

void Cgroups::open_own(Hierarchy& hierarchy) const {
  if (hierarchy.own >= 0) close(hierarchy.own);
  mkdirat(hierarchy.mount, folder_, 0755);
  hierarchy.own = open_folder(hierarchy.mount, folder_);
  give_controllers(hierarchy, hierarchy.own);
}

void Cgroups::begin() {
  end();
  for (size_t i = 0; i < count_; ++i) {
    give_controllers(hierarchies_[i], hierarchies_[i].mount);
    open_own(hierarchies_[i]);
  }
}

void Cgroups::kill_members(int cell) const {
  if (write_file(cell, "cgroup.kill", "1") == 0) return;
  // Nothing new appears while they are being killed; who was appearing just then is found by the next look.
  write_file(cell, "pids.max", "0");
  kill_listed(cell);
  kill_listed(cell);
}

void Cgroups::end() {
  for (int attempt = 0; attempt < 200; ++attempt) {
    bool left = false;
    for (size_t i = 0; i < count_; ++i) {
      const int own = open_folder(hierarchies_[i].mount, folder_);
      DIR* cells = own < 0 ? nullptr : fdopendir(own);
      if (cells == nullptr) continue;
      while (const dirent* entry = readdir(cells)) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.') continue;
        const int cell = open_folder(own, entry->d_name);
        kill_members(cell);
        close(cell);
        unlinkat(own, entry->d_name, AT_REMOVEDIR);
      }
      closedir(cells);
      if (unlinkat(hierarchies_[i].mount, folder_, AT_REMOVEDIR) != 0) left = true;
    }
    if (!left) return;
    usleep(5000);
  }
}

int Cgroups::set_limits(const Hierarchy& hierarchy, int cell, const CellLimits& limits, const char*& why) const {
  const int64_t quota = int64_t{limits.cpu_millis} * 100;
  const struct {
    unsigned controller;
    bool v2, required;
    const char* file;
    int64_t value;
    const char* more = "";
  } settings[] = {
      {kMemory, false, true, "memory.limit_in_bytes", limits.memory_bytes},
      {kMemory, false, false, "memory.memsw.limit_in_bytes", limits.memory_bytes},
      {kMemory, false, false, "memory.kmem.tcp.limit_in_bytes", limits.memory_bytes},  // v1 counts these buffers apart
      {kMemory, true, true, "memory.max", limits.memory_bytes},
      {kMemory, true, false, "memory.swap.max", 0},
      {kCpu, false, true, "cpu.cfs_quota_us", quota},
      {kCpu, false, false, "cpu.shares", std::max(2, limits.cpu_millis * 1024 / 1000)},
      {kCpu, true, true, "cpu.max", quota, " 100000"},
      {kCpu, true, false, "cpu.weight", std::clamp(limits.cpu_millis / 10, 1, 10'000)},
      {kPids, false, true, "pids.max", limits.max_pids},
      {kPids, true, true, "pids.max", limits.max_pids},
  };
  for (const auto& setting : settings) {
    if ((hierarchy.controllers & setting.controller) == 0 || hierarchy.v2 != setting.v2) continue;
    char text[48];
    snprintf(text, sizeof(text), "%" PRId64 "%s", setting.value, setting.more);
    const int error = write_file(cell, setting.file, text);
    if (error != 0 && setting.required) return why = setting.file, error;
  }
  return 0;
}

int Cgroups::make_in(Hierarchy& hierarchy, const char* name, const CellLimits& limits, CellDescriptors& out,
                     const char*& why) const {
  int error = mkdirat(hierarchy.own, name, 0755) == 0 ? 0 : errno;
  if (error == ENOENT) {  // somebody removed our folder
    open_own(hierarchy);
    error = mkdirat(hierarchy.own, name, 0755) == 0 ? 0 : errno;
  }
  if (error != 0) return why = "cannot make a cgroup", error;
  const int cell = open_folder(hierarchy.own, name);
  if (cell < 0) return why = "cannot open a new cgroup", errno;
  error = set_limits(hierarchy, cell, limits, why);
  if (error == 0) {
    // tasks rather than cgroup.procs on v1: writing the latter after an idle spell waits for an RCU grace period.
    const int attach = openat(cell, hierarchy.v2 ? "cgroup.procs" : "tasks", O_WRONLY | O_CLOEXEC | creating_, 0600);
    if (attach < 0 || !out.attach.add(attach)) error = errno, why = "cannot open the tasks of a cgroup";
  }
  const auto statistic = [&](unsigned controllers, int at, const char* file) {
    int& fd = out.statistics[size_t(at)];
    if (error == 0 && fd < 0 && (hierarchy.controllers & controllers) != 0)
      fd = openat(cell, file, O_RDONLY | O_CLOEXEC);
  };
  statistic(kMemory, 0, hierarchy.v2 ? "memory.peak" : "memory.max_usage_in_bytes");
  statistic(kMemory, 1, hierarchy.v2 ? "memory.current" : "memory.usage_in_bytes");
  statistic(kMemory, 2, hierarchy.v2 ? "memory.events" : "memory.oom_control");
  statistic(hierarchy.v2 ? kKill : kAccount, 3, hierarchy.v2 ? "cpu.stat" : "cpuacct.usage");
  close(cell);
  return error;
}

int Cgroups::make(uint64_t cell, const CellLimits& limits, CellDescriptors& out, const char*& why) {
  for (size_t i = 0; i < count_; ++i) {
    if (const int error = make_in(hierarchies_[i], CellName(cell).text, limits, out, why)) return error;
  }
  return 0;
}

void Cgroups::kill(uint64_t number) {
  // One folder is enough: v2's, or on v1 the one that can also stop forks.
  const Hierarchy* best = nullptr;
  for (size_t i = 0; i < count_; ++i) {
    if (!best || (hierarchies_[i].controllers & (kKill | kPids)) != 0) best = &hierarchies_[i];
  }
  const int cell = best ? open_folder(best->own, CellName(number).text) : -1;
  if (cell < 0) return;
  kill_members(cell);
  close(cell);
}

bool Cgroups::try_remove(uint64_t cell) {
  bool gone = true;
  for (size_t i = 0; i < count_; ++i) {
    if (unlinkat(hierarchies_[i].own, CellName(cell).text, AT_REMOVEDIR) != 0 && errno != ENOENT) gone = false;
  }
  if (!gone) kill(cell);
  return gone;
}

}  // namespace sundog::sandbox::launcher
