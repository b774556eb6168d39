// The blobs contract over every back end, and what is particular to files.
#include <fcntl.h>
#include <sys/stat.h>

#include <fstream>

#include "store/blobs_contract.h"
#include "store/file_blobs.h"

namespace sundog::store {
namespace {

class FileBlobsHome final : public BlobsHome {
 public:
  explicit FileBlobsHome(Staging staging) : staging_(staging) {}
  Result<std::unique_ptr<Blobs>> open() override {
    const Path folder = folder_.path() / "blobs";
    return open_file_blobs(folder, system_disk(folder / "staging", staging_));
  }
  void damage(const BlobId& id) override {
    const Path file = folder_.path() / "blobs" / id.substr(0, 2) / id.substr(2, 2) / id;
    ASSERT_EQ(::chmod(file.c_str(), 0600), 0);
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    const char first = static_cast<char>(stream.get());
    stream.seekp(0);
    stream.put(static_cast<char>(first ^ 1));
    ASSERT_TRUE(stream.good());
  }

 private:
  TestFolder folder_;
  Staging staging_;
};

INSTANTIATE_TEST_SUITE_P(
    Files, BlobsContract,
    testing::Values(BlobsBackEnd{"unnamed", [] { return std::make_unique<FileBlobsHome>(Staging::unnamed); }},
                    BlobsBackEnd{"named", [] { return std::make_unique<FileBlobsHome>(Staging::named); }}),
    [](const auto& info) { return info.param.name; });

TEST(FileBlobs, ObjectsLieInTwoLevelsOfFoldersAndCannotBeWritten) {
  const TestFolder folder;
  SUNDOG_VALUE(blobs, open_file_blobs(folder.path() / "deep" / "blobs"));
  SUNDOG_VALUE(blob, blobs->put("content"));
  const Path file = folder.path() / "deep" / "blobs" / blob.id.substr(0, 2) / blob.id.substr(2, 2) / blob.id;
  struct stat info{};
  ASSERT_EQ(::stat(file.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0400U);
}

TEST(FileBlobs, LeftoversOfADeadRunAreRemovedAtOpen) {
  const TestFolder folder;
  EXPECT_OK(open_file_blobs(folder.path()));
  const Path leftover = folder.path() / "staging" / "staged-0123";
  std::ofstream(leftover) << "half";
  EXPECT_OK(open_file_blobs(folder.path()));
  EXPECT_FALSE(std::filesystem::exists(leftover));
}

TEST(FileBlobs, ATruncatedObjectIsHealedByStoringItsContentAgain) {
  const TestFolder folder;
  SUNDOG_VALUE(blobs, open_file_blobs(folder.path()));
  SUNDOG_VALUE(blob, blobs->put("content"));
  const Path file = folder.path() / blob.id.substr(0, 2) / blob.id.substr(2, 2) / blob.id;
  std::filesystem::permissions(file, std::filesystem::perms::owner_all);
  std::filesystem::resize_file(file, 3);
  EXPECT_CODE(blobs->verify(blob.id), Code::data_loss);
  EXPECT_OK(blobs->put("content"));
  EXPECT_OK(blobs->verify(blob.id));
}

TEST(FileBlobs, FilesOfOthersAreNotListed) {
  const TestFolder folder;
  SUNDOG_VALUE(blobs, open_file_blobs(folder.path()));
  SUNDOG_VALUE(blob, blobs->put("content"));
  std::ofstream(folder.path() / blob.id.substr(0, 2) / blob.id.substr(2, 2) / "notes.txt") << "x";
  int count = 0;
  EXPECT_OK(blobs->list([&](const BlobInfo&) { return ++count > 0; }));
  EXPECT_EQ(count, 1);
}

}  // namespace
}  // namespace sundog::store
