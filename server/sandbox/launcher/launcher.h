// Launcher: the only privileged process. Takes requests from one socket, starts and ends confined trees, keeps their
// cgroups, and takes everything with it when the server goes away.
//
// Ownership   one, in launcher_main; owns every tree and cell.
// Threads     one, no other in the process.
// Failure     a request that does not parse ends the launcher: its only peer is the server, so that is a bug or an
// attack.
#pragma once

#include <string>

namespace sundog::sandbox::launcher {

struct LauncherOptions {
  int socket = 3;
  std::string name = "default";  // of its cgroups
  std::string cgroup;            // the one of version 2 that they lie in; empty: the root
  bool insecure_test = false;    // lets a request leave out rules
};

// Serves until the socket closes; the exit status of the process.
int serve(const LauncherOptions& options);

}  // namespace sundog::sandbox::launcher
