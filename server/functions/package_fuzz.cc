// Feeds arbitrary bytes to the package reader: it may refuse them, never crash, leak or write outside its folder.
#include <cstdlib>

#include "base/file.h"
#include "functions/package.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sundog;
  functions::PackageLimits limits;
  limits.unzipped_bytes = 4 << 20;
  limits.entries = 1'000;
  const std::string_view zip(reinterpret_cast<const char*>(data), size);
  const auto checked = functions::check_package(zip, limits);
  const auto path = functions::entry_path(zip);
  if (path.ok() && (path->starts_with('/') || ("/" + *path + "/").find("/../") != std::string::npos)) std::abort();
  if (!checked.ok()) return 0;
  // What passes the check extracts, below its own folder.
  static const Path folder = std::filesystem::temp_directory_path() / ("sundog-fuzz-" + std::to_string(getpid()));
  const auto extracted = functions::extract_package(zip, folder, limits);
  if (extracted.ok() && extracted->files != checked->files) std::abort();
  std::filesystem::remove_all(folder);
  return 0;
}
