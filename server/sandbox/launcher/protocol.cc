#include "sandbox/launcher/protocol.h"

#include <algorithm>
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
  if (size_t{header.argc} + header.envc > kMaxStrings || header.mountc > kMaxMounts) return "too many strings";
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

const char* take_mount(std::string_view& rest, MountRequest& mount) {
  std::string_view mode;
  if (!take_string(rest, mount.source) || !take_string(rest, mount.where) || !take_string(rest, mode)) {
    return "mounts are cut short";
  }
  if (!plain_path(mount.source) || !plain_path(mount.where)) return "a mount's path is not absolute and plain";
  if (mode != "r" && mode != "w") return "a mount is neither r nor w";
  mount.writable = mode == "w";
  return nullptr;
}

const char* take_strings(std::string_view rest, Request& out) {
  const auto& header = out.header;
  for (size_t i = 0; i < size_t{header.argc} + header.envc; ++i) {
    auto& text = out.strings[i];
    if (!take_string(rest, text)) return "argv or environment is cut short";
    if (i >= header.argc && (text.empty() || text.front() == '=' || text.find('=') == text.npos)) {
      return "malformed variable";
    }
  }
  for (size_t i = 0; i < header.mountc; ++i) {
    if (const char* why = take_mount(rest, out.mount_list[i])) return why;
  }
  return rest.empty() ? nullptr : "bytes after the last string";
}

// What each command takes beside the header.
const char* check_spec(const Request& request) {
  const auto& header = request.header;
  switch (Command(header.command)) {
    case Command::start:
      return header.argc > 0 && plain_path(request.strings[0]) ? nullptr : "argv[0] is not an absolute path";
    case Command::clone_mount:
      if (header.mountc != 1 || header.argc + header.envc != 0) return "a clone takes one mount";
      return request.mount_list[0].writable ? "a clone is read-only" : nullptr;
    default:
      return header.argc + header.envc + header.mountc == 0 ? nullptr : "this command takes no strings";
  }
}

}  // namespace

const char* parse_request(std::string_view message, Request& out) {
  if (message.size() < sizeof(RequestHeader)) return "shorter than a header";
  std::memcpy(&out.header, message.data(), sizeof(RequestHeader));
  if (const char* why = check_header(out.header, message.size())) return why;
  const auto command = Command(out.header.command);
  if (command == Command::start || command == Command::make_cell) {
    if (const char* why = check_limits(out.header)) return why;
  }
  if (const char* why = take_strings(message.substr(sizeof(RequestHeader)), out)) return why;
  return check_spec(out);
}

}  // namespace sundog::sandbox::launcher
