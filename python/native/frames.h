// Frames on a blocking Unix stream socket, as docs/formats/instance.md has them.
//
// Threads     one at a time per socket; blocks; the caller has released Python's lock.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sundog::native {

struct Frame {
  uint8_t type = 0;
  uint32_t id = 0;
  std::string head, raw;  // head: JSON, but for the frames of calls.h
  std::vector<int> fds;
};

enum class Read { frame, end, failed };  // failed: errno; EPROTO for bytes that are no frame

Read read_frame(int socket, Frame& out);
// The same in one system call, where the peer sends nothing more before it is answered; failed with EPROTO if it did.
Read read_lone_frame(int socket, Frame& out);
// 0 or errno.
int write_frame(int socket, uint8_t type, uint32_t id, std::string_view head, std::string_view raw,
                const std::vector<int>& fds);

}  // namespace sundog::native
