#include "base/clock.h"

#include <gtest/gtest.h>

namespace sundog {
namespace {

using namespace std::chrono_literals;

TEST(FakeClock, StandsStillUntilItIsTurned) {
  FakeClock clock;
  const auto mono = clock.mono();
  const auto wall = clock.wall();
  EXPECT_EQ(iso_time(wall), "2026-01-01T00:00:00.000Z");
  EXPECT_EQ(clock.mono(), mono);
  clock.advance(1500ms);
  EXPECT_EQ(clock.mono() - mono, 1500ms);
  EXPECT_EQ(clock.wall() - wall, 1500ms);
}

TEST(SystemClock, GoesForward) {
  const SystemClock clock;
  const auto before = clock.mono();
  EXPECT_GE(clock.mono(), before);
  EXPECT_GT(epoch_millis(clock.wall()), 1'700'000'000'000);
}

TEST(Times, HaveTheFormsOfTheApis) {
  const auto time = from_epoch_millis(1'767'225'600'007) + 400us;
  EXPECT_EQ(iso_time(time), "2026-01-01T00:00:00.007Z");
  EXPECT_EQ(lambda_time(time), "2026-01-01T00:00:00.007+0000");
  EXPECT_EQ(iso_day(time), "2026-01-01");
  EXPECT_EQ(epoch_millis(time), 1'767'225'600'007);
  EXPECT_EQ(iso_time(from_epoch_millis(0)), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(iso_time(from_epoch_millis(951'782'399'999)), "2000-02-28T23:59:59.999Z");
  EXPECT_EQ(iso_day(from_epoch_millis(951'782'400'000)), "2000-02-29");
}

}  // namespace
}  // namespace sundog
