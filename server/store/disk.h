// Disk: the writing calls that file_blobs makes, so that a test can fail or end the process at each of them.
// Internal to store/.
//
// Ownership   created by the store that uses it, or by a test.
// Threads     every function may be called from any thread; may block on the disk.
// Failure     as fail_errno says: unavailable for a full or broken disk.
#pragma once

#include <memory>
#include <string_view>

#include "base/fd.h"
#include "base/file.h"
#include "base/result.h"

namespace sundog::store {

// A file that is written and not yet in its place.
struct Staged {
  UniqueFd fd;
  Path name;  // empty when it has none (O_TMPFILE)
};

class Disk {
 public:
  virtual ~Disk() = default;
  // A new, empty, writable file in `folder` that nobody sees.
  virtual Result<Staged> stage(const Path& folder) = 0;
  virtual Status write(const Staged& staged, std::string_view data) = 0;
  virtual Status sync(const Staged& staged) = 0;
  // Gives the staged file the name `to`; already_exists when something has it.
  virtual Status publish(const Staged& staged, const Path& to) = 0;
  // Forgets a staged file that was not published. Cannot fail: what stays is removed when the store is opened.
  virtual void discard(const Staged& staged) = 0;
  virtual Status make_directory(const Path& folder) = 0;  // ok when it is there
  virtual Status sync_directory(const Path& folder) = 0;
  virtual Status remove(const Path& file) = 0;
};

enum class Staging {
  choose,   // unnamed where the file system can, else named
  unnamed,  // O_TMPFILE and linkat
  named,    // a random name in the same folder, and rename
};

// The operating system's disk. `folder` is where `choose` tries what its file system can.
std::unique_ptr<Disk> system_disk(const Path& folder, Staging staging = Staging::choose);

}  // namespace sundog::store
