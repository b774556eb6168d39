// DelegatedCgroup: the cgroup of version 2 that somebody gave to this server for its instances (systemd's Delegate=yes,
// a container), where the root of the hierarchy is not its to write to.
//
// Threads     start_local_sandbox() calls these before the loop runs; they wait for the kernel alone.
// Failure     no cgroup is no failure; unavailable when one is there and its processes cannot be moved.
#pragma once

#include "base/file.h"
#include "base/result.h"

namespace sundog::sandbox {

// Its folder, empty if there is none. Root uses the root of the hierarchy, unless that is a container's or systemd has
// marked root's own cgroup as delegated. `mounts` and `self` are those of the kernel, but in tests.
Path delegated_cgroup(const Path& mounts = "/proc/self/mounts", const Path& self = "/proc/self/cgroup");

// A cgroup with controllers for its children holds no process itself: moves all that are in it, this one among them, to
// a child of it.
Status make_room(const Path& cgroup);

}  // namespace sundog::sandbox
