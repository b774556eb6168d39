#include "sandbox/delegated_cgroup.h"

#include <mntent.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace sundog::sandbox {
namespace {

constexpr const char* kProcesses = "sundog.processes";  // the child that they are moved to

Path first_mount(const Path& mounts) {
  FILE* table = setmntent(mounts.c_str(), "re");
  if (table == nullptr) return {};
  Path found;
  mntent entry{};
  char line[4096];
  while (found.empty() && getmntent_r(table, &entry, line, sizeof(line)) != nullptr) {
    if (std::string_view(entry.mnt_type) == "cgroup2") found = entry.mnt_dir;
  }
  endmntent(table);
  return found;
}

// Of this process, relative to the hierarchy's root; without the child that an earlier server has moved it to.
Path own_path(const Path& self) {
  std::ifstream lines(self);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("0::/")) continue;
    const Path path = line.substr(4);
    return path.filename() == kProcesses ? path.parent_path() : path;
  }
  return {};
}

bool writable(const Path& cgroup) {
  for (const char* file : {".", "cgroup.procs", "cgroup.subtree_control"}) {
    if (access((cgroup / file).c_str(), W_OK) != 0) return false;
  }
  return true;
}

// systemd's manager of the machine says so on the cgroup. A user's own, out of which root may come by sudo, is not
// root's.
bool marked(const Path& cgroup) {
  struct stat status{};
  if (stat(cgroup.c_str(), &status) != 0 || status.st_uid != geteuid()) return false;
  for (const char* name : {"trusted.delegate", "user.delegate"}) {
    char value = 0;
    if (getxattr(cgroup.c_str(), name, &value, 1) == 1 && value == '1') return true;
  }
  return false;
}

// A user's manager leaves no mark that the kernel would show: anybody could read "user.delegate", but systemd (to 261
// at least: cgroup_xattr_apply() in its src/core/cgroup.c) writes it as the machine's manager only. And all units of it
// are the user's to write to. But it stops a unit that it has not delegated when one process in it dies by its memory
// limit: so the manager itself is asked.
bool user_s_manager_says_so(const std::string& unit) {
  if (unit.find('\'') != unit.npos) return false;
  FILE* pipe = popen(("systemctl --user show --property=Delegate --value '" + unit + "' 2>&1").c_str(), "re");
  if (pipe == nullptr) return false;
  char text[16] = {};
  const bool said = fgets(text, sizeof(text), pipe) != nullptr && std::string_view(text).starts_with("yes");
  pclose(pipe);
  return said;
}

bool given(const Path& cgroup, bool from_the_root) {
  if (marked(cgroup)) return true;
  if (geteuid() == 0 && from_the_root) return false;
  const std::string name = cgroup.filename();
  const bool of_systemd = name.ends_with(".scope") || name.ends_with(".service");
  return !of_systemd || (geteuid() != 0 && user_s_manager_says_so(name));
}

}  // namespace

Path delegated_cgroup(const Path& mounts, const Path& self) {
  const Path mount = first_mount(mounts);
  if (mount.empty()) return {};
  Path own = mount / own_path(self);
  if (!own.has_filename()) own = own.parent_path();  // a slash at its end
  std::error_code error;
  if (!std::filesystem::is_directory(own, error)) own = mount;  // the mount begins below the root
  const bool from_the_root = !std::filesystem::exists(mount / "cgroup.type", error);
  if (from_the_root && own == mount) return {};
  return writable(own) && given(own, from_the_root) ? own : Path();
}

Status make_room(const Path& cgroup) {
  const auto refused = [&cgroup](const std::string& what) {
    return fail(Code::unavailable, "The processes of " + cgroup.string() + " cannot be moved: " + what + ".",
                "Give the server a cgroup of its own: systemd-run --user --scope -p Delegate=yes sundog up");
  };
  const Path child = cgroup / kProcesses;
  if (mkdir(child.c_str(), 0755) != 0 && errno != EEXIST) return refused(std::strerror(errno));
  // Who forks meanwhile is found by the next look.
  for (int look = 0; look < 100; ++look) {
    std::ifstream listed(cgroup / "cgroup.procs");
    int found = 0;
    for (pid_t pid = 0; listed >> pid; ++found) {
      if (pid == 0) return refused("some are of another pid namespace");
      errno = 0;
      std::ofstream to(child / "cgroup.procs");
      if (!(to << pid << std::flush) && errno != ESRCH) return refused(std::strerror(errno));
    }
    if (found == 0) return done;
  }
  return refused("there are always new ones");
}

}  // namespace sundog::sandbox
