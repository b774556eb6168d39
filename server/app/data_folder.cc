#include "app/data_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>

namespace sundog::app {
namespace {

// Raised when something in the folder changes so that an older server would misread it.
constexpr int kLayoutVersion = 1;

Status check_version(const Path& file) {
  auto text = read_file(file, 64);
  if (!text.ok() && text.error().code == Code::not_found) {
    return write_file_durably(file, std::to_string(kLayoutVersion) + "\n");
  }
  if (!text.ok()) return text.error();
  const int found = std::atoi(text->c_str());
  if (found == kLayoutVersion) return done;
  return fail(Code::unsupported,
              "The data folder " + file.parent_path().string() + " has layout " + std::to_string(found) +
                  ", but this Sundog knows layout " + std::to_string(kLayoutVersion) + ".",
              "Start it with the Sundog that made it, or give another folder by --data.");
}

}  // namespace

Result<DataFolder> DataFolder::open(const Path& folder) {
  SUNDOG_CHECK(make_directories(folder, 0700));
  if (::chmod(folder.c_str(), 0700) != 0) return fail_errno("make " + folder.string() + " private", errno);
  DataFolder opened;
  opened.folder_ = folder;
  const Path lock = folder / "lock";
  opened.lock_ = UniqueFd(::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!opened.lock_) return fail_errno("open " + lock.string(), errno);
  if (::flock(opened.lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(Code::conflict, "Another server uses the data folder " + folder.string() + ".",
                "Stop it, or give another folder by --data.");
  }
  SUNDOG_CHECK(check_version(folder / "layout-version"));
  return opened;
}

}  // namespace sundog::app
