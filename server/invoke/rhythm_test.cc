#include "invoke/rhythm.h"

#include <gtest/gtest.h>

namespace sundog::invoke {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr int64_t kMegabyte = 1 << 20;

TEST(Rhythm, OfNothingKnownKeepsWhatItIsWorth) {
  const Rhythm rhythm;
  EXPECT_EQ(rhythm.keep(4 * kMegabyte, 2400, hours{1}), minutes{10});
  EXPECT_EQ(rhythm.keep(8 * kMegabyte, 2400, hours{1}), minutes{5});
  EXPECT_EQ(rhythm.keep(1 * kMegabyte, 1e9, hours{1}), hours{1});
}

TEST(Rhythm, KeepsUntilTheNextCallAndLittleLonger) {
  Rhythm rhythm;
  for (int i = 0; i < 20; ++i) rhythm.rested(minutes{5});
  const auto keep = rhythm.keep(4 * kMegabyte, 2400, hours{1});
  EXPECT_GE(keep, minutes{5});
  EXPECT_LE(keep, minutes{5} * 2.5);
}

TEST(Rhythm, DoesNotWaitForWhatComesTooLate) {
  Rhythm rhythm;
  for (int i = 0; i < 20; ++i) rhythm.rested(minutes{20});
  EXPECT_EQ(rhythm.keep(4 * kMegabyte, 2400, hours{1}), Duration{0});
  EXPECT_GE(rhythm.keep(1 * kMegabyte, 2400, hours{1}), minutes{20});  // worth it for less memory
}

TEST(Rhythm, SparesTheManyShortRestsAndGivesUpTheFewLongOnes) {
  Rhythm rhythm;
  for (int i = 0; i < 30; ++i) rhythm.rested(i % 10 == 0 ? Duration(hours{5}) : Duration(seconds{30}));
  const auto keep = rhythm.keep(4 * kMegabyte, 2400, hours{8});
  EXPECT_GE(keep, seconds{30});
  EXPECT_LE(keep, minutes{2});
}

TEST(Rhythm, KeepsLongerThanTheLongestThatItSaw) {
  Rhythm rhythm;
  for (int i = 0; i < 200; ++i) rhythm.rested(i % 2 == 0 ? seconds{3} : seconds{90});
  EXPECT_GE(rhythm.keep(1 * kMegabyte, 1e5, hours{1}), seconds{180});
}

TEST(Rhythm, KnowsTheNextCallOfWhatIsCalledByTheClock) {
  Rhythm rhythm;
  for (int i = 0; i < 3; ++i) rhythm.rested(hours{1});
  EXPECT_FALSE(rhythm.next_call());
  rhythm.rested(hours{1} + seconds{30});
  const auto next = rhythm.next_call();
  ASSERT_TRUE(next);
  EXPECT_LT(next->from, hours{1});
  EXPECT_GT(next->from, minutes{58});
  EXPECT_GT(next->until, hours{1} + seconds{30});
  EXPECT_LT(next->until, minutes{63});
  rhythm.rested(seconds{2});  // somebody tried it by hand
  EXPECT_FALSE(rhythm.next_call());
}

TEST(Rhythm, WhatComesEveryMinuteOrAtRandomIsNotByTheClock) {
  Rhythm often, random;
  for (int i = 0; i < 10; ++i) {
    often.rested(minutes{1});
    random.rested(i % 2 == 0 ? minutes{20} : minutes{25});
  }
  EXPECT_FALSE(often.next_call());
  EXPECT_FALSE(random.next_call());
}

TEST(Rhythm, ForgetsHowItWas) {
  Rhythm rhythm;
  for (int i = 0; i < 60; ++i) rhythm.rested(seconds{10});
  for (int i = 0; i < 200; ++i) rhythm.rested(minutes{8});
  EXPECT_GE(rhythm.keep(4 * kMegabyte, 2400, hours{1}), minutes{8});
}

TEST(Rhythm, BoundsHoldForEveryLength) {
  Rhythm rhythm;
  for (const auto gap : {Duration{1}, Duration(seconds{1}), Duration(hours{9}), Duration(hours{90'000})}) {
    for (int i = 0; i < 5; ++i) rhythm.rested(gap);
    const auto keep = rhythm.keep(4 * kMegabyte, 1e7, hours{10});
    EXPECT_GE(keep, Duration{0});
    EXPECT_LE(keep, hours{10});
  }
}

}  // namespace
}  // namespace sundog::invoke
