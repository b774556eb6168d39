#include "confine.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "filters.h"
#include "sandbox/launcher/own_namespaces.h"
#include "sandbox/loopback.h"
#include "words.h"

namespace sundog::native {
namespace {

namespace launcher = sandbox::launcher;

constexpr long kLandlockCreate = 444, kLandlockRestrict = 446;

// What a template leaves for its forks. One a process.
struct Parked {
  SealedWords sealed;
  const char* options = nullptr;  // of an instance's /tmp; null: it gets none of its own
  bool filters = true;
  int scope = -1;  // a Landlock rule set; each restrict_self() makes a domain of its own
};
Parked parked;

struct LandlockAttributes {  // linux/landlock.h of ABI 6
  uint64_t fs, net, scoped;
};
constexpr uint64_t kScopeAbstractSocketsAndSignals = 3;

int unshare_as_user(int namespaces) {
  const unsigned outside = geteuid();
  if (unshare(namespaces) != 0) return errno;
  return launcher::write_maps(launcher::kInside, outside, outside);
}

int drop_capabilities() {
  for (int capability = 0; capability < 64; ++capability) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  return syscall(SYS_capset, &header, none) == 0 ? 0 : errno;
}

int mount_tmp(const char* options) {
  const Words& words = *parked.sealed.words;
  for (const char* where : {words.tmp, words.shm}) {
    if (syscall(SYS_mount, words.type, where, words.type, kTmpfsFlags, options) != 0) return errno;
  }
  return 0;
}

int enter_cgroups(const std::vector<int>& cgroups) {
  for (const int fd : cgroups) {
    if (write(fd, "0", 1) != 1) return errno;
    close(fd);
  }
  return 0;
}

// A Landlock domain inside the present one: no signals and no abstract sockets to who is outside of it.
int enter_scope() {
  return parked.scope < 0 || syscall(kLandlockRestrict, parked.scope, 0) == 0 ? 0 : errno;
}

int open_scope(bool landlock, int& in_force) {
  if (!landlock) return 0;
  const LandlockAttributes attributes{0, 0, kScopeAbstractSocketsAndSignals};
  parked.scope = int(syscall(kLandlockCreate, &attributes, sizeof(attributes), 0));
  if (parked.scope < 0) return 0;  // an older kernel; doctor says so
  in_force |= kScopes;
  return enter_scope();
}

int make_private_tmp(const char*& step) {
  if (const int error = unshare_as_user(instance_namespaces())) return step = "enter a user namespace", error;
  if (const int error = mount_tmp(parked.options)) return step = "mount /tmp", error;
  if (const int error = drop_capabilities()) return step = "drop capabilities", error;
  return 0;
}

int confine_finally(const char*& step) {
  if (const int error = enter_scope()) return step = "enter a Landlock scope", error;
  if (parked.scope >= 0) close(parked.scope);
  parked.scope = -1;
  const int error = parked.filters ? install_final_filter() : 0;
  if (error != 0) step = "install the last filter";
  return error;
}

int make_namespaces(const FunctionRules& rules, const char*& step) {
  if (const int error = unshare_as_user(function_namespaces(rules.own_network))) {
    return step = "enter namespaces of its own", error;
  }
  const Words& words = *parked.sealed.words;
  if (syscall(SYS_move_mount, rules.code, words.empty, AT_FDCWD, words.task, MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return step = "attach the code", errno;
  }
  close(rules.code);
  if (const int error = mount_tmp(options_of(parked.sealed, rules.tmp_megabytes))) return step = "mount /tmp", error;
  if (rules.own_network) {
    if (const int error = launcher::loopback_up()) return step = "bring the loopback up", error;
  }
  if (const int error = drop_capabilities()) return step = "drop capabilities", error;
  return 0;
}

}  // namespace

int confine_template(const TemplateRules& rules, const char*& step) {
  int in_force = 0;
  parked.filters = rules.filters;
  if (rules.private_tmp) {
    errno = seal_words(rules.tmp_options, parked.sealed);
    if (errno != 0) return step = "seal the words of mount", -1;
    parked.options = parked.sealed.options;
    if (parked.sealed.immovable) in_force |= kSealedMounts;
  }
  if (rules.filters) {
    errno = rules.private_tmp ? install_template_filter(*parked.sealed.words, parked.options) : install_final_filter();
    if (errno != 0) return step = "install the template's filter", -1;
  }
  errno = open_scope(rules.landlock, in_force);
  return errno == 0 ? in_force : (step = "enter a Landlock scope", -1);
}

int open_way_out() {
  return sandbox::listen_on_loopback_fd(sandbox::kWayOutPort);
}

int confine_environment(const EnvironmentRules& rules, const char*& step) {
  int in_force = 0;
  parked.filters = rules.filters;
  errno = seal_words_of_all_sizes(parked.sealed);
  if (errno != 0) return step = "seal the words of mount", -1;
  if (parked.sealed.immovable) in_force |= kSealedMounts;
  if (rules.filters) {
    errno = install_environment_filter(parked.sealed, rules.own_network);
    if (errno != 0) return step = "install the template's filter", -1;
  }
  errno = open_scope(rules.landlock, in_force);
  return errno == 0 ? in_force : (step = "enter a Landlock scope", -1);
}

int become_template(const FunctionRules& rules, const char*& step) {
  if (!parked.sealed.words || rules.tmp_megabytes < 1 || rules.tmp_megabytes > parked.sealed.count) {
    return step = "pick a size of /tmp", EINVAL;
  }
  if (const int error = enter_cgroups(rules.cgroups)) return step = "enter the cgroup", error;
  if (const int error = make_namespaces(rules, step)) return error;
  if (const int error = enter_scope()) return step = "enter a Landlock scope", error;
  const char* const options = options_of(parked.sealed, rules.tmp_megabytes);
  if (rules.private_tmp) parked.options = options;
  const int error = parked.filters ? install_template_filter(*parked.sealed.words, options) : 0;
  if (error != 0) step = "install the template's filter";
  return error;
}

int enter_instance(const std::vector<int>& cgroups, const char*& step) {
  if (const int error = enter_cgroups(cgroups)) return step = "enter the cgroup", error;
  if (parked.options) {
    if (const int error = make_private_tmp(step)) return error;
  }
  return confine_finally(step);
}

int enter_alone(const char*& step) {
  return confine_finally(step);
}

}  // namespace sundog::native
