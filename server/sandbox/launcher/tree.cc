#include "sandbox/launcher/tree.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

namespace sundog::sandbox::launcher {
namespace {

struct Source {
  int tree = -1;  // a detached clone of the mount, opened before the root changes
  std::string where;
  bool folder = false;
};

// What every program needs of the host, /usr without fail; nothing in them is secret or writable.
constexpr const char* kSystem[] = {"/usr",           "/etc/ld.so.cache", "/etc/ssl", "/etc/alternatives",
                                   "/etc/localtime", "/etc/mime.types"};
constexpr const char* kSystemLinks[] = {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"};
constexpr const char* kDevices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"};

constexpr std::pair<const char*, const char*> kEtc[] = {
    {"etc/passwd", "root:x:0:0:root:/:/usr/sbin/nologin\nsandbox:x:1000:1000:sandbox:/tmp:/bin/sh\n"},
    {"etc/group", "root:x:0:\nsandbox:x:1000:\n"},
    {"etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"},
    {"etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"},
};

int write_new(const char* path, const char* text) {
  const int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0444);
  if (fd < 0) return errno;
  const bool whole = write(fd, text, strlen(text)) == ssize_t(strlen(text));
  close(fd);
  return whole ? 0 : EIO;
}

// A place to mount on, below the new root that is the working directory.
int make_place(const std::string& where, bool folder) {
  const std::string path = where.substr(1);
  for (size_t at = path.find('/'); at != std::string::npos; at = path.find('/', at + 1)) {
    if (mkdir(path.substr(0, at).c_str(), 0755) != 0 && errno != EEXIST) return errno;
  }
  if (!folder) return write_new(path.c_str(), "");
  return mkdir(path.c_str(), 0755) == 0 || errno == EEXIST ? 0 : errno;
}

// A detached clone; nothing that is mounted on the original later comes through. -1: errno.
int clone_with(const char* path, uint64_t attributes) {
  const int tree = int(syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
  if (tree < 0) return -1;
  mount_attr attr{};
  attr.attr_set = attributes;
  attr.propagation = MS_PRIVATE;
  if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) == 0) return tree;
  const int error = errno;
  close(tree);
  errno = error;
  return -1;
}

int open_source(const std::string& path, const std::string& where, uint64_t attributes, std::vector<Source>& sources) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) return errno;
  const int tree = clone_with(path.c_str(), attributes);
  if (tree < 0) return errno;
  sources.push_back({tree, where, S_ISDIR(status.st_mode)});
  return 0;
}

constexpr uint64_t kReadOnly = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
constexpr uint64_t kWritable = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;

int open_sources(const Request& request, std::vector<Source>& sources, std::string& why) {
  uint64_t usual = kReadOnly;
  if ((request.header.without_rules & kRuleReadOnly) != 0) usual &= ~uint64_t{MOUNT_ATTR_RDONLY};
  if ((request.header.without_rules & kRuleSetuid) != 0) usual &= ~uint64_t{MOUNT_ATTR_NOSUID};
  for (const char* path : kSystem) {
    const int error = open_source(path, path, usual, sources);
    if (error != 0 && path == kSystem[0]) return why = path, error;
  }
  for (const char* device : kDevices) {
    if (const int error = open_source(device, device, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, sources)) {
      return why = device, error;
    }
  }
  if (request.header.network == 2) open_source("/etc/resolv.conf", "/etc/resolv.conf", kReadOnly, sources);
  for (const auto& mount : request.mounts()) {
    const std::string path(mount.source);
    if (const int error = open_source(path, std::string(mount.where), mount.writable ? kWritable : usual, sources)) {
      return why = "cannot mount " + path, error;
    }
  }
  return 0;
}

int copy_system_links(std::vector<Source>& sources) {
  for (const char* path : kSystemLinks) {
    char target[256];
    const ssize_t length = readlink(path, target, sizeof(target) - 1);
    if (length > 0) {
      target[length] = '\0';
      if (symlink(target, path + 1) != 0) return errno;
    } else if (access(path, F_OK) == 0) {
      if (const int error = open_source(path, path, kReadOnly, sources)) return error;
    }
  }
  return 0;
}

