#include "functions/package.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <memory>

namespace sundog::functions {
namespace {

struct ArchiveClose {
  void operator()(archive* a) const { archive_read_free(a); }
};
using ArchivePtr = std::unique_ptr<archive, ArchiveClose>;

// libarchive converts names to the thread's locale; in "C" a name that is not ASCII would be lost.
class Utf8Locale {
 public:
  Utf8Locale() : locale_(newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr)) {
    if (locale_ != nullptr) before_ = uselocale(locale_);
  }
  ~Utf8Locale() {
    if (locale_ == nullptr) return;
    uselocale(before_);
    freelocale(locale_);
  }
  Utf8Locale(const Utf8Locale&) = delete;
  Utf8Locale& operator=(const Utf8Locale&) = delete;

 private:
  locale_t locale_ = nullptr;
  locale_t before_ = nullptr;
};

Error bad_package(std::string message) {
  return fail(Code::invalid_argument, "Could not unzip the uploaded file. " + std::move(message),
              "Zip the folder's content again, with plain files and folders only.");
}

Error bad_entry(std::string_view name, std::string_view what) {
  std::string shown;
  for (const char c : name.substr(0, 200)) shown += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  return bad_package("Entry \"" + shown + "\" " + std::string(what) + ".");
}

std::string_view kind_of(unsigned type) {
  switch (type) {
    case AE_IFLNK:
      return "is a symbolic link";
    case AE_IFSOCK:
      return "is a socket";
    case AE_IFCHR:
    case AE_IFBLK:
      return "is a device";
    case AE_IFIFO:
      return "is a pipe";
    default:
      return "is neither a file nor a folder";
  }
}

std::string megabytes(int64_t bytes) {
  return std::to_string(bytes >> 20) + " MB";
}

// What a pass looks at: entries' names and kinds alone, which takes milliseconds, or their content too.
enum class Depth { names, content };

// One pass over one package: checks each entry and, if `folder` is not empty, writes it.
class Reader {
 public:
  Reader(std::string_view zip, Path folder, const PackageLimits& limits, Depth depth)
      : zip_(zip), folder_(std::move(folder)), limits_(limits), depth_(depth) {}

  Result<PackageInfo> run() {
    const ArchivePtr archive(archive_read_new());
    if (!archive) return fail(Code::unavailable, "No memory to read the package.");
    archive_read_support_format_zip_seekable(archive.get());
    if (archive_read_open_memory(archive.get(), zip_.data(), zip_.size()) != ARCHIVE_OK) {
      return bad_package("It is not a zip file.");
    }
    archive_entry* entry = nullptr;
    while (true) {
      const int status = archive_read_next_header(archive.get(), &entry);
      if (status == ARCHIVE_EOF) break;
      if (status != ARCHIVE_OK && status != ARCHIVE_WARN) return bad_package("It is not a zip file, or it is damaged.");
      SUNDOG_CHECK(take(archive.get(), entry));
    }
    if (info_.files == 0) return bad_package("It holds no file.");
    return info_;
  }

 private:
  Status take(archive* archive, archive_entry* entry) {
    if (++entries_ > limits_.entries) {
      return fail(Code::invalid_argument, "The package has more than " + std::to_string(limits_.entries) + " entries.");
    }
    const char* raw = archive_entry_pathname_utf8(entry);
    if (raw == nullptr) raw = archive_entry_pathname(entry);
    if (raw == nullptr) return bad_package("An entry's name is not readable.");
    if (archive_entry_is_encrypted(entry) != 0) return bad_entry(raw, "is encrypted");
    const unsigned type = archive_entry_filetype(entry);
    if (archive_entry_hardlink(entry) != nullptr) return bad_entry(raw, "is a hard link");
    if (type != AE_IFREG && type != AE_IFDIR) return bad_entry(raw, kind_of(type));
    SUNDOG_TRY(path, entry_path(raw));
    if (type == AE_IFDIR) return path.empty() ? Status(done) : add_folder(path, raw);
    if (path.empty()) return bad_entry(raw, "has no name");
    SUNDOG_CHECK(add_parents(path, raw));
    if (!seen_.emplace(path, Seen::file).second) return bad_entry(raw, "is there twice");
    ++info_.files;
    if (depth_ == Depth::names) return done;
    const bool executable = (archive_entry_perm(entry) & 0111) != 0;
    return copy(archive, raw, path, executable ? 0755 : 0644);
  }

  Status add_parents(const std::string& path, std::string_view raw) {
    for (size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
      SUNDOG_CHECK(add_folder(path.substr(0, slash), raw));
    }
    return done;
  }

