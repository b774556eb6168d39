// What every Catalog promises, as tests. A back end is added by one INSTANTIATE_TEST_SUITE_P in catalog_test.cc.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "store/catalog.h"
#include "store/each_record.h"
#include "store/test_folder.h"

namespace sundog::store {

// A place where a catalog's records stay while no Catalog is open on it.
class CatalogHome {
 public:
  virtual ~CatalogHome() = default;
  virtual Result<std::unique_ptr<Catalog>> open() = 0;
};

struct CatalogBackEnd {
  std::string name;
  std::function<std::unique_ptr<CatalogHome>()> make;
};

class CatalogContract : public testing::TestWithParam<CatalogBackEnd> {
 protected:
  CatalogContract() : home_(GetParam().make()) { reopen(); }
  void reopen() {
    catalog_.reset();
    auto opened = home_->open();
    if (!opened.ok()) throw std::runtime_error(opened.error().text());
    catalog_ = std::move(*opened);
  }
  std::vector<std::string> keys(std::string_view prefix, std::string_view after = {}, size_t limit = 1000) {
    std::vector<std::string> found;
    const auto records = catalog_->scan(prefix, after, limit);
    EXPECT_TRUE(records.ok());
    if (records.ok()) {
      for (const auto& record : *records) found.push_back(record.key);
    }
    return found;
  }

