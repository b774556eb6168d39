// Cgroups: the memory, cpu and pids limits of each instance, on cgroup v2 where it has the controllers, else on v1.
//
// Ownership   one in the launcher, the only process that may write to the hierarchies.
// Failure     errno, with what failed in `why`. Without any writable hierarchy available() is false and cells are
// empty.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sundog::sandbox::launcher {

struct CellLimits {
  int64_t memory_bytes = 0;
  int cpu_millis = 0;
  int max_pids = 0;
};

// Descriptors of a new cell, all close-on-exec; the caller closes them.
struct CellDescriptors {
  std::vector<int> attach;  // writing "0" to each moves the writer in
  std::vector<int> statistics;
  uint8_t which = 0;  // CellFds, in order
};

class Cgroups {
 public:
  // `name` makes our folder in every hierarchy: "sundog-<name>".
  explicit Cgroups(std::string name);

  bool available() const { return !hierarchies_.empty(); }
  bool has(unsigned controllers) const;
  int version() const { return version_; }

  // Kills and removes what a dead run left behind, then makes our folders.
  void begin();
  // Kills what is left and removes our folders.
  void end();

  int make(const std::string& cell, const CellLimits& limits, CellDescriptors& out, std::string& why);
  void kill(const std::string& cell);
  // False while processes are still in it.
  bool try_remove(const std::string& cell);

  enum Controller : unsigned { kMemory = 1, kCpu = 2, kPids = 4, kKill = 8, kAccount = 16 };

 private:
  struct Hierarchy {
    std::string mount;
    unsigned controllers = 0;
    bool v2 = false;
  };
  void find_hierarchies();
  std::string folder(const Hierarchy& hierarchy) const { return hierarchy.mount + "/sundog-" + name_; }
  int set_limits(const Hierarchy& hierarchy, const std::string& path, const CellLimits& limits, std::string& why) const;
  static void open_descriptors(const Hierarchy& hierarchy, const std::string& path, CellDescriptors& out);

  std::string name_;
  int version_ = 0;
  std::vector<Hierarchy> hierarchies_;
};

}  // namespace sundog::sandbox::launcher
