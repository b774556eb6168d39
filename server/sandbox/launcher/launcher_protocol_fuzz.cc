// Any bytes on the launcher's socket: parsed without a fault, and what is accepted keeps its promises.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "sandbox/launcher_messages.h"

using sundog::sandbox::launcher::RequestHeader;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sundog::sandbox::launcher;
  std::string message(reinterpret_cast<const char*>(data), size);
  if (message.size() >= sizeof(RequestHeader)) {
    // Past the two fields that random bytes hardly ever get right.
    const RequestHeader good;
    std::memcpy(message.data(), &good, 6);
    const auto spec = uint32_t(message.size() - sizeof(RequestHeader));
    std::memcpy(message.data() + offsetof(RequestHeader, spec_bytes), &spec, sizeof(spec));
  }
  Request request;
  if (parse_request(message, request) == nullptr) {
    for (const auto& mount : request.mounts()) {
      if (mount.where.empty() || mount.where.front() != '/' || mount.where.find("/../") != mount.where.npos) abort();
    }
    if (Command(request.header.command) == Command::start && request.argv().empty()) abort();
    for (const auto& text : request.argv()) {
      if (text.data()[text.size()] != '\0') abort();
    }
  }
  ReplyHeader reply;
  parse_reply(message, reply);
  return 0;
}
