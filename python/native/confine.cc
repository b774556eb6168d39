#include "confine.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace sundog::native {
namespace {

constexpr long kMseal = 462, kLandlockCreate = 444, kLandlockRestrict = 446;
constexpr unsigned long kMountFlags = MS_NOSUID | MS_NODEV;
#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#endif

// The only arguments that mount(2) may have, in a page that nothing can change any more: the filter compares pointers.
struct MountWords {
  char type[64];
  char tmp[64];
  char shm[64];
  char options[256];
};

// What a template leaves for its children. One template a process.
struct Parked {
  const MountWords* words = nullptr;
  bool filters = true;
  int scope = -1;  // a Landlock rule set; each restrict_self() makes a domain of its own
};
Parked parked;

struct LandlockAttributes {  // linux/landlock.h of ABI 6
  uint64_t fs, net, scoped;
};
constexpr uint64_t kScopeAbstractSocketsAndSignals = 3;

int make_scope() {
  const LandlockAttributes attributes{0, 0, kScopeAbstractSocketsAndSignals};
  return int(syscall(kLandlockCreate, &attributes, sizeof(attributes), 0));
}

class Program {
 public:
  Program() {
    load(offsetof(seccomp_data, arch));
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0));
    answer(SECCOMP_RET_KILL_PROCESS);
  }
  void load(size_t offset) { code_.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, uint32_t(offset))); }
  void answer(uint32_t value) { code_.push_back(BPF_STMT(BPF_RET | BPF_K, value)); }
  void refuse() { answer(SECCOMP_RET_ERRNO | EPERM); }
  // The next `count` instructions run only if the loaded word is / is not `value`.
  void unless_equal_skip(uint32_t value, uint8_t count) {
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, count));
  }
  void if_equal_skip(uint32_t value, uint8_t count) {
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, count, 0));
  }
  // Refuses unless the argument is exactly `value`.
  void require(unsigned argument, uint64_t value) {
    const size_t at = offsetof(seccomp_data, args) + argument * sizeof(uint64_t);
    load(at);
    if_equal_skip(uint32_t(value), 1);
    refuse();
    load(at + 4);
    if_equal_skip(uint32_t(value >> 32), 1);
    refuse();
  }
  int install() {
    const sock_fprog program{uint16_t(code_.size()), code_.data()};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0 ? 0 : errno;
  }

 private:
  std::vector<sock_filter> code_;
};

// mount(2) with our words only.
int install_template_filter(const MountWords& words) {
  const auto pointer = [](const char* text) { return uint64_t(reinterpret_cast<uintptr_t>(text)); };
  Program program;
  program.load(offsetof(seccomp_data, nr));
  program.if_equal_skip(SYS_mount, 1);
  program.answer(SECCOMP_RET_ALLOW);
  program.require(0, pointer(words.type));
  program.require(2, pointer(words.type));
  program.require(3, kMountFlags);
  program.require(4, pointer(words.options));
  const size_t target = offsetof(seccomp_data, args) + sizeof(uint64_t);
  program.load(target + 4);
  program.if_equal_skip(uint32_t(pointer(words.tmp) >> 32), 1);
  program.refuse();
  program.load(target);
  program.if_equal_skip(uint32_t(pointer(words.tmp)), 2);
  program.if_equal_skip(uint32_t(pointer(words.shm)), 1);
  program.refuse();
  program.answer(SECCOMP_RET_ALLOW);
  return program.install();
}

// No mount, no unshare, whatever the arguments.
int install_final_filter() {
  Program program;
  program.load(offsetof(seccomp_data, nr));
  program.unless_equal_skip(SYS_mount, 1);
  program.refuse();
  program.unless_equal_skip(SYS_unshare, 1);
  program.refuse();
  program.answer(SECCOMP_RET_ALLOW);
  return program.install();
}

int write_file(const char* path, const char* text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  const int error = write(fd, text, strlen(text)) < 0 ? errno : 0;
  close(fd);
  return error;
}

int map_user() {
  const unsigned user = 1000;  // who every process of a tree is inside it
  char line[32];
  snprintf(line, sizeof(line), "%u %u 1\n", user, user);
  if (const int error = write_file("/proc/self/setgroups", "deny"); error != 0 && error != EPERM) return error;
  if (const int error = write_file("/proc/self/uid_map", line)) return error;
  return write_file("/proc/self/gid_map", line);
}

int drop_capabilities() {
  for (int capability = 0; capability < 64; ++capability) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  return syscall(SYS_capset, &header, none) == 0 ? 0 : errno;
}

int make_private_tmp(const char*& step) {
  const MountWords& words = *parked.words;
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return step = "unshare", errno;
  if (const int error = map_user()) return step = "map the user", error;
  for (const char* where : {words.tmp, words.shm}) {
    if (syscall(SYS_mount, words.type, where, words.type, kMountFlags, words.options) != 0)
      return step = "mount", errno;
  }
  if (const int error = drop_capabilities()) return step = "drop capabilities", error;
  return 0;
}

int confine_finally(const char*& step) {
  if (parked.scope >= 0) {
    if (syscall(kLandlockRestrict, parked.scope, 0) != 0) return step = "enter a Landlock scope", errno;
    close(parked.scope);
    parked.scope = -1;
  }
  const int error = parked.filters ? install_final_filter() : 0;
  if (error != 0) step = "install the last filter";
  return error;
}

}  // namespace

namespace {

// A shared mapping of a sealed memory file: not even /proc/self/mem writes to it, and mseal keeps it where it is.
int seal_words(const char* options, int& in_force) {
  const int memory = memfd_create("mount-words", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memory < 0) return errno;
  MountWords words{};
  strcpy(words.type, "tmpfs");
  strcpy(words.tmp, "/tmp");
  strcpy(words.shm, "/dev/shm");
  snprintf(words.options, sizeof(words.options), "%s", options);
  void* page = MAP_FAILED;
  if (ftruncate(memory, 4096) == 0 && write(memory, &words, sizeof(words)) == ssize_t(sizeof(words)) &&
      fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0) {
    page = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, memory, 0);
  }
  const int error = errno;
  close(memory);
  if (page == MAP_FAILED) return error;
  parked.words = static_cast<const MountWords*>(page);
  if (syscall(kMseal, page, 4096UL, 0UL) == 0) in_force |= kSealedMounts;
  return 0;
}

}  // namespace

int confine_template(const TemplateRules& rules, const char*& step) {
  int in_force = 0;
  parked.filters = rules.filters;
  if (rules.private_tmp) {
    const int error = seal_words(rules.tmp_options, in_force);
    if (error != 0) return errno = error, step = "seal the words of mount", -1;
    if (rules.filters) {
      errno = install_template_filter(*parked.words);
      if (errno != 0) return step = "install the template's filter", -1;
    }
  }
  if (rules.landlock) {
    const int scope = make_scope();
    if (scope >= 0) {
      if (syscall(kLandlockRestrict, scope, 0) != 0) return step = "enter a Landlock scope", -1;
      parked.scope = scope;
      in_force |= kScopes;
    }
  }
  return in_force;
}

int enter_instance(const std::vector<int>& cgroups, const char*& step) {
  for (const int fd : cgroups) {
    if (write(fd, "0", 1) != 1) return step = "enter the cgroup", errno;
    close(fd);
  }
  if (parked.words) {
    if (const int error = make_private_tmp(step)) return error;
  }
  return confine_finally(step);
}

int enter_alone(const char*& step) {
  return confine_finally(step);
}

}  // namespace sundog::native
