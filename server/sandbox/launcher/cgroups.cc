#include "sandbox/launcher/cgroups.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "sandbox/launcher/protocol.h"

namespace sundog::sandbox::launcher {
namespace {

int write_file(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  const ssize_t written = write(fd, text.data(), text.size());
  const int error = written < 0 ? errno : 0;
  close(fd);
  return error;
}

bool exists(const std::string& path) {
  return access(path.c_str(), F_OK) == 0;
}

// What is mounted there now: another file system may have been mounted over it.
bool is_hierarchy(const std::string& path) {
  struct statfs status{};
  return statfs(path.c_str(), &status) == 0 &&
         (status.f_type == CGROUP_SUPER_MAGIC || status.f_type == CGROUP2_SUPER_MAGIC);
}

std::vector<std::string> folders_in(const std::string& path) {
  std::vector<std::string> names;
  DIR* folder = opendir(path.c_str());
  if (!folder) return names;
  while (const dirent* entry = readdir(folder)) {
    if (entry->d_type == DT_DIR && entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  closedir(folder);
  return names;
}

// Every process in `path`. On v1 its pids.max is 0 first, so that nothing new appears while they are being killed.
void kill_members(const std::string& path) {
  if (exists(path + "/cgroup.kill") && write_file(path + "/cgroup.kill", "1") == 0) return;
  write_file(path + "/pids.max", "0");
  std::set<pid_t> killed;
  for (size_t before = SIZE_MAX; killed.size() != before;) {
    before = killed.size();
    std::ifstream members(path + "/cgroup.procs");
    for (pid_t pid = 0; members >> pid;) {
      if (pid > 1 && pid != getpid() && killed.insert(pid).second) ::kill(pid, SIGKILL);
    }
  }
}

bool contains_word(const std::string& list, const std::string& word, char separator) {
  std::istringstream words(list);
  for (std::string one; std::getline(words, one, separator);) {
    if (one == word) return true;
  }
  return false;
}

}  // namespace

Cgroups::Cgroups(std::string name) : name_(std::move(name)) {
  find_hierarchies();
}

void Cgroups::find_hierarchies() {
  std::ifstream mounts("/proc/self/mounts");
  std::set<dev_t> seen;
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string device, where, type, options;
    fields >> device >> where >> type >> options;
    Hierarchy hierarchy{where, 0, type == "cgroup2"};
    if (type == "cgroup2") {
      std::ifstream file(where + "/cgroup.controllers");
      std::string list;
      std::getline(file, list);
      for (const auto& [word, bit] : {std::pair{"memory", kMemory}, {"cpu", kCpu}, {"pids", kPids}}) {
        if (contains_word(list, word, ' ')) hierarchy.controllers |= bit;
      }
      if (hierarchy.controllers != 0) version_ = 2;
      hierarchy.controllers |= kKill;
    } else if (type == "cgroup") {
      for (const auto& [word, bit] :
           {std::pair{"memory", kMemory}, {"cpu", kCpu}, {"pids", kPids}, {"cpuacct", kAccount}}) {
        if (contains_word(options, word, ',')) hierarchy.controllers |= bit;
      }
      if (hierarchy.controllers != 0 && version_ == 0) version_ = 1;
    }
    if (hierarchy.controllers == 0 || !is_hierarchy(where) || access(where.c_str(), W_OK) != 0) continue;
    // The same hierarchy may be mounted at several places, for instance in a chroot: the first is enough.
    struct stat root{};
    if (stat(where.c_str(), &root) == 0 && seen.insert(root.st_dev).second) {
      hierarchies_.push_back(std::move(hierarchy));
    }
  }
  if (geteuid() != 0) hierarchies_.clear();
  // A v2 without controllers would only give cgroup.kill, and entering it waits for an RCU grace period (4 to 14 ms).
  if (version_ == 1) std::erase_if(hierarchies_, [](const Hierarchy& one) { return one.v2; });
  if (hierarchies_.empty()) version_ = 0;
}

bool Cgroups::has(unsigned controllers) const {
  unsigned found = 0;
  for (const auto& hierarchy : hierarchies_) found |= hierarchy.controllers;
  return (found & controllers) == controllers;
}

void Cgroups::begin() {
  end();
  for (const auto& hierarchy : hierarchies_) {
    if (hierarchy.v2 && (hierarchy.controllers & (kMemory | kCpu | kPids)) != 0) {
      write_file(hierarchy.mount + "/cgroup.subtree_control", "+memory +cpu +pids");
    }
    mkdir(folder(hierarchy).c_str(), 0755);
    if (hierarchy.v2) write_file(folder(hierarchy) + "/cgroup.subtree_control", "+memory +cpu +pids");
  }
}

void Cgroups::end() {
  for (int attempt = 0; attempt < 200; ++attempt) {
    bool left = false;
    for (const auto& hierarchy : hierarchies_) {
      const auto path = folder(hierarchy);
      if (!exists(path)) continue;
      for (const auto& cell : folders_in(path)) {
        kill_members(path + "/" + cell);
        rmdir((path + "/" + cell).c_str());
      }
      kill_members(path);
      if (rmdir(path.c_str()) != 0) left = true;
    }
    if (!left) return;
    usleep(5000);
  }
}

int Cgroups::set_limits(const Hierarchy& hierarchy, const std::string& path, const CellLimits& limits,
                        std::string& why) const {
  const auto memory = std::to_string(limits.memory_bytes);
  const auto quota = std::to_string(int64_t{limits.cpu_millis} * 100);
  struct Setting {
    unsigned controller;
    bool v2, required;
    const char* file;
    std::string value;
  };
  const Setting settings[] = {
      {kMemory, false, true, "memory.limit_in_bytes", memory},
      {kMemory, false, false, "memory.memsw.limit_in_bytes", memory},
      {kMemory, false, false, "memory.kmem.tcp.limit_in_bytes", memory},  // v1 counts socket buffers apart
      {kMemory, true, true, "memory.max", memory},
      {kMemory, true, false, "memory.swap.max", "0"},
      {kCpu, false, true, "cpu.cfs_quota_us", quota},
      {kCpu, false, false, "cpu.shares", std::to_string(std::max(2, limits.cpu_millis * 1024 / 1000))},
      {kCpu, true, true, "cpu.max", quota + " 100000"},
      {kCpu, true, false, "cpu.weight", std::to_string(std::min(10'000, std::max(1, limits.cpu_millis / 10)))},
      {kPids, false, true, "pids.max", std::to_string(limits.max_pids)},
      {kPids, true, true, "pids.max", std::to_string(limits.max_pids)},
  };
  for (const auto& setting : settings) {
    if ((hierarchy.controllers & setting.controller) == 0 || hierarchy.v2 != setting.v2) continue;
    const int error = write_file(path + "/" + setting.file, setting.value);
    if (error != 0 && setting.required) {
      why = "cannot set " + std::string(setting.file) + " to " + setting.value;
      return error;
    }
  }
  return 0;
}

void Cgroups::open_descriptors(const Hierarchy& hierarchy, const std::string& path, CellDescriptors& out) {
  const auto add = [&](uint8_t bit, const char* file) {
    if ((out.which & bit) != 0) return;
    const int fd = open((path + "/" + file).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    // Kept in the order of the bits, whatever the order of the hierarchies.
    size_t at = 0;
    for (uint8_t lower = 1; lower < bit; lower = uint8_t(lower << 1)) at += (out.which & lower) != 0 ? 1 : 0;
    out.statistics.insert(out.statistics.begin() + ptrdiff_t(at), fd);
    out.which |= bit;
  };
  if ((hierarchy.controllers & kMemory) != 0) {
    add(kPeak, hierarchy.v2 ? "memory.peak" : "memory.max_usage_in_bytes");
    add(kUsage, hierarchy.v2 ? "memory.current" : "memory.usage_in_bytes");
    add(kOom, hierarchy.v2 ? "memory.events" : "memory.oom_control");
  }
  // CellFds' kCpu: the Controller of the same name would hide it here.
  if (hierarchy.v2) add(launcher::kCpu, "cpu.stat");
  if ((hierarchy.controllers & kAccount) != 0) add(launcher::kCpu, "cpuacct.usage");
}

int Cgroups::make(const std::string& cell, const CellLimits& limits, CellDescriptors& out, std::string& why) {
  for (const auto& hierarchy : hierarchies_) {
    const auto path = folder(hierarchy) + "/" + cell;
    int error = mkdir(path.c_str(), 0755) == 0 ? 0 : errno;
    if (error == ENOENT) {
      mkdir(folder(hierarchy).c_str(), 0755);
      error = mkdir(path.c_str(), 0755) == 0 ? 0 : errno;
    }
    if (error != 0) {
      why = "cannot make the cgroup " + path;
      return error;
    }
    error = set_limits(hierarchy, path, limits, why);
    if (error != 0) return error;
    // tasks rather than cgroup.procs on v1: writing the latter after an idle spell waits for an RCU grace period.
    const int attach = open((path + (hierarchy.v2 ? "/cgroup.procs" : "/tasks")).c_str(), O_WRONLY | O_CLOEXEC);
    if (attach < 0) {
      why = "cannot open the tasks of " + path;
      return errno;
    }
    out.attach.push_back(attach);
    open_descriptors(hierarchy, path, out);
  }
  return 0;
}

void Cgroups::kill(const std::string& cell) {
  // One folder is enough: v2's, or on v1 the one that can also stop forks.
  const Hierarchy* best = nullptr;
  for (const auto& hierarchy : hierarchies_) {
    if (!best || (hierarchy.controllers & (kKill | kPids)) != 0) best = &hierarchy;
  }
  if (best) kill_members(folder(*best) + "/" + cell);
}

bool Cgroups::try_remove(const std::string& cell) {
  bool gone = true;
  for (const auto& hierarchy : hierarchies_) {
    if (rmdir((folder(hierarchy) + "/" + cell).c_str()) != 0 && errno != ENOENT) gone = false;
  }
  return gone;
}

}  // namespace sundog::sandbox::launcher
