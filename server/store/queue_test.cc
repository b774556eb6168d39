// The queue contract over every back end, and what is particular to the SQLite one.
#include "store/queue_contract.h"
#include "store/sqlite_queue.h"

namespace sundog::store {
namespace {

class SqliteQueueHome final : public QueueHome {
 public:
  Result<std::unique_ptr<Queue>> open(Clock& clock) override {
    return open_sqlite_queue(folder_.path() / "queue.db", clock);
  }

 private:
  TestFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(Sqlite, QueueContract,
                         testing::Values(QueueBackEnd{"sqlite", [] { return std::make_unique<SqliteQueueHome>(); }}),
                         [](const auto& info) { return info.param.name; });

TEST(SqliteQueue, APullBesideManyDelayedMessagesStaysFast) {
  const TestFolder folder;
  SystemClock clock;
  SUNDOG_VALUE(queue, open_sqlite_queue(folder.path() / "queue.db", clock));
  constexpr size_t kDelayed = 100'000;
  Seen<bool> appended;
  for (size_t i = 0; i < kDelayed; ++i) {
    if (i % 50'000 == 0) appended.wait_for(i);  // no more than may wait at once
    queue->append_async("q", "x", Millis{3'600'000}, [&](const Result<int64_t>& id) { appended.add(id.ok()); });
  }
  const auto outcomes = appended.wait_for(kDelayed);
  EXPECT_EQ(std::count(outcomes.begin(), outcomes.end(), true), static_cast<std::ptrdiff_t>(kDelayed));
  EXPECT_OK(queue->append("q", "now"));
  const auto start = clock.mono();
  constexpr int kPulls = 200;
  for (int i = 0; i < kPulls; ++i) {
    SUNDOG_VALUE(messages, queue->pull("q", 10, Millis{60'000}));
    EXPECT_EQ(messages.size(), i == 0 ? 1U : 0U);
  }
  // A pull that looked at all 100,000 would take milliseconds; 10 times what one takes on a slow, busy machine.
  EXPECT_LT((clock.mono() - start) / kPulls, std::chrono::milliseconds{5});
}

TEST(SqliteQueue, WhatWaitsForTheDiskIsBounded) {
  const TestFolder folder;
  FakeClock clock;
  SUNDOG_VALUE(queue, open_sqlite_queue(folder.path() / "queue.db", clock, {.pending_bytes_limit = 100}));
  const auto refused = queue->append("q", std::string(101, 'x'));
  EXPECT_CODE(refused, Code::resource_exhausted);
  EXPECT_OK(queue->append("q", std::string(100, 'x')));
}

TEST(SqliteQueue, ClosingCommitsWhatWasHandedOver) {
  const TestFolder folder;
  FakeClock clock;
  constexpr size_t kCount = 1000;
  Seen<bool> durable;
  {
    SUNDOG_VALUE(queue, open_sqlite_queue(folder.path() / "queue.db", clock));
    for (size_t i = 0; i < kCount; ++i) {
      queue->append_async("q", "x", Millis{0}, [&](const Result<int64_t>& id) { durable.add(id.ok()); });
    }
  }
  EXPECT_EQ(durable.count(), kCount);
  SUNDOG_VALUE(queue, open_sqlite_queue(folder.path() / "queue.db", clock));
  SUNDOG_VALUE(depth, queue->depth("q"));
  EXPECT_EQ(depth, static_cast<int64_t>(kCount));
}

TEST(SqliteQueue, CallbacksMayUseTheQueue) {
  const TestFolder folder;
  FakeClock clock;
  SUNDOG_VALUE(queue, open_sqlite_queue(folder.path() / "queue.db", clock));
  Seen<int64_t> seen;
  queue->append_async("q", "x", Millis{0}, [&](const Result<int64_t>& id) {
    EXPECT_TRUE(id.ok());
    const auto messages = queue->pull("q", 10, Millis{1000});
    ASSERT_TRUE(messages.ok());
    for (const auto& message : *messages) EXPECT_TRUE(queue->ack(message.receipt).ok());
    const auto depth = queue->depth("q");
    seen.add(depth.ok() ? *depth : -1);
  });
  EXPECT_EQ(seen.wait_for(1), std::vector<int64_t>{0});
}

TEST(SqliteQueue, AStepOfTheWallClockNeitherHoldsNorHurriesAMessage) {
  // A clock whose wall jumps back a day while its monotonic side goes on.
  class SteppingClock final : public Clock {
   public:
    MonoTime mono() const override { return MonoTime{mono_.load()}; }
    WallTime wall() const override { return from_epoch_millis(wall_millis_.load()); }
    std::atomic<Duration> mono_{Duration{0}};
    std::atomic<int64_t> wall_millis_{1'800'000'000'000};
  };
  const TestFolder folder;
  SteppingClock clock;
  SUNDOG_VALUE(queue, open_sqlite_queue(folder.path() / "queue.db", clock));
  EXPECT_OK(queue->append("q", "delayed", Millis{1000}));
  clock.wall_millis_ -= 86'400'000;
  EXPECT_OK(queue->append("q", "now"));
  SUNDOG_VALUE(first, queue->pull("q", 10, Millis{60'000}));
  ASSERT_EQ(first.size(), 1U);
  EXPECT_EQ(first[0].body, "now");
  clock.mono_ = std::chrono::seconds{1};
  SUNDOG_VALUE(second, queue->pull("q", 10, Millis{60'000}));
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].body, "delayed");
}

}  // namespace
}  // namespace sundog::store
