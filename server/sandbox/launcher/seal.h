// Seal: the system call filter and the loss of every right, applied in a process of a tree just before it executes.
//
// Threads     build_filter() once at start; seal_process() in the child, single-threaded.
#pragma once

#include <linux/filter.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "sandbox/launcher/protocol.h"

namespace sundog::sandbox::launcher {

using Filter = std::vector<sock_filter>;

// The allow list, as a BPF program. A template's leaves three unshares, mount and move_mount, which its own second
// filter narrows (python/native/filters.h) before any code of a user's runs, and which an instance's last one forbids.
// Empty, with `why`, if libseccomp refuses.
Filter build_filter(TreeKind kind, std::string& why);

// no_new_privs, no capabilities, resource limits. 0 or errno.
int drop_rights(uint32_t without_rules);
int limit_resources(int max_pids, bool have_pids_cgroup);
int install_filter(const Filter& filter);

}  // namespace sundog::sandbox::launcher
