#include "functions/code_store.h"

#include <cerrno>
#include <cstdio>

#include "base/ids.h"

namespace sundog::functions {
namespace {
constexpr std::string_view kUnfinished = ".new-";
}

CodeStore::CodeStore(Clock& clock, Path folder, PackageLimits limits)
    : clock_(clock), folder_(std::move(folder)), limits_(limits) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (it->path().filename().string().starts_with(kUnfinished)) std::filesystem::remove_all(it->path(), ignored);
  }
}

bool CodeStore::has(const std::string& sha256) const {
  std::error_code error;
  return std::filesystem::is_directory(path_of(sha256), error);
}

Result<CodeStore::Pin> CodeStore::add(std::string_view zip, const std::string& sha256) {
  {
    const std::lock_guard lock(mutex_);
    ++pins_[sha256];
  }
  Pin pin(new Path(path_of(sha256)), [this, sha256](const Path* path) {
    delete path;
    unpin(sha256);
  });
  if (has(sha256)) return pin;
  SUNDOG_CHECK(make_directories(folder_));
  const Path unfinished = folder_ / (std::string(kUnfinished) + short_id("code"));
  SUNDOG_TRY(info, extract_package(zip, unfinished, limits_));
  (void)info;
  if (std::rename(unfinished.c_str(), pin->c_str()) != 0) {
    const int error_number = errno;
    SUNDOG_CHECK(remove_tree(unfinished));
    // Someone else extracted the same bytes meanwhile: theirs are as good.
    if ((error_number == ENOTEMPTY || error_number == EEXIST) && has(sha256)) return pin;
    return fail_errno("rename to " + pin->string(), error_number);
  }
  SUNDOG_CHECK(fsync_directory(folder_));
  return pin;
}

void CodeStore::unpin(const std::string& sha256) {
  const std::lock_guard lock(mutex_);
  const auto it = pins_.find(sha256);
  if (it != pins_.end() && --it->second == 0) pins_.erase(it);
}

void CodeStore::sweep(const std::set<std::string>& named, Millis grace) {
  const MonoTime now = clock_.mono();
  const std::lock_guard lock(mutex_);  // held throughout, so that no add() finds a folder that is about to go
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with('.')) continue;
    if (named.contains(name) || pins_.contains(name)) {
      unnamed_since_.erase(name);
      continue;
    }
    const auto [since, first_seen] = unnamed_since_.try_emplace(name, now);
    if (now - since->second < grace) continue;
    std::error_code ignored;  // what stays is found again at the next sweep
    std::filesystem::remove_all(it->path(), ignored);
    unnamed_since_.erase(since);
  }
}

}  // namespace sundog::functions
