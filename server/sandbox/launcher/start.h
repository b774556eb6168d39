// Start: one confined process tree. The child that becomes pid 1 of its namespaces builds the read-only tree as the
// launcher's user, crosses into a user namespace of its own (which locks the mounts), drops every right, and then only
// reaps; its child executes the command behind the system call filter.
//
// Threads     the launcher's only one.
#pragma once

#include <sys/types.h>

#include "sandbox/launcher/fd_message.h"
#include "sandbox/launcher/protocol.h"
#include "sandbox/launcher/seal.h"

namespace sundog::sandbox::launcher {

struct StartPlan {
  const Request& request;
  const Filter& filter;
  int socket = -1;  // descriptor 3 of the command
  int output = -1;  // descriptors 1 and 2
  FdList attach;    // of the cell, may be empty
  int alive = -1;   // reads end-of-file once the launcher is gone
  bool rootless = false;
  bool pids_limited = false;  // by the cell
  uid_t host_user = 0;        // whom the command runs as on the host
};

struct Started {
  pid_t pid = -1;       // of the tree's pid 1, on the host; -1: errno
  int error_pipe = -1;  // closes once the command executes; before that, why it does not
};

Started start_tree(const StartPlan& plan);

// What comes out of the error pipe.
struct StartError {
  int error = 0;
  char step[124] = {};
};

}  // namespace sundog::sandbox::launcher
