// What the server and the launcher say to each other: one SOCK_SEQPACKET message a request, reply or event.
//
// A request is a fixed-size header and one bounded area of NUL-terminated strings (argv, then environment, then three a
// mount: source, place inside, "r" or "w"). Descriptors travel with the message (SCM_RIGHTS). Everything is validated
// before anything is done: the launcher is the only privileged process, and this is its only door.
//
// Threads     plain values and pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace sundog::sandbox::launcher {

inline constexpr uint32_t kMagic = 0x314c4453;  // "SDL1"
inline constexpr uint16_t kVersion = 1;
inline constexpr size_t kMaxSpec = 64 << 10;
inline constexpr size_t kMaxStrings = 1024;
inline constexpr size_t kMaxMounts = 64;
inline constexpr int kMaxFds = 8;

enum class Command : uint16_t {
  start = 1,    // a confined process tree; `subject` names it
  make_cell,    // the cgroups of one instance; `subject` names it
  kill_cell,    // ends every process in it
  remove_cell,  // the same, and removes it once it is empty
  kill_tree,    // ends pid 1 of a tree, and with it everything in its pid namespace
  clone_mount,  // one mount of the spec: a detached, read-only clone of it comes back as the only descriptor
};

enum class TreeKind : uint8_t { native = 0, python_template = 1 };  // a template may make its children's private /tmp

// Rules that a launcher started with --insecure-test leaves out on request, to prove that a test's attack is real.
enum Rule : uint32_t {
  kRuleSeccomp = 1,
  kRuleUserNamespace = 2,
  kRuleNetwork = 4,
  kRuleReadOnly = 8,
  kRuleTree = 16,  // the host's tree stays reachable, at /host
  kRulePids = 32,  // the host's pid namespace, and a /proc that hides nothing
  kRuleIpc = 64,
  kRuleUts = 128,
  kRuleRights = 256,  // the launcher's user and capabilities
  kRuleSetuid = 512,  // setuid programs count: no nosuid, no no_new_privs
};

struct RequestHeader {
  uint32_t magic = kMagic;
  uint16_t version = kVersion;
  uint16_t command = 0;
  uint64_t id = 0;       // comes back in the reply
  uint64_t subject = 0;  // the tree or the cell
  uint64_t cell = 0;     // start: the cell that the tree begins in; 0: none
  int64_t memory_bytes = 0;
  int64_t tmp_bytes = 0;
  int32_t cpu_millis = 0;
  int32_t max_pids = 0;
  uint32_t spec_bytes = 0;
  uint32_t without_rules = 0;
  uint16_t argc = 0;
  uint16_t envc = 0;
  uint16_t mountc = 0;
  uint8_t network = 0;  // 0 none, 2 the host's
  uint8_t kind = 0;     // TreeKind
};
static_assert(sizeof(RequestHeader) == 72);

struct MountRequest {
  std::string_view source, where;
  bool writable = false;
};

struct Request {
  RequestHeader header;
  std::array<std::string_view, kMaxStrings> strings;  // argv, then the environment; each ends with a NUL in the message
  std::array<MountRequest, kMaxMounts> mount_list;

  std::span<const std::string_view> argv() const { return {strings.data(), header.argc}; }
  std::span<const std::string_view> environment() const { return {strings.data() + header.argc, header.envc}; }
  std::span<const MountRequest> mounts() const { return {mount_list.data(), header.mountc}; }
};

// Checks every field; what was wrong, or nullptr.
const char* parse_request(std::string_view message, Request& out);

enum class Answer : uint16_t { reply = 1, tree_ended = 2, hello = 3 };

// Which statistics descriptors follow the attach descriptors of a cell, in this order.
enum CellFds : uint8_t { kPeak = 1, kUsage = 2, kOom = 4, kCpu = 8 };

struct ReplyHeader {
  uint32_t magic = kMagic;
  uint16_t version = kVersion;
  uint16_t answer = 0;
  uint64_t id = 0;      // of the request; of the tree for tree_ended
  int32_t error = 0;    // errno, 0: done
  int32_t pid = 0;      // on the host
  int32_t status = -1;  // tree_ended: exit status of its first process, 128 + signal if a signal ended it
  uint8_t attach_count = 0;
  uint8_t cell_fds = 0;
  uint16_t reserved = 0;
  std::array<char, 160> text{};  // what failed
};
static_assert(sizeof(ReplyHeader) == 192);

}  // namespace sundog::sandbox::launcher
