// The Sandbox of this machine: a launcher, and what it starts.
//
// Ownership   one per server, created in app/; templates and instances must be gone before it is.
// Threads     the loop thread; start_local_sandbox() before the loop runs (it waits up to 5 s for the launcher).
// Failure     unavailable: no launcher, or under `strict` something that the seal needs is missing (the message names
// it).
#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "net/loop.h"
#include "sandbox/sandbox.h"

namespace sundog::sandbox {

// Rules that only a sandbox with `insecure_test` leaves out, so that a test can show its attack to be real.
struct LeftOut {
  bool seccomp = false, user_namespace = false, network = false, read_only = false, landlock = false;
  bool private_tmp = false;
  bool tree = false, pids = false, ipc = false, uts = false, rights = false, setuid = false;
  bool operator==(const LeftOut&) const = default;
};

struct LocalSandboxOptions {
  Path launcher;                   // the program sundog-launcher
  Path runtime;                    // the folder python/sundog/runtime
  Path native_extension;           // _native.abi3.so
  Path data;                       // the server's data folder: names our cgroups, and its disk is looked at by doctor()
  std::string name;                // of our cgroups; empty: made of `data`
  bool share_environments = true;  // functions of one tenant and environment share a template of its imports
  Duration environment_idle = std::chrono::seconds(60);  // without functions, before such a template ends
  int64_t environment_budget_bytes = 0;                  // of all of them together; 0: a quarter of the machine's
  int64_t environment_memory_bytes = 4LL << 30;          // the limit of one
  bool strict = false;                                   // refuse to start where a rule cannot be kept
  bool insecure_test = false;
  LeftOut left_out;  // ignored unless insecure_test
};

Result<std::unique_ptr<Sandbox>> start_local_sandbox(net::Loop& loop, Clock& clock, Log& log,
                                                     LocalSandboxOptions options);

}  // namespace sundog::sandbox
