#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/ids.h"

namespace sundog {

Result<std::string> read_file(const Path& path, size_t limit) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno("read " + path.string(), errno);
  std::string out;
  char buffer[65536];
  while (true) {
    const ssize_t count = ::read(fd.get(), buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("read " + path.string(), errno);
    if (count == 0) return out;
    out.append(buffer, static_cast<size_t>(count));
    if (out.size() > limit) {
      return fail(Code::too_large, path.string() + " is larger than " + std::to_string(limit) + " bytes.");
    }
  }
}

Status write_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t count = ::write(fd, data.data(), data.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("write", errno);
    data.remove_prefix(static_cast<size_t>(count));
  }
  return done;
}

namespace {
Status write_and_sync(const Path& path, std::string_view content, unsigned mode) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd) return fail_errno("create " + path.string(), errno);
  SUNDOG_CHECK(write_all(fd.get(), content));
  if (::fsync(fd.get()) != 0) return fail_errno("write " + path.string() + " to disk", errno);
  return done;
}
}  // namespace

Status write_file_durably(const Path& path, std::string_view content, unsigned mode) {
  const Path beside = path.string() + ".new-" + short_id("w");
  auto written = write_and_sync(beside, content, mode);
  if (!written.ok()) {
    ::unlink(beside.c_str());
    return written;
  }
  if (::rename(beside.c_str(), path.c_str()) != 0) {
    const int error_number = errno;
    ::unlink(beside.c_str());
    return fail_errno("rename to " + path.string(), error_number);
  }
  return fsync_directory(path.parent_path());
}

Status make_directories(const Path& path, unsigned mode) {
  if (path.empty() || std::filesystem::is_directory(path)) return done;
  SUNDOG_CHECK(make_directories(path.parent_path(), mode));
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) return fail_errno("create folder " + path.string(), errno);
  return done;
}

Status fsync_directory(const Path& path) {
  const UniqueFd fd(::open(path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_errno("open folder " + path.string(), errno);
  if (::fsync(fd.get()) != 0) return fail_errno("write folder " + path.string() + " to disk", errno);
  return done;
}

Status remove_tree(const Path& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return fail_errno("remove " + path.string(), error.value());
  return done;
}

}  // namespace sundog