  std::unique_ptr<CatalogHome> home_;
  std::unique_ptr<Catalog> catalog_;
};

using Keys = std::vector<std::string>;

TEST_P(CatalogContract, GivesBackWhatWasPut) {
  const Json value{{"name", "café ☀"}, {"list", {1, 2.5, nullptr, true}}, {"big", INT64_MAX}};
  SUNDOG_VALUE(revision, catalog_->put("functions/t/f", value));
  EXPECT_GT(revision, 0);
  SUNDOG_VALUE(record, catalog_->get("functions/t/f"));
  EXPECT_EQ(record.key, "functions/t/f");
  EXPECT_EQ(record.value, value);
  EXPECT_EQ(record.revision, revision);
  EXPECT_CODE(catalog_->get("functions/t/g"), Code::not_found);
  EXPECT_CODE(catalog_->get("functions/t"), Code::not_found);
}

TEST_P(CatalogContract, KeepsEverythingOverAReopen) {
  SUNDOG_VALUE(first, catalog_->put("a", 1));
  SUNDOG_VALUE(second, catalog_->put("b", 2));
  EXPECT_OK(catalog_->remove("a"));
  reopen();
  EXPECT_EQ(keys(""), Keys{"b"});
  SUNDOG_VALUE(record, catalog_->get("b"));
  EXPECT_EQ(record.revision, second);
  SUNDOG_VALUE(third, catalog_->put("c", 3));
  EXPECT_GT(third, second + 1) << "the removal was a change too";
  EXPECT_GT(second, first);
}

TEST_P(CatalogContract, ComparesRevisionsBeforeItSwaps) {
  SUNDOG_VALUE(first, catalog_->put("k", 1, kAbsent));
  EXPECT_CODE(catalog_->put("k", 2, kAbsent), Code::already_exists);
  SUNDOG_VALUE(second, catalog_->put("k", 2, first));
  EXPECT_CODE(catalog_->put("k", 3, first), Code::conflict);
  EXPECT_CODE(catalog_->remove("k", first), Code::conflict);
  EXPECT_CODE(catalog_->put("absent", 3, first), Code::conflict);
  SUNDOG_VALUE(record, catalog_->get("k"));
  EXPECT_EQ(record.value, 2);
  EXPECT_OK(catalog_->remove("k", second));
  EXPECT_CODE(catalog_->get("k"), Code::not_found);
  EXPECT_OK(catalog_->remove("k"));  // any revision: absent is fine
  EXPECT_OK(catalog_->put("k", 4, kAbsent));
}

TEST_P(CatalogContract, CommitsAllOrNothing) {
  EXPECT_OK(catalog_->put("b", "old"));
  const auto refused = catalog_->commit({{"a", Json(1)}, {"b", Json("new"), kAbsent}, {"c", Json(3)}});
  EXPECT_CODE(refused, Code::already_exists);
  EXPECT_NE(refused.error().message.find("\"b\""), std::string::npos) << refused.error().message;
  EXPECT_EQ(keys(""), Keys{"b"});
  SUNDOG_VALUE(revision, catalog_->commit({{"a", Json(1)}, {"b", std::nullopt}, {"c", Json(3)}}));
  EXPECT_EQ(keys(""), (Keys{"a", "c"}));
  for (const auto* key : {"a", "c"}) {
    SUNDOG_VALUE(record, catalog_->get(key));
    EXPECT_EQ(record.revision, revision);
  }
}

TEST_P(CatalogContract, ScansByPrefixInOrderAndInPages) {
  for (const auto* key : {"f/b", "f/a", "f/a/1", "f", "g", "e/z", "f/\xc3\xa9", "f/a%_"})
    EXPECT_OK(catalog_->put(key, 0));
  EXPECT_EQ(keys("f/"), (Keys{"f/a", "f/a%_", "f/a/1", "f/b", "f/\xc3\xa9"}));
  EXPECT_EQ(keys("f/", "f/a"), (Keys{"f/a%_", "f/a/1", "f/b", "f/\xc3\xa9"}));
  EXPECT_EQ(keys("f/", "f/a", 2), (Keys{"f/a%_", "f/a/1"}));
  EXPECT_EQ(keys("f/a%"), Keys{"f/a%_"});
  EXPECT_EQ(keys("x"), Keys{});
  EXPECT_EQ(keys("").size(), 8U);
  EXPECT_EQ(keys("f/", "g"), Keys{});
}

TEST_P(CatalogContract, EachRecordOfManyIsSeenOnce) {
  constexpr int kMany = 2000;  // whole pages
  std::vector<Write> writes;
  for (int i = 0; i < kMany; ++i) writes.push_back({"m/" + std::to_string(10'000 + i), i, kAnyRevision});
  EXPECT_OK(catalog_->commit(writes));
  int seen = 0;
  EXPECT_OK(each_record(*catalog_, "m/", [&](const Record& record) { return record.value == seen++; }));
  EXPECT_EQ(seen, kMany);
  seen = 0;
  EXPECT_OK(each_record(*catalog_, "m/", [&](const Record&) { return ++seen < 1500; }, "m/10099"));
  EXPECT_EQ(seen, 1500);
  const auto failed =
      each_record(*catalog_, "m/", [&](const Record&) -> Result<bool> { return fail(Code::data_loss, "damaged"); });
  EXPECT_EQ(failed.error().code, Code::data_loss);
}

TEST_P(CatalogContract, RefusesKeysAndValuesBeyondTheLimits) {
  EXPECT_OK(catalog_->put(std::string(1024, 'k'), 1));
  EXPECT_CODE(catalog_->put(std::string(1025, 'k'), 1), Code::invalid_argument);
  EXPECT_CODE(catalog_->put("", 1), Code::invalid_argument);
  EXPECT_CODE(catalog_->put(std::string("a\0b", 3), 1), Code::invalid_argument);
  EXPECT_CODE(catalog_->commit({{"a", Json(1)}, {"a", Json(2)}}), Code::invalid_argument);
  EXPECT_OK(catalog_->put("large", std::string((1 << 20) - 2, 'x')));
  EXPECT_CODE(catalog_->put("large", std::string((1 << 20) - 1, 'x')), Code::too_large);
}

TEST_P(CatalogContract, OnlyOneOfManySwapsWins) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 10;
  SUNDOG_VALUE(start, catalog_->put("counter", 0));
  EXPECT_GT(start, 0);
  const auto count_up = [this] {
    for (int done_rounds = 0; done_rounds < kRounds;) {
      const auto record = catalog_->get("counter");
      ASSERT_TRUE(record.ok());
      const auto put = catalog_->put("counter", record->value.get<int>() + 1, record->revision);
      if (put.ok()) ++done_rounds;
      if (!put.ok()) ASSERT_EQ(put.error().code, Code::conflict) << put.error().text();
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(count_up);
  for (auto& thread : threads) thread.join();
  SUNDOG_VALUE(record, catalog_->get("counter"));
  EXPECT_EQ(record.value, kThreads * kRounds);
}

TEST_P(CatalogContract, WatchersSeeLaterChangesInOrder) {
  EXPECT_OK(catalog_->put("w/before", 0));
  Seen<std::string> seen;
  const auto token = catalog_->watch("w/", [&](const Record& record, bool removed) {
    seen.add(record.key + (removed ? " removed" : "=" + record.value.dump()) + "@" + std::to_string(record.revision));
  });
  SUNDOG_VALUE(first, catalog_->commit({{"w/a", Json(1)}, {"x", Json(9)}, {"w/b", Json(2)}}));
  EXPECT_CODE(catalog_->put("w/a", 5, kAbsent), Code::already_exists);
  SUNDOG_VALUE(second, catalog_->put("w/a", 3));
  SUNDOG_VALUE(third, catalog_->remove("w/b"));
  EXPECT_OK(catalog_->remove("w/never"));
  SUNDOG_VALUE(last, catalog_->put("w/end", 0));
  const auto at = [](Revision revision) { return "@" + std::to_string(revision); };
  EXPECT_EQ(seen.wait_for(5), (Keys{"w/a=1" + at(first), "w/b=2" + at(first), "w/a=3" + at(second),
                                    "w/b removed" + at(third), "w/end=0" + at(last)}));
}

TEST_P(CatalogContract, WatchersOfConcurrentCommitsSeeGrowingRevisions) {
  constexpr size_t kThreads = 4;
  constexpr size_t kCommits = 20;
  Seen<Revision> seen;
  const auto token = catalog_->watch("", [&](const Record& record, bool) { seen.add(record.revision); });
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([this, i] {
      for (size_t n = 0; n < kCommits; ++n) EXPECT_TRUE(catalog_->put("t/" + std::to_string(i), n).ok());
    });
  }
  for (auto& thread : threads) thread.join();
  const auto revisions = seen.wait_for(kThreads * kCommits);
  EXPECT_EQ(revisions.size(), kThreads * kCommits);
  EXPECT_TRUE(std::is_sorted(revisions.begin(), revisions.end()));
  EXPECT_EQ(std::adjacent_find(revisions.begin(), revisions.end()), revisions.end());
}

TEST_P(CatalogContract, ADroppedTokenIsNotCalledAgain) {
  Seen<std::string> dropped;
  Seen<std::string> kept;
  auto token = catalog_->watch("", [&](const Record& record, bool) { dropped.add(record.key); });
  const auto other = catalog_->watch("", [&](const Record& record, bool) { kept.add(record.key); });
  EXPECT_OK(catalog_->put("a", 1));
  dropped.wait_for(1);
  token.reset();
  EXPECT_OK(catalog_->put("b", 1));
  kept.wait_for(2);
  EXPECT_EQ(dropped.count(), 1U);
}

TEST_P(CatalogContract, AWatcherMayUseTheCatalogAndDropItsToken) {
  Seen<std::string> seen;
  Catalog::Token token;
  std::mutex mutex;  // the callback may come before watch() has returned
  {
    const std::lock_guard lock(mutex);
    token = catalog_->watch("in/", [&](const Record& record, bool) {
      EXPECT_TRUE(catalog_->put("out/" + record.key, record.value).ok());
      Catalog::Token mine;
      {
        const std::lock_guard inner(mutex);
        mine = std::move(token);
      }
      mine.reset();
      seen.add(record.key);
    });
  }
  EXPECT_OK(catalog_->put("in/a", 1));
  seen.wait_for(1);
  EXPECT_EQ(keys("out/"), Keys{"out/in/a"});
}

}  // namespace sundog::store
