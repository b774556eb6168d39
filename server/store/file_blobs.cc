#include "store/file_blobs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <mutex>
#include <set>

#include "base/crypto.h"
#include "base/kill_point.h"

namespace sundog::store {

bool is_blob_id(std::string_view text) {
  const auto digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return text.size() == 64 && std::all_of(text.begin(), text.end(), digit);
}

namespace {

constexpr size_t kPieceBytes = 256 << 10;

Error no_such(std::string_view id) {
  return fail(Code::not_found, "There is no blob \"" + std::string(id.substr(0, 80)) + "\".");
}

// What of an open file lies in [0, size), read at its offsets: the descriptor's own position does not matter.
class FileSource final : public ByteSource {
 public:
  FileSource(int fd, int64_t size) : fd_(fd), size_(size) {}
  Result<size_t> read(Bytes& out, size_t limit) override {
    const size_t wanted = std::min(limit, static_cast<size_t>(size_ - offset_));
    const size_t before = out.size();
    out.resize(before + wanted);
    ssize_t count = 0;
    do {
      count = ::pread(fd_, out.data() + before, wanted, offset_);
    } while (count < 0 && errno == EINTR);
    out.resize(before + static_cast<size_t>(std::max<ssize_t>(count, 0)));
    if (count < 0) return fail_errno("read a file", errno);
    offset_ += count;
    return static_cast<size_t>(count);
  }

 private:
  int fd_;
  int64_t size_;
  int64_t offset_ = 0;
};

Result<std::vector<std::string>> names_in(const Path& folder) {
  std::error_code error;
  std::vector<std::string> names;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) return fail_errno("list " + folder.string(), error.value());
  std::sort(names.begin(), names.end());
  return names;
}

class FileBlobs final : public Blobs {
 public:
  FileBlobs(Path folder, std::unique_ptr<Disk> disk) : folder_(std::move(folder)), disk_(std::move(disk)) {}

  Result<BlobInfo> put(ByteSource& source) override {
    SUNDOG_TRY(staged, disk_->stage(staging_folder(folder_)));
    auto stored = store(source, staged);
    if (!stored.ok()) disk_->discard(staged);
    return stored;
  }
  using Blobs::put;

  Result<Bytes> get(const BlobId& id, int64_t offset, int64_t length) const override {
    SUNDOG_TRY(fd, open(id));
    SUNDOG_TRY(size, size_of(fd.get()));
    if (offset < 0 || length < 0 || offset > size || length > size - offset) {
      return fail(Code::invalid_argument, "Blob " + id + " has " + std::to_string(size) + " bytes; " +
                                              std::to_string(length) + " from byte " + std::to_string(offset) +
                                              " on are not all in it.");
    }
    return read(fd.get(), id, offset, length);
  }

  Result<Bytes> get(const BlobId& id) const override {
    SUNDOG_TRY(fd, open(id));
    SUNDOG_TRY(size, size_of(fd.get()));
    return read(fd.get(), id, 0, size);
  }

  Result<BlobInfo> info(const BlobId& id) const override {
    SUNDOG_TRY(fd, open(id));
    SUNDOG_TRY(size, size_of(fd.get()));
    return BlobInfo{id, size};
  }

