#include "sandbox/launcher/seal.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>

namespace sundog::sandbox::launcher {
namespace {

constexpr unsigned kNamespaceFlags = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                                     CLONE_NEWPID | CLONE_NEWNET | 0x00000080U /* CLONE_NEWTIME */;

// What ordinary programs need. Names that this libseccomp or machine does not know are skipped.
constexpr const char* kAllowed[] = {
    // files
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2", "open",
    "openat", "openat2", "creat", "close", "close_range", "stat", "fstat", "lstat", "newfstatat", "statx", "statfs",
    "fstatfs", "access", "faccessat", "faccessat2", "lseek", "dup", "dup2", "dup3", "fcntl", "flock", "fsync",
    "fdatasync", "sync_file_range", "truncate", "ftruncate", "fallocate", "fadvise64", "readahead", "getdents",
    "getdents64", "getcwd", "chdir", "fchdir", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "link",
    "linkat", "unlink", "unlinkat", "symlink", "symlinkat", "readlink", "readlinkat", "chmod", "fchmod", "fchmodat",
    "chown", "fchown", "lchown", "fchownat", "umask", "utime", "utimes", "utimensat", "futimesat", "getxattr",
    "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "flistxattr", "setxattr", "lsetxattr", "fsetxattr",
    "removexattr", "lremovexattr", "fremovexattr", "sendfile", "copy_file_range", "splice", "tee", "vmsplice", "sync",
    "syncfs", "mknod", "mknodat", "pipe", "pipe2", "ioctl", "inotify_init", "inotify_init1", "inotify_add_watch",
    "inotify_rm_watch", "memfd_create",
    // waiting
    "select", "pselect6", "poll", "ppoll", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_wait",
    "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2", "signalfd", "signalfd4", "timerfd_create", "timerfd_settime",
    "timerfd_gettime", "nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time",
    "timer_create", "timer_settime", "timer_gettime", "timer_getoverrun", "timer_delete", "getitimer", "setitimer",
    "alarm", "pause", "times",
    // memory
    "mmap", "munmap", "mprotect", "mremap", "madvise", "brk", "msync", "mincore", "mlock", "mlock2", "munlock",
    "mlockall", "munlockall", "membarrier", "set_mempolicy", "get_mempolicy", "mbind", "pkey_alloc", "pkey_free",
    "pkey_mprotect", "shmget", "shmat", "shmdt", "shmctl", "semget", "semop", "semtimedop", "semctl", "msgget",
    "msgsnd", "msgrcv", "msgctl",
    // processes and threads
    "fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "kill", "tkill", "tgkill",
    "pidfd_open", "pidfd_send_signal", "getpid", "gettid", "getppid", "getpgid", "getpgrp", "setpgid", "getsid",
    "setsid", "set_tid_address", "set_robust_list", "get_robust_list", "futex", "futex_waitv", "futex_wake",
    "futex_wait", "rseq", "arch_prctl", "prctl", "prlimit64", "getrlimit", "setrlimit", "getrusage", "getpriority",
    "setpriority", "ioprio_get", "ioprio_set", "sched_yield", "sched_getaffinity", "sched_setaffinity",
    "sched_getparam", "sched_setparam", "sched_getscheduler", "sched_setscheduler", "sched_get_priority_max",
    "sched_get_priority_min", "sched_rr_get_interval", "sched_getattr", "sched_setattr", "getcpu", "rt_sigaction",
    "rt_sigprocmask", "rt_sigpending", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigqueueinfo",
    "rt_tgsigqueueinfo", "sigaltstack", "restart_syscall", "seccomp", "landlock_create_ruleset", "landlock_add_rule",
    "landlock_restrict_self",
    // who am I
    "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups", "setuid", "setgid", "setreuid",
    "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "capget", "capset", "uname", "sysinfo",
    "getrandom",
    // sockets, once made
    "bind", "connect", "listen", "accept", "accept4", "getsockname", "getpeername", "getsockopt", "setsockopt",
    "sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg", "shutdown"};

// Refused with EPERM, so that a program sees a rule and not a missing feature; the rest is ENOSYS.
constexpr const char* kForbidden[] = {
    // other processes
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd", "move_pages",
    "migrate_pages",
    // mounts and namespaces
    "umount2", "pivot_root", "chroot", "setns", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr",
    // the kernel itself
    "keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "init_module", "finit_module",
    "delete_module", "kexec_load", "kexec_file_load", "reboot", "syslog", "personality", "iopl", "ioperm",
    // the machine
    "swapon", "swapoff", "acct", "quotactl", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex",
    "sethostname", "setdomainname", "vhangup", "nfsservctl", "lookup_dcookie",
    // files past their paths
    "name_to_handle_at", "open_by_handle_at", "fanotify_init", "fanotify_mark"};

scmp_arg_cmp equal(unsigned argument, uint64_t value) {
  return {argument, SCMP_CMP_EQ, value, 0};
}
scmp_arg_cmp masked(unsigned argument, uint64_t mask, uint64_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

// A thin hand over libseccomp that remembers the first failure.
class Builder {
 public:
  explicit Builder(scmp_filter_ctx context) : context_(context) {}
  void add(uint32_t action, const char* name, std::initializer_list<scmp_arg_cmp> when = {}) {
    const int number = seccomp_syscall_resolve_name(name);
    if (number >= 0) add_number(action, number, name, when);
  }
  void add_number(uint32_t action, int number, const char* name, std::initializer_list<scmp_arg_cmp> when = {}) {
    const int error = seccomp_rule_add_array(context_, action, number, unsigned(when.size()), when.begin());
    if (error < 0 && error != -EEXIST && failure_.empty()) failure_ = std::string(name) + ": " + strerror(-error);
  }
  const std::string& failure() const { return failure_; }

 private:
  scmp_filter_ctx context_;
  std::string failure_;
};

void add_argument_rules(Builder& rules, TreeKind kind) {
  // Threads and processes, never namespaces; the flags of clone3 lie in memory, where no filter can look.
  rules.add(SCMP_ACT_ALLOW, "clone", {masked(0, kNamespaceFlags & ~0xffU, 0)});
  for (const int family : {AF_UNIX, AF_INET, AF_INET6}) {
    for (const int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
      rules.add(SCMP_ACT_ALLOW, "socket", {equal(0, uint64_t(family)), masked(1, 0xf, uint64_t(type))});
    }
  }
  // getifaddrs(3) asks the routing socket.
  rules.add(SCMP_ACT_ALLOW, "socket", {equal(0, AF_NETLINK), equal(2, 0)});
  rules.add(SCMP_ACT_ALLOW, "socketpair", {equal(0, AF_UNIX)});
  if (kind == TreeKind::python_template) {
    // An instance's, and those of a function's template with and without a network of its own.
    for (const unsigned more : {0U, unsigned(CLONE_NEWIPC), unsigned(CLONE_NEWIPC | CLONE_NEWNET)}) {
      rules.add(SCMP_ACT_ALLOW, "unshare", {equal(0, CLONE_NEWUSER | CLONE_NEWNS | more)});
    }
    rules.add(SCMP_ACT_ALLOW, "mount");
    rules.add(SCMP_ACT_ALLOW, "move_mount");
    rules.add_number(SCMP_ACT_ALLOW, 462, "mseal");  // younger than libseccomp 2.5
  } else {
    rules.add(SCMP_ACT_ERRNO(EPERM), "unshare");
    rules.add(SCMP_ACT_ERRNO(EPERM), "mount");
    rules.add(SCMP_ACT_ERRNO(EPERM), "move_mount");
  }
}

Filter export_filter(scmp_filter_ctx context, std::string& why) {
  const int memory = memfd_create("filter", MFD_CLOEXEC);
  const int error = memory < 0 ? -errno : seccomp_export_bpf(context, memory);
  Filter filter;
  if (error < 0) {
    why = std::string("cannot export the filter: ") + strerror(-error);
  } else {
    const off_t bytes = lseek(memory, 0, SEEK_END);
    filter.resize(size_t(bytes) / sizeof(sock_filter));
    if (pread(memory, filter.data(), filter.size() * sizeof(sock_filter), 0) != bytes) {
      why = "cannot read the filter back";
      filter.clear();
    }
  }
  if (memory >= 0) close(memory);
  return filter;
}

}  // namespace

Filter build_filter(TreeKind kind, std::string& why) {
  scmp_filter_ctx context = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
  if (!context) {
    why = "libseccomp has no memory";
    return {};
  }
  // As a binary tree: nine comparisons a call instead of two hundred.
  seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
  seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  Builder rules(context);
  for (const char* name : kAllowed) rules.add(SCMP_ACT_ALLOW, name);
  for (const char* name : kForbidden) rules.add(SCMP_ACT_ERRNO(EPERM), name);
  add_argument_rules(rules, kind);
  Filter filter;
  why = rules.failure();
  if (why.empty()) filter = export_filter(context, why);
  seccomp_release(context);
  return filter;
}

int drop_rights(uint32_t without_rules) {
  if ((without_rules & kRuleSetuid) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  if ((without_rules & kRuleRights) != 0) return 0;
  for (int capability = 0; capability < 64; ++capability) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  return syscall(SYS_capset, &header, none) == 0 ? 0 : errno;
}

int limit_resources(int max_pids, bool have_pids_cgroup) {
  const auto set = [](__rlimit_resource what, rlim_t value) {
    const rlimit limit{value, value};
    return setrlimit(what, &limit) == 0 ? 0 : errno;
  };
  if (const int error = set(RLIMIT_CORE, 0)) return error;
  if (const int error = set(RLIMIT_NOFILE, 1024)) return error;
  if (const int error = set(RLIMIT_MEMLOCK, 8 << 20)) return error;
  if (const int error = set(RLIMIT_MSGQUEUE, 0)) return error;
  // Counted per uid of the host, so only a stand-in where no pids cgroup is.
  return have_pids_cgroup ? 0 : set(RLIMIT_NPROC, rlim_t(max_pids));
}

int install_filter(const Filter& filter) {
  const sock_fprog program{uint16_t(filter.size()), const_cast<sock_filter*>(filter.data())};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0 ? 0 : errno;
}

}  // namespace sundog::sandbox::launcher
