// What every Queue promises, as tests. A back end is added by one INSTANTIATE_TEST_SUITE_P in queue_test.cc.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>

#include "store/queue.h"
#include "store/test_folder.h"

namespace sundog::store {

// A place where messages stay while no Queue is open on it.
class QueueHome {
 public:
  virtual ~QueueHome() = default;
  virtual Result<std::unique_ptr<Queue>> open(Clock& clock) = 0;
};

struct QueueBackEnd {
  std::string name;
  std::function<std::unique_ptr<QueueHome>()> make;
};

class QueueContract : public testing::TestWithParam<QueueBackEnd> {
 protected:
  static constexpr Millis kLease{30'000};
  static constexpr Millis kNow{0};

  QueueContract() : home_(GetParam().make()) { reopen(); }
  void reopen() {
    queue_.reset();
    auto opened = home_->open(clock_);
    if (!opened.ok()) throw std::runtime_error(opened.error().text());
    queue_ = std::move(*opened);
  }
  std::vector<Message> pull(std::string_view queue = "q", size_t limit = 100, Millis lease = kLease) {
    auto messages = queue_->pull(queue, limit, lease);
    EXPECT_TRUE(messages.ok()) << messages.error().text();
    return messages.ok() ? std::move(*messages) : std::vector<Message>{};
  }
  std::vector<std::string> bodies(std::string_view queue = "q", size_t limit = 100, Millis lease = kLease) {
    std::vector<std::string> found;
    for (auto& message : pull(queue, limit, lease)) found.push_back(std::move(message.body));
    return found;
  }
  // Appends and leases one message.
  Message leased(std::string_view body = "body") {
    EXPECT_TRUE(queue_->append("q", body).ok());
    auto messages = pull();
    EXPECT_EQ(messages.size(), 1U);
    return messages.empty() ? Message{} : std::move(messages.front());
  }
  int64_t depth(std::string_view queue = "q") {
    const auto found = queue_->depth(queue);
    EXPECT_TRUE(found.ok());
    return found.ok() ? *found : -1;
  }
  std::vector<DeadLetter> dead(std::string_view queue = "q", int64_t after = 0, size_t limit = 100) {
    auto letters = queue_->dead_letters(queue, after, limit);
    EXPECT_TRUE(letters.ok());
    return letters.ok() ? std::move(*letters) : std::vector<DeadLetter>{};
  }

  FakeClock clock_;
  std::unique_ptr<QueueHome> home_;
  std::unique_ptr<Queue> queue_;
};

using Bodies = std::vector<std::string>;

TEST_P(QueueContract, DeliversOldestFirstOncePerLease) {
  for (const auto* body : {"1", "2", "3"}) EXPECT_OK(queue_->append("q", body));
  EXPECT_OK(queue_->append("other", "x"));
  EXPECT_EQ(bodies("q", 2), (Bodies{"1", "2"}));
  EXPECT_EQ(bodies(), Bodies{"3"});
  EXPECT_EQ(bodies(), Bodies{});
  EXPECT_EQ(depth(), 3);
  EXPECT_EQ(bodies("never"), Bodies{});
}

TEST_P(QueueContract, DescribesEachMessage) {
  const std::string binary("a\0\xff\n", 4);
  SUNDOG_VALUE(id, queue_->append("q", binary));
  SUNDOG_VALUE(next, queue_->append("q", ""));
  EXPECT_GT(next, id);
  const auto messages = pull();
  ASSERT_EQ(messages.size(), 2U);
  EXPECT_EQ(messages[0].id, id);
  EXPECT_EQ(messages[0].queue, "q");
  EXPECT_EQ(messages[0].body, binary);
  EXPECT_EQ(messages[0].attempt, 1);
  EXPECT_EQ(messages[0].appended, clock_.wall());
  EXPECT_EQ(messages[1].body, "");
  EXPECT_NE(messages[0].receipt, messages[1].receipt);
}

TEST_P(QueueContract, AckIsForGoodAndOnlyOnce) {
  const auto message = leased();
  EXPECT_OK(queue_->ack(message.receipt));
  EXPECT_EQ(depth(), 0);
  EXPECT_CODE(queue_->ack(message.receipt), Code::not_found);
  EXPECT_CODE(queue_->nak(message.receipt, kNow), Code::not_found);
  EXPECT_CODE(queue_->term(message.receipt, "late"), Code::not_found);
  EXPECT_CODE(queue_->extend(message.receipt, kLease), Code::not_found);
  for (const auto* receipt : {"", "7", "no receipt", "1.a.b", "99999999999999999999.x.1"}) {
    EXPECT_CODE(queue_->ack(receipt), Code::not_found);
  }
  clock_.advance(kLease * 2);
  EXPECT_EQ(bodies(), Bodies{});
}

TEST_P(QueueContract, DelayedMessagesWait) {
  EXPECT_OK(queue_->append("q", "later", Millis{5000}));
  EXPECT_OK(queue_->append("q", "soon", Millis{1000}));
  EXPECT_EQ(bodies(), Bodies{});
  clock_.advance(Millis{999});
  EXPECT_EQ(bodies(), Bodies{});
  clock_.advance(Millis{1});
  EXPECT_EQ(bodies(), Bodies{"soon"});
  clock_.advance(Millis{4000});
  EXPECT_EQ(bodies(), Bodies{"later"});
}

TEST_P(QueueContract, AnEndedLeaseIsDeliveredAgain) {
  const auto first = leased();
  clock_.advance(kLease - Millis{1});
  EXPECT_EQ(bodies(), Bodies{});
  clock_.advance(Millis{1});
  const auto again = pull();
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(again[0].id, first.id);
  EXPECT_EQ(again[0].attempt, 2);
  EXPECT_CODE(queue_->ack(first.receipt), Code::not_found);  // another holds it
  EXPECT_OK(queue_->ack(again[0].receipt));
}

TEST_P(QueueContract, WhoseLeaseEndedMaySettleWhileNobodyElseHoldsIt) {
  const auto message = leased();
  clock_.advance(kLease * 2);
  EXPECT_OK(queue_->ack(message.receipt));
  EXPECT_EQ(depth(), 0);
}

TEST_P(QueueContract, ExtendKeepsTheLease) {
  const auto message = leased();
  clock_.advance(kLease / 2);
  EXPECT_OK(queue_->extend(message.receipt, kLease));
  clock_.advance(kLease - Millis{1});
  EXPECT_EQ(bodies(), Bodies{});
  clock_.advance(Millis{1});
  EXPECT_EQ(bodies(), Bodies{"body"});
}

TEST_P(QueueContract, NakDeliversAgainAfterItsDelay) {
  const auto first = leased();
  EXPECT_OK(queue_->nak(first.receipt, kNow));
  EXPECT_CODE(queue_->nak(first.receipt, kNow), Code::not_found);
  const auto second = pull();
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].attempt, 2);
  EXPECT_OK(queue_->nak(second[0].receipt, Millis{60'000}));
  EXPECT_EQ(bodies(), Bodies{});
  clock_.advance(Millis{60'000});
  const auto third = pull();
  ASSERT_EQ(third.size(), 1U);
  EXPECT_EQ(third[0].attempt, 3);
}

TEST_P(QueueContract, TermMakesADeadLetterThatCanBeRedriven) {
  const auto message = leased("poison");
  EXPECT_OK(queue_->nak(message.receipt, kNow));
  const auto again = pull();
  ASSERT_EQ(again.size(), 1U);
  clock_.advance(Millis{1000});
  EXPECT_OK(queue_->term(again[0].receipt, "it \"failed\" twice"));
  EXPECT_EQ(depth(), 0);
  const auto letters = dead();
  ASSERT_EQ(letters.size(), 1U);
  EXPECT_EQ(letters[0].queue, "q");
  EXPECT_EQ(letters[0].body, "poison");
  EXPECT_EQ(letters[0].attempts, 2);
  EXPECT_EQ(letters[0].reason, "it \"failed\" twice");
  EXPECT_EQ(letters[0].appended, message.appended);
  EXPECT_EQ(letters[0].died, clock_.wall());

  EXPECT_CODE(queue_->redrive("other", letters[0].id), Code::not_found);
  EXPECT_CODE(queue_->redrive("q", letters[0].id + 1), Code::not_found);
  EXPECT_OK(queue_->redrive("q", letters[0].id));
  EXPECT_CODE(queue_->redrive("q", letters[0].id), Code::not_found);
  EXPECT_TRUE(dead().empty());
  const auto redriven = pull();
  ASSERT_EQ(redriven.size(), 1U);
  EXPECT_EQ(redriven[0].body, "poison");
  EXPECT_EQ(redriven[0].attempt, 1);
}

TEST_P(QueueContract, DeadLettersComeInPages) {
  for (const auto* body : {"a", "b", "c"}) EXPECT_OK(queue_->term(leased(body).receipt, "no"));
  const auto first = dead("q", 0, 2);
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(first[0].body, "a");
  const auto rest = dead("q", first[1].id, 2);
  ASSERT_EQ(rest.size(), 1U);
  EXPECT_EQ(rest[0].body, "c");
  EXPECT_TRUE(dead("other").empty());
}

TEST_P(QueueContract, KeepsEverythingButLeasesOverAReopen) {
  const auto first = leased("kept");
  EXPECT_OK(queue_->append("q", "late", Millis{5000}));
  EXPECT_OK(queue_->append("gone", "x"));
  const auto gone = pull("gone");
  ASSERT_EQ(gone.size(), 1U);
  EXPECT_OK(queue_->ack(gone[0].receipt));
  reopen();
  EXPECT_CODE(queue_->ack(first.receipt), Code::not_found);
  const auto again = pull();
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(again[0].body, "kept");
  EXPECT_EQ(again[0].attempt, 2);
  SUNDOG_VALUE(id, queue_->append("q", "new"));
  EXPECT_GT(id, gone[0].id);
  clock_.advance(Millis{5000});
  EXPECT_EQ(bodies(), (Bodies{"new", "late"}));
  EXPECT_EQ(bodies("gone"), Bodies{});
}

TEST_P(QueueContract, PurgeForgetsMessagesAndDeadLetters) {
  EXPECT_OK(queue_->term(leased("dead").receipt, "no"));
  const auto held = leased("held");
  EXPECT_OK(queue_->append("q", "late", Millis{1000}));
  EXPECT_OK(queue_->append("other", "stays"));
  EXPECT_OK(queue_->purge("q"));
  EXPECT_EQ(depth(), 0);
  EXPECT_TRUE(dead().empty());
  EXPECT_CODE(queue_->ack(held.receipt), Code::not_found);
  EXPECT_OK(queue_->purge("q"));
  EXPECT_EQ(bodies("other"), Bodies{"stays"});
  SUNDOG_VALUE(id, queue_->append("q", "new"));
  EXPECT_GT(id, held.id);
}

TEST_P(QueueContract, ListsTheQueuesThatHoldMessages) {
  for (const auto* queue : {"f/b", "f/a", "f/b", "g", "f"}) EXPECT_OK(queue_->append(queue, "x"));
  SUNDOG_VALUE(under, queue_->queues("f/"));
  EXPECT_EQ(under, (Bodies{"f/a", "f/b"}));
  SUNDOG_VALUE(all, queue_->queues(""));
  EXPECT_EQ(all, (Bodies{"f", "f/a", "f/b", "g"}));
  EXPECT_OK(queue_->purge("f/a"));
  SUNDOG_VALUE(after, queue_->queues("f/"));
  EXPECT_EQ(after, Bodies{"f/b"});
}

TEST_P(QueueContract, RefusesWhatIsBeyondTheLimits) {
  EXPECT_CODE(queue_->append("q", std::string((8 << 20) + 1, 'x')), Code::too_large);
  EXPECT_CODE(queue_->append("", "x"), Code::invalid_argument);
  EXPECT_OK(queue_->append("q", std::string(8 << 20, 'x')));
  const auto messages = pull();
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages[0].body.size(), static_cast<size_t>(8 << 20));
  Seen<Code> seen;
  queue_->append_async("q", std::string((8 << 20) + 1, 'x'), kNow,
                       [&](const Result<int64_t>& id) { seen.add(id.ok() ? Code::internal : id.error().code); });
  EXPECT_EQ(seen.wait_for(1), std::vector{Code::too_large});
}

TEST_P(QueueContract, AppendAsyncCallsBackOnceDurableInOrder) {
  constexpr size_t kCount = 500;
  Seen<int64_t> seen;
  for (size_t i = 0; i < kCount; ++i) {
    queue_->append_async("q", std::to_string(i), kNow,
                         [&](const Result<int64_t>& id) { seen.add(id.ok() ? *id : -1); });
  }
  const auto ids = seen.wait_for(kCount);
  EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
  EXPECT_GT(ids.front(), 0);
  reopen();
  const auto found = bodies("q", kCount);
  ASSERT_EQ(found.size(), kCount);
  for (size_t i = 0; i < kCount; ++i) EXPECT_EQ(found[i], std::to_string(i));
}

TEST_P(QueueContract, ConcurrentAppendsKeepEachCallersOrder) {
  constexpr size_t kThreads = 4;
  constexpr size_t kEach = 25;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t] {
      for (size_t n = 0; n < kEach; ++n) {
        EXPECT_TRUE(queue_->append("q", std::string(1, static_cast<char>('a' + t)) + std::to_string(n)).ok());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::map<char, size_t> next;
  const auto messages = pull("q", 1000);
  EXPECT_EQ(messages.size(), kThreads * kEach);
  for (size_t i = 0; i < messages.size(); ++i) {
    EXPECT_EQ(messages[i].body.substr(1), std::to_string(next[messages[i].body[0]]++));
    if (i > 0) EXPECT_GT(messages[i].id, messages[i - 1].id);
  }
}

TEST_P(QueueContract, ConcurrentPullsNeverShareAMessage) {
  constexpr size_t kCount = 200;
  for (size_t i = 0; i < kCount; ++i) queue_->append_async("q", "x", kNow, [](const Result<int64_t>&) {});
  EXPECT_OK(queue_->append("q", "x"));
  Seen<int64_t> seen;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, &seen] {
      while (true) {
        const auto messages = pull("q", 7);
        if (messages.empty()) return;
        for (const auto& message : messages) {
          seen.add(message.id);
          EXPECT_TRUE(queue_->ack(message.receipt).ok());
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const auto ids = seen.wait_for(kCount + 1);
  EXPECT_EQ(std::set<int64_t>(ids.begin(), ids.end()).size(), kCount + 1);
  EXPECT_EQ(depth(), 0);
}

TEST_P(QueueContract, NotifiesOfWhatIsDueNowOrWaitedAlready) {
  EXPECT_OK(queue_->append("q", "before"));
  Seen<int> seen;
  const auto token = queue_->notify("q", [&] { seen.add(1); });
  seen.wait_for(1);
  EXPECT_OK(queue_->append("q", "after"));
  seen.wait_for(2);
}

TEST_P(QueueContract, NotifiesOfDelaysLeasesAndNaks) {
  Seen<std::string> pulled;
  const auto token = queue_->notify("q", [&] {
    for (const auto& message : pull())
      pulled.add(message.body + "#" + std::to_string(message.attempt) + message.receipt);
  });
  EXPECT_OK(queue_->append("q", "x", Millis{5000}));
  clock_.advance(Millis{5000});
  const auto receipt_in = [](const std::string& text) { return text.substr(3); };
  auto seen = pulled.wait_for(1);
  EXPECT_TRUE(seen[0].starts_with("x#1"));
  clock_.advance(kLease);  // nobody settled it
  seen = pulled.wait_for(2);
  EXPECT_TRUE(seen[1].starts_with("x#2"));
  EXPECT_OK(queue_->nak(receipt_in(seen[1]), kNow));
  seen = pulled.wait_for(3);
  EXPECT_TRUE(seen[2].starts_with("x#3"));
  EXPECT_OK(queue_->nak(receipt_in(seen[2]), Millis{2000}));
  clock_.advance(Millis{2000});
  seen = pulled.wait_for(4);
  EXPECT_TRUE(seen[3].starts_with("x#4"));
  EXPECT_OK(queue_->term(receipt_in(seen[3]), "enough"));
  const auto letters = dead();
  ASSERT_EQ(letters.size(), 1U);
  EXPECT_OK(queue_->redrive("q", letters[0].id));
  seen = pulled.wait_for(5);
  EXPECT_TRUE(seen[4].starts_with("x#1"));
}

TEST_P(QueueContract, NotifiesOfDelayedMessagesFromBeforeAReopen) {
  EXPECT_OK(queue_->append("q", "x", Millis{5000}));
  reopen();
  Seen<std::string> pulled;
  const auto token = queue_->notify("q", [&] {
    for (const auto& message : pull()) pulled.add(message.body);
  });
  clock_.advance(Millis{5000});
  EXPECT_EQ(pulled.wait_for(1), Bodies{"x"});
}

TEST_P(QueueContract, ADroppedTokenIsNotCalledAgain) {
  Seen<int> dropped;
  Seen<int> kept;
  auto token = queue_->notify("q", [&] { dropped.add(1); });
  dropped.wait_for(1);
  token.reset();
  const size_t before = dropped.count();
  const auto other = queue_->notify("q", [&] { kept.add(1); });
  kept.wait_for(1);
  EXPECT_OK(queue_->append("q", "x"));
  kept.wait_for(2);
  EXPECT_EQ(dropped.count(), before);
}

}  // namespace sundog::store
