// Filters: what a template may still do of unshare, mount and move_mount, on top of the launcher's allow list.
//
// An environment's template may make the namespaces of its function templates; a function's template may make an
// instance's private /tmp of exactly its size; an instance may do none of it. Each filter stays in force for all forks.
//
// Threads     in a single-threaded process, before any code of a user's.
// Failure     errno.
#pragma once

#include "words.h"

namespace sundog::native {

// unshare(2) of an instance, and of a function's template.
int instance_namespaces();
int function_namespaces(bool own_network);

// `own_network`: its functions get network namespaces of their own. Who makes one holds rights over it for a moment, so
// what of the kernel such rights would open (routing sockets, packet filters) is refused to all that descends.
int install_environment_filter(const SealedWords& sealed, bool own_network);
int install_template_filter(const Words& words, const char* options);
int install_final_filter();

}  // namespace sundog::native
