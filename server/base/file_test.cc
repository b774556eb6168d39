#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/ids.h"

namespace sundog {
namespace {

class Files : public testing::Test {
 protected:
  Files() : folder_(std::filesystem::temp_directory_path() / short_id("file-test")) {
    EXPECT_TRUE(make_directories(folder_).ok());
  }
  ~Files() override { EXPECT_TRUE(remove_tree(folder_).ok()); }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) found.push_back(entry.path().filename());
    return found;
  }
  Path folder_;
};

TEST_F(Files, ReadBackWhatWasWrittenDurably) {
  const Path path = folder_ / "x";
  for (const auto& content : {std::string("first"), std::string("a\0b", 3), std::string(), std::string(200'000, 'y')}) {
    ASSERT_TRUE(write_file_durably(path, content).ok());
    EXPECT_EQ(*read_file(path), content);
    EXPECT_EQ(names(), std::vector<std::string>{"x"}) << "nothing is left beside it";
  }
}

TEST_F(Files, WriteWithTheModeAskedFor) {
  ASSERT_TRUE(write_file_durably(folder_ / "x", "secret").ok());
  struct stat info{};
  ASSERT_EQ(::stat((folder_ / "x").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600U);
  ASSERT_TRUE(write_file_durably(folder_ / "x", "secret", 0400).ok());
  ASSERT_EQ(::stat((folder_ / "x").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0400U);
}

TEST_F(Files, AWriteThatFailsKeepsTheOldContentAndLeavesNothing) {
  const Path busy = folder_ / "busy";
  ASSERT_TRUE(make_directories(busy / "inside").ok());
  EXPECT_FALSE(write_file_durably(busy, "content").ok());  // a folder that is not empty cannot be replaced
  EXPECT_EQ(names(), std::vector<std::string>{"busy"});
  EXPECT_TRUE(std::filesystem::exists(busy / "inside"));
  EXPECT_EQ(write_file_durably(folder_ / "absent" / "x", "content").error().code, Code::not_found);
}

TEST_F(Files, ReadingSaysWhatIsWrong) {
  const auto absent = read_file(folder_ / "absent");
  ASSERT_FALSE(absent.ok());
  EXPECT_EQ(absent.error().code, Code::not_found);
  EXPECT_NE(absent.error().message.find("absent"), std::string::npos);
  EXPECT_FALSE(read_file(folder_).ok());
  ASSERT_TRUE(write_file_durably(folder_ / "x", "12345").ok());
  EXPECT_TRUE(read_file(folder_ / "x", 5).ok());
  EXPECT_EQ(read_file(folder_ / "x", 4).error().code, Code::too_large);
}

TEST_F(Files, FoldersAreMadeOnceAndRemovedWhole) {
  const Path deep = folder_ / "a" / "b" / "c";
  EXPECT_TRUE(make_directories(deep).ok());
  EXPECT_TRUE(make_directories(deep).ok());
  EXPECT_TRUE(fsync_directory(deep).ok());
  EXPECT_TRUE(remove_tree(folder_ / "a").ok());
  EXPECT_TRUE(remove_tree(folder_ / "a").ok());
  EXPECT_EQ(fsync_directory(deep).error().code, Code::not_found);
  ASSERT_TRUE(write_file_durably(folder_ / "file", "x").ok());
  EXPECT_FALSE(make_directories(folder_ / "file" / "below").ok());
}

TEST_F(Files, WriteAllSaysWhenTheDiskRefuses) {
  const UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(full);
  const auto written = write_all(full.get(), "x");
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(written.error().code, Code::unavailable);
  EXPECT_FALSE(write_all(-1, "x").ok());
  EXPECT_TRUE(write_all(-1, "").ok());
}

TEST(UniqueFd, ClosesWhatItOwnsOnce) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  UniqueFd reads(ends[0]);
  {
    UniqueFd writes(ends[1]);
    const UniqueFd moved = std::move(writes);
    EXPECT_FALSE(writes);  // NOLINT(bugprone-use-after-move): that it is empty is the point
    EXPECT_EQ(moved.get(), ends[1]);
  }
  char byte = 0;
  EXPECT_EQ(::read(reads.get(), &byte, 1), 0) << "the writing end is closed";
  const int raw = reads.release();
  EXPECT_FALSE(reads);
  EXPECT_EQ(::fcntl(raw, F_GETFD) >= 0, true);
  ::close(raw);
}

TEST(StringSource, YieldsPiecesThenTheEnd) {
  StringSource source("abcdef");
  Bytes out = "_";
  EXPECT_EQ(*source.read(out, 4), 4U);
  EXPECT_EQ(*source.read(out, 4), 2U);
  EXPECT_EQ(*source.read(out, 4), 0U);
  EXPECT_EQ(out, "_abcdef");
}

}  // namespace
}  // namespace sundog
