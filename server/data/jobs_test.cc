#include "data/jobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "invoke/fake_invoker.h"
#include "net/fake_loop.h"
#include "store/sqlite_catalog.h"
#include "store/test_folder.h"

namespace sundog::data {
namespace {

using ::testing::ElementsAre;

// Counts what scans bring into memory.
class CountingCatalog final : public store::Catalog {
 public:
  explicit CountingCatalog(store::Catalog& catalog) : catalog_(catalog) {}
  Result<store::Record> get(std::string_view key) const override { return catalog_.get(key); }
  Result<std::vector<store::Record>> scan(std::string_view prefix, std::string_view after,
                                          size_t limit) const override {
    auto found = catalog_.scan(prefix, after, limit);
    if (found.ok()) scanned += found->size();
    return found;
  }
  Result<store::Revision> commit(const std::vector<store::Write>& writes) override { return catalog_.commit(writes); }
  Token watch(std::string prefix, std::function<void(const store::Record&, bool)> on_change) override {
    return catalog_.watch(std::move(prefix), std::move(on_change));
  }

  mutable size_t scanned = 0;

 private:
  store::Catalog& catalog_;
};

class JobsTest : public testing::Test {
 protected:
  JobsTest() : stored_(*store::open_sqlite_catalog(folder_.path() / "catalog.db")), catalog_(*stored_) {
    jobs_ = make_jobs(loop_, clock_, Log::none(), catalog_, invoker_, 1);
    jobs_->add_kind("count", [](JobContext&) -> Result<Json> { return Json(1); });
  }
  std::string submit(const std::string& tenant = "t") {
    clock_.advance(Millis{7});
    const auto job = jobs_->submit(tenant, "count", {{"text", std::string(1000, 'x')}});
    EXPECT_TRUE(job.ok());
    return job->id;
  }

  store::TestFolder folder_;
  FakeClock clock_;
  net::FakeLoop loop_{clock_};
  invoke::FakeInvoker invoker_;  // nobody's jobs run here
  std::unique_ptr<store::Catalog> stored_;
  CountingCatalog catalog_;
  std::unique_ptr<Jobs> jobs_;
};

TEST_F(JobsTest, ListsTheNewestFirstPageByPage) {
  std::vector<std::string> expected;
  for (int i = 0; i < 7; ++i) expected.insert(expected.begin(), submit());
  submit("other");
  std::vector<std::string> listed, sizes;
  std::string after;
  do {
    const auto page = jobs_->list("t", after, 3);
    ASSERT_TRUE(page.ok());
    for (const auto& job : page->items) listed.push_back(job.id);
    sizes.push_back(std::to_string(page->items.size()));
    after = page->next;
  } while (!after.empty());
  EXPECT_EQ(listed, expected);
  EXPECT_THAT(sizes, ElementsAre("3", "3", "1"));
  EXPECT_EQ(jobs_->list("t", "", 7)->next, "");
  EXPECT_EQ(jobs_->list("t", "job-0", 7)->items.size(), 7U);
  EXPECT_TRUE(jobs_->list("t", "job-z", 7)->items.empty());
  EXPECT_TRUE(jobs_->list("nobody", "", 3)->items.empty());
}

TEST_F(JobsTest, APageReadsNoMoreThanItShows) {
  for (int i = 0; i < 30; ++i) submit();
  catalog_.scanned = 0;
  const auto page = jobs_->list("t", "", 5);
  ASSERT_EQ(page->items.size(), 5U);
  EXPECT_EQ(catalog_.scanned, 6U);  // one more says that there is a next page
  for (const auto& job : page->items) {
    EXPECT_TRUE(job.arguments.is_null());
    EXPECT_EQ(job.state, "queued");
  }
}

TEST_F(JobsTest, AJobThatComesWhileSomebodyPagesMovesNothing) {
  const auto first = submit();
  submit();
  submit();
  const auto page = jobs_->list("t", "", 2);
  submit();
  const auto rest = jobs_->list("t", page->next, 2);
  ASSERT_EQ(rest->items.size(), 1U);
  EXPECT_EQ(rest->items.front().id, first);
}

TEST_F(JobsTest, AListShowsWhatEnded) {
  const auto id = submit();
  ASSERT_TRUE(jobs_->cancel("t", id).ok());
  const auto page = jobs_->list("t", "", 2);
  ASSERT_EQ(page->items.size(), 1U);
  EXPECT_EQ(page->items.front().state, "cancelled");
}

}  // namespace
}  // namespace sundog::data
