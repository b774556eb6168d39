#include "data/worker/folder_host.h"

#include <fcntl.h>

#include <cerrno>

#include "base/crypto.h"

namespace sundog::data::worker {
namespace {

Result<StoredBlob> hash_of(const Path& file) {
  UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno("open " + file.string(), errno);
  Sha256 hash;
  StoredBlob blob;
  std::string piece(1 << 20, '\0');
  for (;;) {
    const ssize_t count = ::read(fd.get(), piece.data(), piece.size());
    if (count < 0) return fail_errno("read " + file.string(), errno);
    if (count == 0) break;
    hash.update(std::string_view(piece).substr(0, static_cast<size_t>(count)));
    blob.bytes += count;
  }
  blob.id = hash.finish_hex();
  return blob;
}

}  // namespace

Result<StoredBlob> FolderHost::put(std::string_view content) {
  SUNDOG_TRY(file, create_file());
  SUNDOG_CHECK(write_all(file.fd.get(), content));
  return commit_file(file.handle);
}

Result<StoredBlob> FolderHost::put_file(const Path& file) {
  SUNDOG_TRY(blob, hash_of(file));
  std::error_code error;
  std::filesystem::copy_file(file, path(blob.id), std::filesystem::copy_options::overwrite_existing, error);
  if (error) return fail(Code::unavailable, "Cannot copy " + file.string() + ": " + error.message() + ".");
  return blob;
}

Result<UniqueFd> FolderHost::open_blob(const std::string& id) {
  UniqueFd fd(::open(path(id).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail(Code::not_found, "No blob \"" + id + "\".");
  return fd;
}

Result<NewFile> FolderHost::create_file() {
  const std::string handle = "new-" + std::to_string(next_++);
  UniqueFd fd(::open(path(handle).c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return fail_errno("create a file in " + folder_.string(), errno);
  return NewFile{std::move(fd), handle};
}

Result<StoredBlob> FolderHost::commit_file(const std::string& handle) {
  SUNDOG_TRY(blob, hash_of(path(handle)));
  std::error_code error;
  std::filesystem::rename(path(handle), path(blob.id), error);
  if (error) return fail(Code::unavailable, "Cannot rename " + handle + ": " + error.message() + ".");
  return blob;
}

}  // namespace sundog::data::worker
