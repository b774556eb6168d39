// Files the way a durable store needs them. Stateless; any thread; may block on the disk.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace sundog {

using Path = std::filesystem::path;

Result<std::string> read_file(const Path& path, size_t limit = 64 << 20);
// Writes beside `path`, fsyncs, renames over it, fsyncs the folder: the old content or the new, never a part.
Status write_file_durably(const Path& path, std::string_view content, unsigned mode = 0600);
Status make_directories(const Path& path, unsigned mode = 0700);
Status fsync_directory(const Path& path);
Status remove_tree(const Path& path);
// Writes all of it, whatever write(2) accepts at a time.
Status write_all(int fd, std::string_view data);

}  // namespace sundog
