// OwnNamespaces: the first steps inside namespaces that a process has just made, for the launcher's trees and for
// python/native/confine.cc.
//
// Threads     in a single-threaded child; nothing is allocated.
// Failure     errno.
#pragma once

#include <fcntl.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace sundog::sandbox::launcher {

inline constexpr unsigned kInside = 1000;  // the user that every process of a tree is there

inline int write_text(const char* path, const char* text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  const int error = write(fd, text, strlen(text)) < 0 ? errno : 0;
  close(fd);
  return error;
}

// Of the user namespace that this process has just entered: outside it is `user` and `group`.
inline int write_maps(unsigned inside, uid_t user, gid_t group) {
  char line[64];
  snprintf(line, sizeof(line), "%u %u 1\n", inside, user);
  if (const int error = write_text("/proc/self/setgroups", "deny"); error != 0 && error != EPERM) return error;
  if (const int error = write_text("/proc/self/uid_map", line)) return error;
  snprintf(line, sizeof(line), "%u %u 1\n", inside, group);
  return write_text("/proc/self/gid_map", line);
}

// Brings the loopback interface of a network namespace up.
inline int loopback_up() {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  ifreq request{};
  memcpy(request.ifr_name, "lo", 3);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  const int error = ioctl(fd, SIOCSIFFLAGS, &request) == 0 ? 0 : errno;
  close(fd);
  return error;
}

}  // namespace sundog::sandbox::launcher