int mount_tmpfs(const char* where, int64_t bytes, unsigned mode) {
  mkdir(where, 0755);
  char options[96];
  snprintf(options, sizeof(options), "size=%lld,mode=%o,nr_inodes=%lld", static_cast<long long>(bytes), mode,
           static_cast<long long>(bytes) / 1024 + 1024);
  return mount("tmpfs", where, "tmpfs", MS_NOSUID | MS_NODEV, options) == 0 ? 0 : errno;
}

// What /proc tells of the host itself and no program needs: how it was started, which one it is, what its kernel holds.
constexpr const char* kUntold[] = {"proc/cmdline", "proc/keys", "proc/key-users", "proc/timer_list",
                                   "proc/sys/kernel/random/boot_id"};

int cover_untold() {
  for (const char* path : kUntold) {
    if (access(path, F_OK) == 0 && mount("dev/null", path, nullptr, MS_BIND, nullptr) != 0) return errno;
  }
  return 0;
}

int fill_root(const Request& request, std::vector<Source>& sources, std::string& why) {
  const auto check = [&why](int error, const char* step) {
    if (error != 0) why = step;
    return error;
  };
  if (const int error = check(copy_system_links(sources), "cannot copy /bin and /lib")) return error;
  for (const char* folder : {"etc", "proc", "tmp", "var", "var/task", "opt", "dev"}) mkdir(folder, 0755);
  for (const auto& [path, text] : kEtc) {
    if (const int error = check(write_new(path, text), path)) return error;
  }
  if (const int error = check(mount_tmpfs("tmp", request.header.tmp_bytes, 01777), "cannot mount /tmp")) return error;
  if (const int error = check(mount_tmpfs("dev", 64 << 10, 0755), "cannot mount /dev")) return error;
  if (const int error = check(mount_tmpfs("dev/shm", request.header.tmp_bytes, 01777), "cannot mount /dev/shm")) {
    return error;
  }
  for (const auto& [target, name] : {std::pair{"/proc/self/fd", "dev/fd"},
                                     {"/proc/self/fd/0", "dev/stdin"},
                                     {"/proc/self/fd/1", "dev/stdout"},
                                     {"/proc/self/fd/2", "dev/stderr"}}) {
    if (symlink(target, name) != 0) return check(errno, "cannot link /dev/fd");
  }
  for (const auto& source : sources) {
    if (const int error = check(make_place(source.where, source.folder), "cannot make a place to mount on"))
      return error;
    if (syscall(SYS_move_mount, source.tree, "", AT_FDCWD, source.where.c_str() + 1, MOVE_MOUNT_F_EMPTY_PATH) != 0) {
      why = "cannot mount on " + source.where;
      return errno;
    }
    close(source.tree);
  }
  const char* hide = (request.header.without_rules & kRulePids) != 0 ? nullptr : "hidepid=invisible";
  if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, hide) != 0) {
    return check(errno, "cannot mount /proc");
  }
  if ((request.header.without_rules & kRuleTree) == 0) {
    if (const int error = check(cover_untold(), "cannot cover what /proc tells of the host")) return error;
  }
  if (mount(nullptr, "dev", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, nullptr) != 0) {
    return check(errno, "cannot make /dev read-only");
  }
  return 0;
}

}  // namespace

int clone_read_only(const char* path) {
  return clone_with(path, kReadOnly);
}

int build_tree(const Request& request, std::string& why) {
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return why = "cannot make / private", errno;
  umask(0022);
  // All sources first, as detached clones: the new root covers one of the host's folders.
  std::vector<Source> sources;
  if (const int error = open_sources(request, sources, why)) return error;
  if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=0755") != 0 || chdir("/tmp") != 0) {
    return why = "cannot mount the new root", errno;
  }
  if (const int error = fill_root(request, sources, why)) return error;
  const bool leave = (request.header.without_rules & kRuleTree) == 0;
  if (!leave) mkdir("host", 0755);
  if (syscall(SYS_pivot_root, ".", leave ? "." : "host") != 0) return why = "cannot pivot into the new root", errno;
  if (leave && umount2(".", MNT_DETACH) != 0) return why = "cannot leave the old root", errno;
  if (chdir("/") != 0) return why = "cannot enter the new root", errno;
  if ((request.header.without_rules & kRuleReadOnly) == 0 &&
      mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, nullptr) != 0) {
    return why = "cannot make the new root read-only", errno;
  }
  return 0;
}

}  // namespace sundog::sandbox::launcher
