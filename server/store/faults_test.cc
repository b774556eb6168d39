// Every writing call of each store fails once, and from there on: the caller is told `unavailable`, nothing half-done
// is seen, and the store goes on when the disk does.
#include <gtest/gtest.h>

#include "base/crypto.h"
#include "store/faulty_disk.h"
#include "store/faulty_vfs.h"
#include "store/file_blobs.h"
#include "store/sqlite_catalog.h"
#include "store/sqlite_queue.h"
#include "store/test_folder.h"

namespace sundog::store {
namespace {

enum class Failing { once, from_there_on };

void arm(FaultPlan& plan, Failing failing, int n) {
  if (failing == Failing::once) plan.fail(n);
  if (failing == Failing::from_there_on) plan.fail_from(n);
}

class StoreFaults : public testing::TestWithParam<Failing> {
 protected:
  FaultPlan plan_;
  FaultyVfs vfs_{plan_};
  SqliteOptions sqlite_{.vfs = vfs_.name()};
};

INSTANTIATE_TEST_SUITE_P(Each, StoreFaults, testing::Values(Failing::once, Failing::from_there_on),
                         [](const auto& info) { return info.param == Failing::once ? "once" : "on"; });

int value_of(Catalog& catalog, std::string_view key) {
  const auto record = catalog.get(key);
  EXPECT_TRUE(record.ok()) << record.error().text();
  return record.ok() ? record->value.get<int>() : -1;
}

TEST_P(StoreFaults, CatalogCommitsAllOrNothing) {
  int failures = 0;
  for (int n = 0;; ++n) {
    SCOPED_TRACE(n);
    const TestFolder folder(On::memory);
    const Path file = folder.path() / "catalog.db";
    {
      SUNDOG_VALUE(catalog, open_sqlite_catalog(file, sqlite_));
      EXPECT_OK(catalog->commit({{"a", Json(1)}, {"b", Json(1)}}));
      Seen<std::string> seen;
      const auto token = catalog->watch("", [&](const Record& record, bool) { seen.add(record.value.dump()); });
      arm(plan_, GetParam(), n);
      const auto committed = catalog->commit({{"a", Json(2)}, {"b", Json(2)}});
      const int hits = plan_.disarm();
      EXPECT_EQ(value_of(*catalog, "a"), committed.ok() ? 2 : 1);
      EXPECT_EQ(value_of(*catalog, "b"), committed.ok() ? 2 : 1);
      if (!committed.ok()) {
        ++failures;
        EXPECT_CODE(committed, Code::unavailable);
        EXPECT_FALSE(committed.error().hint.empty());
      }
      EXPECT_OK(catalog->commit({{"a", Json(3)}, {"b", Json(3)}}));
      const auto told = seen.wait_for(committed.ok() ? 4 : 2);
      EXPECT_EQ(told.front(), committed.ok() ? "2" : "3") << "a change that did not happen is not told";
      if (hits == 0) break;
    }
    SUNDOG_VALUE(catalog, open_sqlite_catalog(file));
    EXPECT_EQ(value_of(*catalog, "a"), 3);
    EXPECT_EQ(value_of(*catalog, "b"), 3);
  }
  EXPECT_GE(failures, 2);  // at least the write and the sync of the log
}

TEST_P(StoreFaults, OpeningAnewWorksAfterAnOpenThatFailed) {
  int failures = 0;
  for (int n = 0;; ++n) {
    SCOPED_TRACE(n);
    const TestFolder folder(On::memory);
    const Path file = folder.path() / "catalog.db";
    arm(plan_, GetParam(), n);
    const auto opened = open_sqlite_catalog(file, sqlite_);
    const int hits = plan_.disarm();
    if (!opened.ok()) {
      ++failures;
      EXPECT_CODE(opened, Code::unavailable);
    }
    SUNDOG_VALUE(catalog, open_sqlite_catalog(file));
    EXPECT_OK(catalog->put("k", 1));
    if (hits == 0) break;
  }
  EXPECT_GE(failures, 3);
}

// One operation of a queue, the state it starts from, and what holds once it happened.
struct QueueStep {
  std::string name;
  std::function<Status(Queue&, const std::string& receipt, int64_t dead)> run;
  int64_t depth_before, depth_after;
  size_t dead_before, dead_after;
};

std::vector<QueueStep> queue_steps() {
  using Receipt = const std::string&;
  return {
      {"append",
       [](Queue& q, Receipt, int64_t) -> Status {
         SUNDOG_CHECK(q.append("q", "new"));
         return done;
       },
       1, 2, 1, 1},
      {"append_large",
       [](Queue& q, Receipt, int64_t) -> Status {
         SUNDOG_CHECK(q.append("q", std::string(50'000, 'x')));
         return done;
       },
       1, 2, 1, 1},
      {"ack", [](Queue& q, Receipt r, int64_t) { return q.ack(r); }, 1, 0, 1, 1},
      {"nak", [](Queue& q, Receipt r, int64_t) { return q.nak(r, Millis{10}); }, 1, 1, 1, 1},
      {"term", [](Queue& q, Receipt r, int64_t) { return q.term(r, "no"); }, 1, 0, 1, 2},
      {"redrive", [](Queue& q, Receipt, int64_t dead) { return q.redrive("q", dead); }, 1, 2, 1, 0},
      {"purge", [](Queue& q, Receipt, int64_t) { return q.purge("q"); }, 1, 0, 1, 0},
  };
}

void expect_state(Queue& queue, int64_t depth, size_t dead) {
  const auto found = queue.depth("q");
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(*found, depth);
  const auto letters = queue.dead_letters("q", 0, 10);
  ASSERT_TRUE(letters.ok());
  EXPECT_EQ(letters->size(), dead);
}

TEST_P(StoreFaults, QueueOperationsHappenWhollyOrNotAtAll) {
  for (const auto& step : queue_steps()) {
    int failures = 0;
    for (int n = 0;; ++n) {
      SCOPED_TRACE(step.name + " " + std::to_string(n));
      const TestFolder folder(On::memory);
      const Path file = folder.path() / "queue.db";
      FakeClock clock;
      int hits = 0;
      {
        SUNDOG_VALUE(queue, open_sqlite_queue(file, clock, {.sqlite = sqlite_}));
        EXPECT_OK(queue->append("q", "poison"));
        SUNDOG_VALUE(poison, queue->pull("q", 1, Millis{60'000}));
        EXPECT_OK(queue->term(poison.at(0).receipt, "no"));
        EXPECT_OK(queue->append("q", "body"));
        SUNDOG_VALUE(messages, queue->pull("q", 1, Millis{60'000}));
        const auto& receipt = messages.at(0).receipt;
        expect_state(*queue, step.depth_before, step.dead_before);
        arm(plan_, GetParam(), n);
        const auto ran = step.run(*queue, receipt, poison[0].id);
        hits = plan_.disarm();
        if (!ran.ok()) {
          ++failures;
          EXPECT_CODE(ran, Code::unavailable);
          expect_state(*queue, step.depth_before, step.dead_before);
          EXPECT_OK(step.run(*queue, receipt, poison[0].id));  // the same receipt still holds
        }
        expect_state(*queue, step.depth_after, step.dead_after);
      }
      SUNDOG_VALUE(queue, open_sqlite_queue(file, clock));
      expect_state(*queue, step.depth_after, step.dead_after);
      if (hits == 0) break;
    }
    EXPECT_GE(failures, 2) << step.name;
  }
}

TEST_P(StoreFaults, APullThatFailedLeasesNothingAndCountsNothing) {
  int failures = 0;
  for (int n = 0;; ++n) {
    SCOPED_TRACE(n);
    const TestFolder folder(On::memory);
    FakeClock clock;
    SUNDOG_VALUE(queue, open_sqlite_queue(folder.path() / "queue.db", clock, {.sqlite = sqlite_}));
    EXPECT_OK(queue->append("q", "body"));
    arm(plan_, GetParam(), n);
    const auto pulled = queue->pull("q", 1, Millis{60'000});
    const int hits = plan_.disarm();
    if (!pulled.ok()) {
      ++failures;
      EXPECT_CODE(pulled, Code::unavailable);
      SUNDOG_VALUE(messages, queue->pull("q", 1, Millis{60'000}));
      ASSERT_EQ(messages.size(), 1U);
      EXPECT_EQ(messages[0].attempt, 1);
    }
    if (hits == 0) break;
  }
  EXPECT_GE(failures, 2);
}

TEST_P(StoreFaults, BlobsAreWholeOrAbsent) {
  const auto content = random_bytes(600'000);
  for (const auto staging : {Staging::unnamed, Staging::named}) {
    int failures = 0;
    for (int n = 0;; ++n) {
      SCOPED_TRACE(n);
      const TestFolder folder(On::memory);
      EXPECT_OK(open_file_blobs(folder.path()));
      SUNDOG_VALUE(blobs, open_file_blobs(folder.path(), std::make_unique<FaultyDisk>(
                                                             system_disk(folder.path() / "staging", staging), plan_)));
      SUNDOG_VALUE(kept, blobs->put("kept"));
      arm(plan_, GetParam(), n);
      const auto put = blobs->put(content);
      const int hits = plan_.disarm();
      if (!put.ok()) {
        ++failures;
        EXPECT_CODE(put, Code::unavailable);
      }
      EXPECT_OK(blobs->list([&](const BlobInfo& blob) {
        EXPECT_TRUE(blobs->verify(blob.id).ok()) << "half an object is seen";
        return true;
      }));
      EXPECT_TRUE(std::filesystem::is_empty(folder.path() / "staging"));
      SUNDOG_VALUE(again, blobs->put(content));
      EXPECT_OK(blobs->verify(again.id));
      EXPECT_OK(blobs->verify(kept.id));
      if (hits == 0) break;
    }
    EXPECT_GE(failures, 8);  // stage, three writes, sync, folders, publish, sync of the folder
  }
}

}  // namespace
}  // namespace sundog::store
