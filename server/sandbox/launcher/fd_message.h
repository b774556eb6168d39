// Messages with descriptors over a Unix socket. Stateless; any thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace sundog::sandbox::launcher {

inline constexpr size_t kMaxPassedFds = 16;

struct Received {
  ssize_t bytes = -1;      // as recvmsg(2): 0 at the end, -1 with errno
  std::vector<int> fds;    // close-on-exec; the caller closes them
  bool truncated = false;  // the message or its descriptors did not fit
  int sender_pid = 0;      // if the socket has SO_PASSCRED, in our pid namespace
};

// One sendmsg(2) with MSG_NOSIGNAL | MSG_DONTWAIT; what it returned.
ssize_t send_with_fds(int socket, std::string_view data, const int* fds, size_t count);
Received receive_with_fds(int socket, char* buffer, size_t capacity);

}  // namespace sundog::sandbox::launcher
