// Tree: the read-only file system of a confined process, built inside its own mount namespace and pivoted into.
//
// Threads     in the child that becomes pid 1, single-threaded, before it runs anything.
// Failure     errno, with the step in `why`.
#pragma once

#include <string>

#include "sandbox/launcher/protocol.h"

namespace sundog::sandbox::launcher {

// Builds the tree of `request` and makes it the root. Needs CAP_SYS_ADMIN over the mount namespace.
int build_tree(const Request& request, std::string& why);

// A detached, read-only, private clone of the mount of a folder, for who attaches it elsewhere. -1: errno.
int clone_read_only(const char* path);

}  // namespace sundog::sandbox::launcher
