// Cgroups: the memory, cpu and pids limits of each instance, on cgroup v2 where it has the controllers, else on v1.
//
// Ownership   one in the launcher, the only process that may write to the hierarchies.
// Failure     errno, with what failed in `why`. Without any writable hierarchy available() is false and cells are
// empty. After begin() nothing is allocated.
#pragma once

#include <array>
#include <cstdint>

#include "sandbox/launcher/fd_message.h"

namespace sundog::sandbox::launcher {

struct CellLimits {
  int64_t memory_bytes = 0;
  int cpu_millis = 0;
  int max_pids = 0;
};

// Descriptors of a new cell, all close-on-exec; the caller closes them.
struct CellDescriptors {
  FdList attach;                                     // writing "0" to each moves the writer in
  std::array<int, 4> statistics = {-1, -1, -1, -1};  // in the order of CellFds; -1: not there
  void close_all();
};

class Cgroups {
 public:
  // `name` makes our folder in every hierarchy: "sundog-<name>". `base`: the cgroup of version 2 that it lies in, with
  // no process in it; empty: the root. A test gives a table of mounts of its own, and O_CREAT | O_APPEND where these
  // are no cgroups but plain folders.
  explicit Cgroups(const char* name, const char* base, const char* mounts = "/proc/self/mounts", int creating = 0);
  ~Cgroups();
  Cgroups(const Cgroups&) = delete;
  Cgroups& operator=(const Cgroups&) = delete;

  bool available() const { return count_ > 0; }
  bool has(unsigned controllers) const;
  int version() const { return version_; }

  // Kills and removes what a dead run left behind, then makes our folders.
  void begin();
  // Kills what is left and removes our folders.
  void end();

  // A cell is known by its number.
  int make(uint64_t cell, const CellLimits& limits, CellDescriptors& out, const char*& why);
  void kill(uint64_t cell);
  // False while processes are still in it; they are killed again.
  bool try_remove(uint64_t cell);

  enum Controller : unsigned { kMemory = 1, kCpu = 2, kPids = 4, kKill = 8, kAccount = 16 };

 private:
  struct Hierarchy {
    int mount = -1, own = -1;  // folders
    unsigned controllers = 0;
    bool v2 = false;
  };
  void find(const char* base, const char* mounts);
  bool add(const char* mount, unsigned controllers, bool v2);  // false: it is none for us
  void give_controllers(const Hierarchy& hierarchy, int folder) const;
  void open_own(Hierarchy& hierarchy) const;
  void kill_members(int cell) const;
  int make_in(Hierarchy& hierarchy, const char* cell, const CellLimits& limits, CellDescriptors& out,
              const char*& why) const;
  int set_limits(const Hierarchy& hierarchy, int cell, const CellLimits& limits, const char*& why) const;
  int write_file(int folder, const char* file, const char* text) const;

  char folder_[80];
  int creating_;
  int version_ = 0;
  std::array<Hierarchy, 16> hierarchies_;
  size_t count_ = 0;
};

}  // namespace sundog::sandbox::launcher