  Result<UniqueFd> open(const BlobId& id) const override {
    if (!is_blob_id(id)) return no_such(id);
    UniqueFd fd(::open(path_of(id).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd && errno == ENOENT) return no_such(id);
    if (!fd) return fail_errno("open blob " + id, errno);
    return fd;
  }

  Status list(const std::function<bool(const BlobInfo&)>& each) const override {
    SUNDOG_TRY(firsts, names_in(folder_));
    for (const auto& first : firsts) {
      if (first.size() != 2) continue;  // the staging folder
      SUNDOG_TRY(seconds, names_in(folder_ / first));
      for (const auto& second : seconds) {
        SUNDOG_TRY(names, names_in(folder_ / first / second));
        for (const auto& name : names) {
          if (!is_blob_id(name)) continue;
          auto found = info(name);
          if (!found.ok() && found.error().code == Code::not_found) continue;  // removed meanwhile
          if (!found.ok()) return std::move(found).error();
          if (!each(*found)) return done;
        }
      }
    }
    return done;
  }

  Status remove(const BlobId& id) override {
    if (!is_blob_id(id)) return no_such(id);
    const auto removed = disk_->remove(path_of(id));
    if (!removed.ok() && removed.error().code == Code::not_found) return no_such(id);
    SUNDOG_CHECK(removed);
    return disk_->sync_directory(path_of(id).parent_path());
  }

  Status verify(const BlobId& id) const override {
    SUNDOG_TRY(fd, open(id));
    SUNDOG_TRY(size, size_of(fd.get()));
    FileSource source(fd.get(), size);
    Sha256 hash;
    Bytes piece;
    while (true) {
      piece.clear();
      SUNDOG_TRY(count, source.read(piece, kPieceBytes));
      if (count == 0) break;
      hash.update(piece);
    }
    const auto found = hash.finish_hex();
    if (found == id) return done;
    return fail(Code::data_loss, "Blob " + id + " is damaged: its content has the hash " + found + ".",
                "Check the disk, remove the blob, and store its content again.");
  }

  Result<UniqueFd> scratch() override {
    const Path folder = staging_folder(folder_);
    // O_EXCL: this file can never get a name.
    UniqueFd fd(::open(folder.c_str(), O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
    if (fd) return fd;
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL) return fail_errno("create a scratch file", errno);
    std::string name = (folder / "scratch-XXXXXX").string();
    fd = UniqueFd(::mkostemp(name.data(), O_CLOEXEC));
    if (!fd) return fail_errno("create a scratch file", errno);
    ::unlink(name.c_str());
    return fd;
  }

  // Copies: whoever still holds the descriptor could change what is in it after it was hashed.
  Result<BlobInfo> put_file(int fd) override {
    SUNDOG_TRY(size, size_of(fd));
    FileSource source(fd, size);
    return put(source);
  }

  static Path staging_folder(const Path& folder) { return folder / "staging"; }

 private:
  Path path_of(std::string_view id) const { return folder_ / id.substr(0, 2) / id.substr(2, 2) / id; }

  static Result<int64_t> size_of(int fd) {
    struct stat info{};
    if (::fstat(fd, &info) != 0) return fail_errno("look at a file", errno);
    if (!S_ISREG(info.st_mode)) return fail(Code::invalid_argument, "The descriptor is not of a regular file.");
    return info.st_size;
  }

  static Result<Bytes> read(int fd, const BlobId& id, int64_t offset, int64_t length) {
    Bytes bytes(static_cast<size_t>(length), '\0');
    int64_t have = 0;
    while (have < length) {
      const ssize_t count = ::pread(fd, bytes.data() + have, static_cast<size_t>(length - have), offset + have);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return fail_errno("read blob " + id, errno);
      if (count == 0) return fail(Code::data_loss, "Blob " + id + " is shorter than it was.");
      have += count;
    }
    return bytes;
  }

  Result<BlobInfo> store(ByteSource& source, const Staged& staged) {
    Sha256 hash;
    BlobInfo blob;
    Bytes piece;
    while (true) {
      piece.clear();
      SUNDOG_TRY(count, source.read(piece, kPieceBytes));
      if (count == 0) break;
      hash.update(piece);
      SUNDOG_CHECK(disk_->write(staged, piece));
      blob.bytes += static_cast<int64_t>(count);
    }
    blob.id = hash.finish_hex();
    SUNDOG_CHECK(place(staged, blob));
    return blob;
  }

  Status place(const Staged& staged, const BlobInfo& blob) {
    const Path path = path_of(blob.id);
    const auto there = info(blob.id);
    if (there.ok() && there->bytes == blob.bytes) {
      disk_->discard(staged);
    } else {
      SUNDOG_CHECK(disk_->sync(staged));
      kill_point("blobs.written");
      SUNDOG_CHECK(make_durable_folder(path.parent_path().parent_path()));
      SUNDOG_CHECK(make_durable_folder(path.parent_path()));
      if (there.ok()) SUNDOG_CHECK(disk_->remove(path));  // damaged: of another length than its content
      const auto published = disk_->publish(staged, path);
      if (!published.ok() && published.error().code != Code::already_exists) return published;
      kill_point("blobs.linked");
      if (!published.ok()) disk_->discard(staged);  // another thread was faster with the same content
    }
    // Also for an object that was there: whoever put it may not have come as far as this.
    SUNDOG_CHECK(make_durable_folder(path.parent_path().parent_path()));
    SUNDOG_CHECK(make_durable_folder(path.parent_path()));
    return disk_->sync_directory(path.parent_path());
  }

  // Creates `folder` and makes its name durable in its parent, once a run.
  Status make_durable_folder(const Path& folder) {
    {
      const std::lock_guard lock(mutex_);
      if (durable_folders_.contains(folder.native())) return done;
    }
    SUNDOG_CHECK(disk_->make_directory(folder));
    SUNDOG_CHECK(disk_->sync_directory(folder.parent_path()));
    const std::lock_guard lock(mutex_);
    durable_folders_.insert(folder.native());
    return done;
  }

  Path folder_;
  std::unique_ptr<Disk> disk_;
  std::mutex mutex_;
  std::set<std::string> durable_folders_;
};

}  // namespace

Result<std::unique_ptr<Blobs>> open_file_blobs(const Path& folder, std::unique_ptr<Disk> disk) {
  const Path staging = FileBlobs::staging_folder(folder);
  SUNDOG_CHECK(make_directories(staging));
  SUNDOG_TRY(leftovers, names_in(staging));
  for (const auto& name : leftovers) SUNDOG_CHECK(remove_tree(staging / name));
  SUNDOG_CHECK(fsync_directory(folder));
  SUNDOG_CHECK(fsync_directory(folder.parent_path()));
  if (!disk) disk = system_disk(staging);
  return std::unique_ptr<Blobs>(std::make_unique<FileBlobs>(folder, std::move(disk)));
}

}  // namespace sundog::store
