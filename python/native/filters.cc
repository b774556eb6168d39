#include "filters.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <vector>

namespace sundog::native {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#endif
constexpr uint32_t kFirstNetfilterOption = 64;  // of SOL_IP; SOL_IPV6 has two among its own
constexpr uint32_t kLevelIp = 0, kLevelIpv6 = 41;

using Code = std::vector<sock_filter>;

uint64_t address(const char* text) {
  return uint64_t(reinterpret_cast<uintptr_t>(text));
}

size_t at(unsigned argument) {
  return offsetof(seccomp_data, args) + argument * sizeof(uint64_t);
}

// The rule of one system call: a list of requirements on its arguments, then an answer.
class Rule {
 public:
  // Refused unless the argument is exactly `value`; `low`: only its lower half counts (the kernel takes an int).
  Rule& require(unsigned argument, uint64_t value) {
    require_low(argument, uint32_t(value));
    return require_word(at(argument) + 4, uint32_t(value >> 32));
  }
  Rule& require_low(unsigned argument, uint32_t value) { return require_word(at(argument), value); }
  Rule& require_one_of(unsigned argument, uint64_t one, uint64_t other) {
    require_word(at(argument) + 4, uint32_t(one >> 32));
    load(at(argument));
    jump(BPF_JEQ, uint32_t(one), 2, 0);
    jump(BPF_JEQ, uint32_t(other), 1, 0);
    return refuse();
  }
  // An entry of a table: between its ends, and at the beginning of an entry.
  Rule& require_entry(unsigned argument, const SealedWords& sealed) {
    const uint64_t first = address(sealed.options);
    const uint64_t last = first + uint64_t{sealed.count - 1} * kOptionBytes;
    require_word(at(argument) + 4, uint32_t(first >> 32));
    load(at(argument));
    jump(BPF_JGE, uint32_t(first), 1, 0);
    refuse();
    jump(BPF_JGT, uint32_t(last), 0, 1);
    refuse();
    code_.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, kOptionBytes - 1));
    jump(BPF_JEQ, uint32_t(first) & (kOptionBytes - 1), 1, 0);
    return refuse();
  }
  Rule& load(size_t offset) {
    code_.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, uint32_t(offset)));
    return *this;
  }
  Rule& jump(uint16_t test, uint32_t value, uint8_t if_true, uint8_t if_false) {
    code_.push_back(BPF_JUMP(uint16_t(BPF_JMP | test | BPF_K), value, if_true, if_false));
    return *this;
  }
  Rule& refuse() { return answer(SECCOMP_RET_ERRNO | EPERM); }
  Rule& allow() { return answer(SECCOMP_RET_ALLOW); }
  Rule& answer(uint32_t value) {
    code_.push_back(BPF_STMT(BPF_RET | BPF_K, value));
    return *this;
  }
  const Code& code() const { return code_; }

 private:
  Rule& require_word(size_t offset, uint32_t value) {
    load(offset);
    jump(BPF_JEQ, value, 1, 0);
    return refuse();
  }
  Code code_;
};

// What no rule names is allowed: the launcher's filter below has decided already.
class Program {
 public:
  Program() {
    code_.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)));
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0));
    code_.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
    code_.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  }
  Program& on(long number, const Rule& rule) {
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, uint32_t(number), 0, uint8_t(rule.code().size())));
    code_.insert(code_.end(), rule.code().begin(), rule.code().end());
    return *this;
  }
  int install() {
    code_.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const sock_fprog program{uint16_t(code_.size()), code_.data()};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0 ? 0 : errno;
  }

 private:
  Code code_;
};

// A tmpfs on /tmp or /dev/shm; the options are the caller's rule.
Rule tmpfs_with(const Words& words) {
  return Rule()
      .require(0, address(words.type))
      .require_one_of(1, address(words.tmp), address(words.shm))
      .require(2, address(words.type))
      .require(3, kTmpfsFlags);
}

Rule no_packet_filters() {
  Rule rule;
  rule.load(at(1));
  rule.jump(BPF_JEQ, kLevelIp, 0, 4);
  rule.load(at(2)).jump(BPF_JGE, kFirstNetfilterOption, 0, 1).refuse().allow();
  rule.jump(BPF_JEQ, kLevelIpv6, 0, 4);
  rule.load(at(2)).jump(BPF_JEQ, kFirstNetfilterOption, 1, 0).jump(BPF_JEQ, kFirstNetfilterOption + 1, 0, 1).refuse();
  return rule.allow();
}

}  // namespace

int instance_namespaces() {
  return CLONE_NEWUSER | CLONE_NEWNS;
}

int function_namespaces(bool own_network) {
  return CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | (own_network ? CLONE_NEWNET : 0);
}

int install_environment_filter(const SealedWords& sealed, bool own_network) {
  const Words& words = *sealed.words;
  Program program;
  program.on(
      SYS_unshare,
      Rule().require_one_of(0, uint64_t(instance_namespaces()), uint64_t(function_namespaces(own_network))).allow());
  program.on(SYS_mount, tmpfs_with(words).require_entry(4, sealed).allow());
  program.on(SYS_move_mount, Rule()
                                 .require(1, address(words.empty))
                                 .require_low(2, uint32_t(AT_FDCWD))
                                 .require(3, address(words.task))
                                 .require_low(4, MOVE_MOUNT_F_EMPTY_PATH)
                                 .allow());
  if (own_network) {
    program.on(SYS_socket, Rule().load(at(0)).jump(BPF_JEQ, AF_NETLINK, 0, 1).refuse().allow());
    program.on(SYS_setsockopt, no_packet_filters());
  }
  return program.install();
}

int install_template_filter(const Words& words, const char* options) {
  return Program()
      .on(SYS_unshare, Rule().require(0, uint64_t(instance_namespaces())).allow())
      .on(SYS_mount, tmpfs_with(words).require(4, address(options)).allow())
      .on(SYS_move_mount, Rule().refuse())
      .install();
}

int install_final_filter() {
  return Program()
      .on(SYS_mount, Rule().refuse())
      .on(SYS_unshare, Rule().refuse())
      .on(SYS_move_mount, Rule().refuse())
      .install();
}

}  // namespace sundog::native
