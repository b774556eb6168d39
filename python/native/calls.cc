#include "calls.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

namespace sundog::native {
namespace {

constexpr uint8_t kInvoke = 2, kResult = 3;
constexpr size_t kInvokeFixed = 36, kResultBytes = 24;
constexpr uint64_t kOk = 1, kStreamed = 2, kCpuKnown = 4;

int64_t read_clock(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

bool parse(Invocation& out) {
  const std::string_view head = out.frame.head;
  if (head.size() < kInvokeFixed) return false;
  memcpy(&out.deadline_ms, head.data(), sizeof(out.deadline_ms));
  memcpy(&out.memory_mb, head.data() + 8, sizeof(out.memory_mb));
  size_t at = kInvokeFixed, length_at = 12;
  for (auto* text : {&out.request_id, &out.arn, &out.name, &out.version, &out.client_context, &out.meta}) {
    uint32_t length = 0;
    memcpy(&length, head.data() + length_at, sizeof(length));
    length_at += sizeof(length);
    if (length > head.size() - at) return false;
    *text = head.substr(at, length);
    at += length;
  }
  return at == head.size();
}

}  // namespace

Read next_invocation(int socket, Invocation& out) {
  const Read outcome = read_lone_frame(socket, out.frame);
  for (const int fd : out.frame.fds) close(fd);
  if (outcome != Read::frame) return outcome;
  if (out.frame.type == kInvoke && parse(out)) return Read::frame;
  errno = EPROTO;
  return Read::failed;
}

int write_result(int socket, const Result& result, std::string_view payload) {
  char head[kResultBytes];
  const uint64_t flags = (result.ok ? kOk : 0) | (result.streamed ? kStreamed : 0) | kCpuKnown;
  memcpy(head, &flags, sizeof(flags));
  memcpy(head + 8, &result.handler_ns, sizeof(result.handler_ns));
  memcpy(head + 16, &result.cpu_ns, sizeof(result.cpu_ns));
  return write_frame(socket, kResult, result.id, {head, sizeof(head)}, payload, {});
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
