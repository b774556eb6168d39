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
  EXPECT_LE(keep, minutes{5} * 1.5);
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
  EXPECT_LE(keep, minutes{1});
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