  Status add_folder(const std::string& path, std::string_view raw) {
    const auto known = seen_.find(path);
    if (known != seen_.end()) {
      return known->second == Seen::folder ? Status(done) : bad_entry(raw, "is both a file and a folder");
    }
    if (path.find('/') != std::string::npos) SUNDOG_CHECK(add_parents(path, raw));
    if (static_cast<int64_t>(seen_.size()) > 2 * limits_.entries) {
      return fail(Code::invalid_argument, "The package has too many folders.");
    }
    seen_.emplace(path, Seen::folder);
    if (folder_.empty()) return done;
    const Path target = folder_ / path;
    if (::mkdir(target.c_str(), 0700) != 0) return fail_errno("create folder " + path, errno);
    if (::chmod(target.c_str(), 0755) != 0) return fail_errno("create folder " + path, errno);
    return done;
  }

  Status copy(archive* archive, std::string_view raw, const std::string& path, mode_t mode) {
    UniqueFd file;
    if (!folder_.empty()) {
      file = UniqueFd(::open((folder_ / path).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
      if (!file) return fail_errno("write " + path, errno);
      if (::fchmod(file.get(), mode) != 0) return fail_errno("write " + path, errno);
    }
    char buffer[65536];
    while (true) {
      const auto count = archive_read_data(archive, buffer, sizeof buffer);
      if (count < 0) return bad_entry(raw, "is damaged, or packed in a way that is not supported");
      if (count == 0) return done;
      SUNDOG_CHECK(count_bytes(count, raw));
      if (file) SUNDOG_CHECK(write_all(file.get(), {buffer, static_cast<size_t>(count)}));
    }
  }

  Status count_bytes(int64_t count, std::string_view raw) {
    info_.unzipped_bytes += count;
    if (info_.unzipped_bytes > limits_.unzipped_bytes) {
      return fail(Code::invalid_argument,
                  "Unzipped size must be smaller than " + std::to_string(limits_.unzipped_bytes) + " bytes (" +
                      megabytes(limits_.unzipped_bytes) + "); it is larger by entry \"" + std::string(raw) + "\".",
                  "Leave out what the function does not need, or put packages into an environment.");
    }
    if (info_.unzipped_bytes > limits_.ratio_floor &&
        info_.unzipped_bytes / limits_.ratio > static_cast<int64_t>(zip_.size())) {
      return bad_entry(raw, "unpacks to more than " + std::to_string(limits_.ratio) + " times the package's size");
    }
    return done;
  }

  enum class Seen { file, folder };

  std::string_view zip_;
  Path folder_;
  PackageLimits limits_;
  Depth depth_;
  PackageInfo info_;
  int64_t entries_ = 0;
  std::map<std::string, Seen, std::less<>> seen_;
};

Result<PackageInfo> extract_into(std::string_view zip, const Path& folder, const PackageLimits& limits) {
  if (::mkdir(folder.c_str(), 0700) != 0) return fail_errno("create folder " + folder.string(), errno);
  SUNDOG_TRY(info, Reader(zip, folder, limits, Depth::content).run());
  if (::chmod(folder.c_str(), 0755) != 0) return fail_errno("create folder " + folder.string(), errno);
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_errno("open folder " + folder.string(), errno);
  // One call for the whole tree: an fsync for each of thousands of small files takes seconds.
  if (::syncfs(fd.get()) != 0) return fail_errno("write " + folder.string() + " to disk", errno);
  return info;
}

}  // namespace

Result<std::string> entry_path(std::string_view raw) {
  if (raw.size() > 1024) return bad_entry(raw, "has a name of more than 1,024 bytes");
  if (raw.starts_with('/')) return bad_entry(raw, "has an absolute path");
  std::string path;
  int depth = 0;
  while (!raw.empty()) {
    const size_t slash = raw.find('/');
    const std::string_view part = raw.substr(0, slash);
    const std::string_view rest = slash == std::string_view::npos ? std::string_view{} : raw.substr(slash + 1);
    if (part == "..") return bad_entry(raw, "leaves the package's folder (\"..\")");
    if (part.size() > 255) return bad_entry(raw, "has a part of more than 255 bytes");
    for (const char c : part) {
      if (static_cast<unsigned char>(c) < 0x20) return bad_entry(raw, "has a control character in its name");
      if (c == '\\') return bad_entry(raw, "has a backslash in its name");
    }
    if (!part.empty() && part != ".") {
      if (++depth > 64) return bad_entry(raw, "lies more than 64 folders deep");
      if (!path.empty()) path += '/';
      path += part;
    }
    raw = rest;
  }
  return path;
}

Result<PackageInfo> extract_package(std::string_view zip, const Path& folder, const PackageLimits& limits) {
  const Utf8Locale locale;
  // Writing tens of thousands of files takes seconds: what the entries' names give away is refused before.
  SUNDOG_CHECK(Reader(zip, {}, limits, Depth::names).run());
  auto result = extract_into(zip, folder, limits);
  if (!result.ok() && result.error().code != Code::already_exists) {
    std::error_code ignored;  // the first error is the one to tell; a left-over is removed at the next start
    std::filesystem::remove_all(folder, ignored);
  }
  return result;
}

Result<PackageInfo> check_package(std::string_view zip, const PackageLimits& limits) {
  const Utf8Locale locale;
  return Reader(zip, {}, limits, Depth::content).run();
}

}  // namespace sundog::functions
