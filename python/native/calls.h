// The two frames that every call has: INVOKE as it comes, RESULT as it goes, docs/formats/instance.md; and what a call
// took.
//
// Threads     one at a time; next_invocation() blocks, the caller has released Python's lock.
#pragma once

#include <cstdint>
#include <string_view>

#include "frames.h"
#include "sandbox/call_layout.h"

namespace sundog::native {

struct Invocation {
  Frame frame;  // what the header points into
  sandbox::InvokeHeader header;
};

// The next frame as an invocation; descriptors that came along are closed. failed with EPROTO: it is another frame.
Read next_invocation(int socket, Invocation& out);

struct Result {
  uint32_t id = 0;
  bool ok = false;
  bool streamed = false;
  int64_t handler_ns = 0, cpu_ns = 0;
};

// 0 or errno.
int write_result(int socket, const Result& result, std::string_view payload);

// A running call's stop-watch: wall time, and CPU of this process with the children that it has reaped.
struct Watch {
  int64_t wall_ns = 0, cpu_ns = 0;
};
Watch now();

}  // namespace sundog::native
