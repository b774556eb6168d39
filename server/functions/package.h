// Packages: the zip files that code comes in. Outside bytes, so everything about them is checked before it is written.
//
// Threads     stateless; any thread; blocks on the disk.
// Durability  extract_package() returned ok  =>  every file is on disk, under `folder`, complete.
// Failure     invalid_argument (garbage, an entry that is not a plain file or folder, a path that leaves the folder, a
// bomb)
//             with the name of the entry · unavailable (disk full). Whatever was written is removed.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/file.h"
#include "base/result.h"

namespace sundog::functions {

struct PackageLimits {
  int64_t unzipped_bytes = 250 << 20;
  int64_t entries = 50'000;
  // A package may not grow by more than this, once it is larger than `ratio_floor`: only bombs do.
  int64_t ratio = 300;
  int64_t ratio_floor = 16 << 20;
};

struct PackageInfo {
  int64_t unzipped_bytes = 0;
  int64_t files = 0;
};

// Extracts `zip` into `folder`, which must not exist yet. Files become 0644, or 0755 if they were executable, folders
// 0755. Nothing over a limit is ever written.
Result<PackageInfo> extract_package(std::string_view zip, const Path& folder, const PackageLimits& limits);

// The same checks without writing.
Result<PackageInfo> check_package(std::string_view zip, const PackageLimits& limits);

// "a/./b" → "a/b". invalid_argument for a path that is absolute, leaves its folder, or that no file system takes.
Result<std::string> entry_path(std::string_view raw);

}  // namespace sundog::functions
