#include "base/pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <latch>

namespace sundog {
namespace {

TEST(Pool, RunsEverythingThatWasSubmittedBeforeItEnds) {
  std::atomic<int> ran = 0;
  {
    Pool pool("test", {.threads = 3});
    for (int i = 0; i < 500; ++i) ASSERT_TRUE(pool.submit([&] { ++ran; }).ok());
  }
  EXPECT_EQ(ran, 500);
}

TEST(Pool, RunsOnItsOwnNamedThreadsAtTheSameTime) {
  Pool pool("worker", {.threads = 2});
  std::latch both(2);
  std::promise<std::string> name;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(pool.submit([&, i] {
                      both.arrive_and_wait();  // returns only when both run at once
                      if (i == 0) {
                        char text[16];
                        pthread_getname_np(pthread_self(), text, sizeof text);
                        name.set_value(text);
                      }
                    })
                    .ok());
  }
  EXPECT_EQ(name.get_future().get(), "worker");
}

TEST(Pool, OneThreadKeepsTheOrder) {
  std::vector<int> order;
  {
    Pool pool("test", {.threads = 1});
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(pool.submit([&, i] { order.push_back(i); }).ok());
  }
  ASSERT_EQ(order.size(), 100U);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(Pool, RefusesMoreThanItsQueueHolds) {
  std::promise<void> go;
  std::promise<void> started;
  Pool pool("busy", {.threads = 1, .queue_limit = 2});
  ASSERT_TRUE(pool.submit([&, wait = go.get_future().share()] {
                    started.set_value();
                    wait.wait();
                  })
                  .ok());
  started.get_future().wait();
  EXPECT_TRUE(pool.submit([] {}).ok());
  EXPECT_TRUE(pool.submit([] {}).ok());
  const auto refused = pool.submit([] {});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::resource_exhausted);
  EXPECT_NE(refused.error().message.find("\"busy\""), std::string::npos);
  go.set_value();
}

TEST(Pool, WorkMaySubmitWork) {
  std::promise<void> inner;
  Pool pool("test", {.threads = 1});
  ASSERT_TRUE(pool.submit([&] { EXPECT_TRUE(pool.submit([&] { inner.set_value(); }).ok()); }).ok());
  inner.get_future().wait();
}

}  // namespace
}  // namespace sundog
