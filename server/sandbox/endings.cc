#include "sandbox/endings.h"

namespace sundog::sandbox {
namespace {

constexpr int64_t kMegabyte = 1 << 20;

// std::strsignal's texts are not Lambda's.
std::string signal_name(int signal) {
  switch (signal) {
    case 4:
      return "illegal instruction";
    case 6:
      return "aborted";
    case 7:
      return "bus error";
    case 8:
      return "floating point exception";
    case 9:
      return "killed";
    case 11:
      return "segmentation fault";
    case 15:
      return "terminated";
    case 31:
      return "bad system call";
    default:
      return "signal " + std::to_string(signal);
  }
}

}  // namespace

std::string how_it_ended(int exit_status, int signal) {
  if (signal != 0) return "Runtime exited with error: signal: " + signal_name(signal);
  if (exit_status == 0) return "Runtime exited without providing a reason";
  return "Runtime exited with error: exit status " + std::to_string(exit_status < 0 ? 1 : exit_status);
}

std::string how_memory_ended_it(int64_t limit_bytes, int64_t peak_bytes) {
  return how_it_ended(-1, 9) + " (memory size " + std::to_string(limit_bytes / kMegabyte) + " MB, used " +
         std::to_string((peak_bytes + kMegabyte - 1) / kMegabyte) + " MB)";
}

InitFailure init_failure_of(const Json& said, const InitFailureFields& fields, InitFailure unsaid) {
  auto failure = std::move(unsaid);
  if (!said.is_object()) return failure;
  const auto type = get_string(said, fields.type, failure.type),
             message = get_string(said, fields.message, failure.message);
  if (type.ok()) failure.type = *type;
  if (message.ok()) failure.message = *message;
  for (const auto& line : said.value(fields.stack, Json::array())) {
    if (line.is_string()) failure.stack.push_back(line.get<std::string>());
  }
  return failure;
}

}  // namespace sundog::sandbox
