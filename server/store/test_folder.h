// TestFolder: a folder of its own for one test, removed at the end. For tests only.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "base/file.h"
#include "base/ids.h"

namespace sundog::store {

// Tests that open a store hundreds of times do so in memory: there a sync costs nothing, and what the kernel has is
// safe from kill -9 like what the disk has.
enum class On { disk, memory };

class TestFolder {
 public:
  explicit TestFolder(On on = On::disk) : path_(parent(on) / short_id("store-test")) {
    EXPECT_TRUE(make_directories(path_).ok());
  }
  ~TestFolder() { EXPECT_TRUE(remove_tree(path_).ok()); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  const Path& path() const { return path_; }

 private:
  static Path parent(On on) {
    if (on == On::memory && ::access("/dev/shm", W_OK) == 0) return "/dev/shm";
    return std::filesystem::temp_directory_path();
  }

  Path path_;
};

// What other threads did, and a wait for it that ends.
template <class T>
class Seen {
 public:
  void add(T value) {
    const std::lock_guard lock(mutex_);
    values_.push_back(std::move(value));
    wake_.notify_all();
  }
  size_t count() const {
    const std::lock_guard lock(mutex_);
    return values_.size();
  }
  // The first `count` values; fewer, and a failed test, when they do not come within ten seconds.
  std::vector<T> wait_for(size_t count) const {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(wake_.wait_for(lock, std::chrono::seconds{10}, [&] { return values_.size() >= count; }))
        << "only " << values_.size() << " of " << count;
    return values_;
  }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable wake_;
  std::vector<T> values_;
};

}  // namespace sundog::store

// The value of a Result that has to be ok; the test ends here, with its error, when it is not.
#define SUNDOG_VALUE(var, expr)                                                                          \
  auto SUNDOG_CONCAT(result_, __LINE__) = (expr);                                                        \
  ASSERT_TRUE(SUNDOG_CONCAT(result_, __LINE__).ok()) << SUNDOG_CONCAT(result_, __LINE__).error().text(); \
  auto var = std::move(*SUNDOG_CONCAT(result_, __LINE__))
#define EXPECT_OK(expr)                                        \
  do {                                                         \
    const auto& ok_result_ = (expr);                           \
    EXPECT_TRUE(ok_result_.ok()) << ok_result_.error().text(); \
  } while (false)
#define EXPECT_CODE(expr, wanted)                                                \
  do {                                                                           \
    const auto& code_result_ = (expr);                                           \
    ASSERT_FALSE(code_result_.ok()) << "expected " << name(wanted);              \
    EXPECT_EQ(code_result_.error().code, wanted) << code_result_.error().text(); \
    EXPECT_FALSE(code_result_.error().message.empty());                          \
  } while (false)
