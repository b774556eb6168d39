// A small disk that is really full (tmpfs): each store says `unavailable`, shows nothing half-written, and goes on once
// there is space again. Needs the right to mount; skipped with a message without it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>

#include "base/crypto.h"
#include "store/file_blobs.h"
#include "store/sqlite_catalog.h"
#include "store/sqlite_queue.h"
#include "store/test_folder.h"

namespace sundog::store {
namespace {

// A tmpfs of 4 MB, seen by this process only, and a ballast that fills it.
class FullDisk : public testing::Test {
 protected:
  void SetUp() override {
    // Namespaces are the thread's: everything started from here on sees this mount, the rest of the machine does not.
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("sundog-test", folder_.path().c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=4m") != 0) {
      GTEST_SKIP() << "mounting a small tmpfs is not permitted here: " << std::generic_category().message(errno);
    }
    mounted_ = true;
  }
  void TearDown() override {
    if (mounted_) EXPECT_EQ(::umount2(folder_.path().c_str(), MNT_DETACH), 0);
  }

  void fill() const {
    const UniqueFd fd(::open(ballast().c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600));
    ASSERT_TRUE(fd);
    const std::string page(4096, 'x');
    while (::write(fd.get(), page.data(), page.size()) > 0) {
    }
    ASSERT_EQ(errno, ENOSPC);
  }
  void free_space() const { ASSERT_TRUE(std::filesystem::remove(ballast())); }
  const Path& path() const { return folder_.path(); }

 private:
  Path ballast() const { return folder_.path() / "ballast"; }
  TestFolder folder_;
  bool mounted_ = false;
};

template <class T>
void expect_says_full(const Result<T>& result) {
  EXPECT_CODE(result, Code::unavailable);
  EXPECT_NE(result.error().text().find("space"), std::string::npos) << result.error().text();
}

TEST_F(FullDisk, TheCatalogSaysSoAndGoesOn) {
  {
    SUNDOG_VALUE(catalog, open_sqlite_catalog(path() / "catalog.db"));
    EXPECT_OK(catalog->put("kept", 1));
    fill();
    const std::string large(200'000, 'x');
    expect_says_full(catalog->commit({{"a", Json(large)}, {"kept", Json(2)}, {"b", Json(large)}}));
    SUNDOG_VALUE(kept, catalog->get("kept"));
    EXPECT_EQ(kept.value, 1);
    EXPECT_CODE(catalog->get("a"), Code::not_found);
    free_space();
    EXPECT_OK(catalog->put("a", large));
  }
  SUNDOG_VALUE(catalog, open_sqlite_catalog(path() / "catalog.db"));
  SUNDOG_VALUE(all, catalog->scan(""));
  EXPECT_EQ(all.size(), 2U);
}

TEST_F(FullDisk, TheQueueSaysSoAndGoesOn) {
  FakeClock clock;
  {
    SUNDOG_VALUE(queue, open_sqlite_queue(path() / "queue.db", clock));
    EXPECT_OK(queue->append("q", "kept"));
    fill();
    const std::string large(200'000, 'x');
    expect_says_full(queue->append("q", large));
    Seen<bool> refused;
    queue->append_async("q", large, Millis{0}, [&](const Result<int64_t>& id) {
      refused.add(!id.ok() && id.error().code == Code::unavailable);
    });
    EXPECT_EQ(refused.wait_for(1), std::vector{true});
    SUNDOG_VALUE(depth, queue->depth("q"));
    EXPECT_EQ(depth, 1);
    free_space();
    EXPECT_OK(queue->append("q", large));
  }
  SUNDOG_VALUE(queue, open_sqlite_queue(path() / "queue.db", clock));
  SUNDOG_VALUE(messages, queue->pull("q", 10, Millis{1000}));
  ASSERT_EQ(messages.size(), 2U);
  EXPECT_EQ(messages[0].body, "kept");
  EXPECT_EQ(messages[1].body.size(), 200'000U);
}

TEST_F(FullDisk, BlobsSaySoAndGoOn) {
  SUNDOG_VALUE(blobs, open_file_blobs(path() / "blobs"));
  SUNDOG_VALUE(kept, blobs->put("kept"));
  const auto content = random_bytes(6 << 20);  // more than the whole disk
  expect_says_full(blobs->put(content));
  fill();
  expect_says_full(blobs->put(content.substr(0, 100'000)));
  int count = 0;
  EXPECT_OK(blobs->list([&](const BlobInfo&) { return ++count > 0; }));
  EXPECT_EQ(count, 1);
  EXPECT_OK(blobs->verify(kept.id));
  free_space();
  SUNDOG_VALUE(blob, blobs->put(content.substr(0, 2 << 20)));  // the failed ones left nothing that takes space
  EXPECT_OK(blobs->verify(blob.id));
}

TEST_F(FullDisk, AStoreCannotBeMadeButOpensOnceThereIsSpace) {
  fill();
  EXPECT_FALSE(open_sqlite_catalog(path() / "catalog.db").ok());
  free_space();
  SUNDOG_VALUE(catalog, open_sqlite_catalog(path() / "catalog.db"));
  EXPECT_OK(catalog->put("k", 1));
}

}  // namespace
}  // namespace sundog::store
