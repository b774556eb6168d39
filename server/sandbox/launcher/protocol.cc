#include "sandbox/launcher/protocol.h"

#include <cstring>

namespace sundog::sandbox::launcher {
namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 44;

// An absolute path without "." or ".." segments, so that it cannot leave the tree that is being built.
bool plain_path(std::string_view path) {
  if (path.size() < 2 || path.front() != '/' || path.size() > 4000) return false;
  size_t at = 1;
  while (at <= path.size()) {
    const auto end = std::min(path.find('/', at), path.size());
    const auto segment = path.substr(at, end - at);
    if (segment.empty() || segment == "." || segment == "..") return false;
    at = end + 1;
  }
  return true;
}

bool take_string(std::string_view& rest, std::string_view& out) {
  const auto end = rest.find('\0');
  if (end == std::string_view::npos) return false;
  out = rest.substr(0, end);
  rest.remove_prefix(end + 1);
  return true;
}

const char* check_header(const RequestHeader& header, size_t message_bytes) {
  if (header.magic != kMagic) return "wrong magic";
  if (header.version != kVersion) return "wrong version: launcher and server are of different builds";
  if (header.command < uint16_t(Command::start) || header.command > uint16_t(Command::clone_mount)) {
    return "unknown command";
  }
  if (header.spec_bytes > kMaxSpec || message_bytes != sizeof(header) + header.spec_bytes) return "wrong spec size";
  if (header.subject == 0) return "no subject";
  if (size_t{header.argc} + header.envc + size_t{header.mountc} * 3 > kMaxStrings) return "too many strings";
  if (header.kind > uint8_t(TreeKind::python_template)) return "unknown kind of tree";
  if (header.network != 0 && header.network != 2) return "unknown network";
  return nullptr;
}

const char* check_limits(const RequestHeader& header) {
  if (header.memory_bytes < (1 << 20) || header.memory_bytes > kMaxBytes) return "memory limit out of range";
  if (header.tmp_bytes < 4096 || header.tmp_bytes > kMaxBytes) return "size of /tmp out of range";
  if (header.cpu_millis < 1 || header.cpu_millis > 1'000'000) return "cpu limit out of range";
  if (header.max_pids < 1 || header.max_pids > 1'000'000) return "pids limit out of range";
  return nullptr;
}

const char* take_strings(std::string_view rest, Request& out) {
  const auto& header = out.header;
  out.argv.resize(header.argc);
  out.environment.resize(header.envc);
  out.mounts.resize(header.mountc);
  for (auto& argument : out.argv) {
    if (!take_string(rest, argument)) return "argv is cut short";
  }
  for (auto& variable : out.environment) {
    if (!take_string(rest, variable)) return "environment is cut short";
    if (variable.find('=') == std::string_view::npos || variable.front() == '=') return "malformed variable";
  }
  for (auto& mount : out.mounts) {
    std::string_view mode;
    if (!take_string(rest, mount.source) || !take_string(rest, mount.where) || !take_string(rest, mode)) {
      return "mounts are cut short";
    }
    if (!plain_path(mount.source) || !plain_path(mount.where)) return "a mount's path is not absolute and plain";
    if (mode != "r" && mode != "w") return "a mount is neither r nor w";
    mount.writable = mode == "w";
  }
  return rest.empty() ? nullptr : "bytes after the last string";
}

}  // namespace

bool parse_request(std::string_view message, Request& out, std::string& why) {
  const auto refuse = [&](const char* reason) {
    if (reason) why = reason;
    return reason == nullptr;
  };
  if (message.size() < sizeof(RequestHeader)) return refuse("shorter than a header");
  std::memcpy(&out.header, message.data(), sizeof(RequestHeader));
  if (!refuse(check_header(out.header, message.size()))) return false;
  const auto command = Command(out.header.command);
  if (command == Command::start || command == Command::make_cell) {
    if (!refuse(check_limits(out.header))) return false;
  }
  if (command == Command::clone_mount) {
    if (!refuse(out.header.mountc == 1 && out.header.argc + out.header.envc == 0 ? nullptr
                                                                                 : "a clone takes one mount")) {
      return false;
    }
    return refuse(take_strings(message.substr(sizeof(RequestHeader)), out)) &&
           refuse(out.mounts.front().writable ? "a clone is read-only" : nullptr);
  }
  if (command != Command::start) {
    return refuse(out.header.spec_bytes + out.header.argc + out.header.envc + out.header.mountc == 0
                      ? nullptr
                      : "this command takes no strings");
  }
  if (!refuse(take_strings(message.substr(sizeof(RequestHeader)), out))) return false;
  return refuse(!out.argv.empty() && plain_path(out.argv.front()) ? nullptr : "argv[0] is not an absolute path");
}

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
