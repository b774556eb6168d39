#include "sandbox/launcher_messages.h"

#include <cstring>

namespace sundog::sandbox::launcher {

std::string encode_request(RequestHeader header, const std::vector<std::string>& argv,
                           const std::vector<std::string>& environment,
                           const std::vector<std::array<std::string, 3>>& mounts) {
  std::string spec;
  const auto put = [&spec](const std::string& text) { spec.append(text).push_back('\0'); };
  for (const auto& text : argv) put(text);
  for (const auto& text : environment) put(text);
  for (const auto& mount : mounts) {
    for (const auto& text : mount) put(text);
  }
  header.argc = uint16_t(argv.size());
  header.envc = uint16_t(environment.size());
  header.mountc = uint16_t(mounts.size());
  header.spec_bytes = uint32_t(spec.size());
  std::string message(sizeof(header), '\0');
  std::memcpy(message.data(), &header, sizeof(header));
  return message + spec;
}

bool parse_reply(std::string_view message, ReplyHeader& out) {
  if (message.size() != sizeof(out)) return false;
  std::memcpy(&out, message.data(), sizeof(out));
  out.text.back() = '\0';
  return out.magic == kMagic && out.version == kVersion && out.answer >= 1 && out.answer <= 3;
}

}  // namespace sundog::sandbox::launcher
