// Messages with descriptors over a Unix socket. Stateless; any thread; nothing is allocated.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <string_view>

namespace sundog::sandbox::launcher {

inline constexpr size_t kMaxPassedFds = 16;

// A few descriptors; it owns none of them. What does not fit is not taken.
struct FdList {
  std::array<int, kMaxPassedFds> items{};
  size_t count = 0;

  bool add(int fd) { return count < items.size() ? (items[count++] = fd, true) : false; }
  void close_all();
  size_t size() const { return count; }
  bool empty() const { return count == 0; }
  const int* begin() const { return items.data(); }
  const int* end() const { return items.data() + count; }
  int operator[](size_t at) const { return items[at]; }
};

struct Received {
  ssize_t bytes = -1;      // as recvmsg(2): 0 at the end, -1 with errno
  FdList fds;              // close-on-exec; the caller closes them
  bool truncated = false;  // the message or its descriptors did not fit
  int sender_pid = 0;      // if the socket has SO_PASSCRED, in our pid namespace
};

// One sendmsg(2) with MSG_NOSIGNAL | MSG_DONTWAIT; what it returned.
ssize_t send_with_fds(int socket, std::string_view data, const int* fds, size_t count);
Received receive_with_fds(int socket, char* buffer, size_t capacity);

}  // namespace sundog::sandbox::launcher
