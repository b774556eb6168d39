#include "calls.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

namespace sundog::native {
namespace {

constexpr uint8_t kInvoke = 2, kResult = 3;

int64_t read_clock(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

Read next_invocation(int socket, Invocation& out) {
  const Read outcome = read_lone_frame(socket, out.frame);
  for (const int fd : out.frame.fds) close(fd);
  if (outcome != Read::frame) return outcome;
  if (out.frame.type == kInvoke && sandbox::read_invoke(out.frame.head, out.header)) return Read::frame;
  errno = EPROTO;
  return Read::failed;
}

int write_result(int socket, const Result& result, std::string_view payload) {
  const unsigned flags =
      (result.ok ? sandbox::kOk : 0U) | (result.streamed ? sandbox::kStreamed : 0U) | sandbox::kCpuKnown;
  const auto head = sandbox::result_bytes(flags, result.handler_ns, result.cpu_ns);
  return write_frame(socket, kResult, result.id, {head.data(), head.size()}, payload, {});
}

Watch now() {
  rusage children{};
  getrusage(RUSAGE_CHILDREN, &children);
  int64_t reaped = 0;
  for (const timeval& part : {children.ru_utime, children.ru_stime}) {
    reaped += part.tv_sec * 1'000'000'000LL + part.tv_usec * 1'000LL;
  }
  return {read_clock(CLOCK_MONOTONIC), read_clock(CLOCK_PROCESS_CPUTIME_ID) + reaped};
}

}  // namespace sundog::native
