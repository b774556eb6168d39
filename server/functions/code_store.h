// CodeStore: extracted code packages in folders named by the SHA-256 of their zip.
//
// Ownership   owned by Functions; owns everything below its folder.
// Threads     every function may be called from any thread; blocks on the disk.
// Durability  a folder is complete and on disk before it has its name; what a dead run left half-extracted is removed
//             when the store opens.
// Failure     that of packages (package.h) · unavailable
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "functions/package.h"

namespace sundog::functions {

class CodeStore {
 public:
  CodeStore(Clock& clock, Path folder, PackageLimits limits);

  // Keeps its folder from being swept while it lives.
  using Pin = std::shared_ptr<const Path>;
  Result<Pin> add(std::string_view zip, const std::string& sha256);

  Path path_of(const std::string& sha256) const { return folder_ / sha256; }
  bool has(const std::string& sha256) const;

  // Removes folders that are neither in `named` nor pinned and were found so at least `grace` ago: until then an
  // instance of a replaced version may still read its code.
  void sweep(const std::set<std::string>& named, Millis grace);

 private:
  void unpin(const std::string& sha256);

  Clock& clock_;
  Path folder_;
  PackageLimits limits_;
  std::mutex mutex_;
  std::map<std::string, int> pins_;
  std::map<std::string, MonoTime> unnamed_since_;
};

}  // namespace sundog::functions
