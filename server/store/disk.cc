#include "store/disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/ids.h"

namespace sundog::store {
namespace {

constexpr unsigned kStagedMode = 0400;  // a blob never changes

Status link_unnamed(int fd, const Path& to) {
  const std::string from = "/proc/self/fd/" + std::to_string(fd);
  if (::linkat(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), AT_SYMLINK_FOLLOW) != 0) {
    return fail_errno("store " + to.string(), errno);
  }
  return done;
}

Result<Staged> stage_unnamed(const Path& folder) {
  Staged staged{UniqueFd(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, kStagedMode)), {}};
  if (!staged.fd) return fail_errno("create a file in " + folder.string(), errno);
  return staged;
}

// Whether this file system knows O_TMPFILE and this process may name such a file (it needs /proc).
bool can_stage_unnamed(const Path& folder) {
  const auto staged = stage_unnamed(folder);
  if (!staged.ok()) return false;
  const Path name = folder / short_id("probe");
  const bool linked = link_unnamed(staged->fd.get(), name).ok();
  ::unlink(name.c_str());
  return linked;
}

class SystemDisk final : public Disk {
 public:
  explicit SystemDisk(bool unnamed) : unnamed_(unnamed) {}

  Result<Staged> stage(const Path& folder) override {
    if (unnamed_) return stage_unnamed(folder);
    Staged staged{{}, folder / short_id("staged")};
    staged.fd = UniqueFd(::open(staged.name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, kStagedMode));
    if (!staged.fd) return fail_errno("create a file in " + folder.string(), errno);
    return staged;
  }

  Status write(const Staged& staged, std::string_view data) override { return write_all(staged.fd.get(), data); }

  Status sync(const Staged& staged) override {
    if (::fsync(staged.fd.get()) != 0) return fail_errno("write to disk", errno);
    return done;
  }

  Status publish(const Staged& staged, const Path& to) override {
    if (staged.name.empty()) return link_unnamed(staged.fd.get(), to);
    if (::renameat2(AT_FDCWD, staged.name.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return done;
    // A file system without that flag: the name is the content's hash, so replacing it changes nothing.
    if (errno == EINVAL && ::rename(staged.name.c_str(), to.c_str()) == 0) return done;
    return fail_errno("store " + to.string(), errno);
  }

  void discard(const Staged& staged) override {
    if (!staged.name.empty()) ::unlink(staged.name.c_str());
  }

  Status make_directory(const Path& folder) override {
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
      return fail_errno("create folder " + folder.string(), errno);
    }
    return done;
  }

  Status sync_directory(const Path& folder) override { return fsync_directory(folder); }

  Status remove(const Path& file) override {
    if (::unlink(file.c_str()) != 0) return fail_errno("remove " + file.string(), errno);
    return done;
  }

 private:
  bool unnamed_;
};

}  // namespace

std::unique_ptr<Disk> system_disk(const Path& folder, Staging staging) {
  const bool unnamed = staging == Staging::unnamed || (staging == Staging::choose && can_stage_unnamed(folder));
  return std::make_unique<SystemDisk>(unnamed);
}

}  // namespace sundog::store
