// Loopback: a listening socket on 127.0.0.1 of whatever network namespace its maker is in, for the native extension and
// for the programs that run first in an instance's tree.
//
// Threads     any; nothing is allocated.
// Failure     -1 with errno.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace sundog::sandbox {

// Where a function with the network "egress" finds the proxy that is its only way out.
inline constexpr uint16_t kWayOutPort = 3128;

inline int listen_on_loopback_fd(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 && listen(fd, 64) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

}  // namespace sundog::sandbox
