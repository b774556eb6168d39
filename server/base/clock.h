// Clock: where time comes from. Passed in through constructors, so that tests turn it by hand.
//
// Threads     every function may be called from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <string>

namespace sundog {

using Duration = std::chrono::nanoseconds;
using Millis = std::chrono::milliseconds;
using MonoTime = std::chrono::time_point<std::chrono::steady_clock, Duration>;  // for deadlines and durations
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;  // for records

class Clock {
 public:
  virtual ~Clock() = default;
  virtual MonoTime mono() const = 0;
  virtual WallTime wall() const = 0;
};

class SystemClock final : public Clock {
 public:
  MonoTime mono() const override { return std::chrono::steady_clock::now(); }
  WallTime wall() const override { return std::chrono::system_clock::now(); }
};

// Stands still until advance() is called. Starts at 2026-01-01T00:00:00Z.
class FakeClock final : public Clock {
 public:
  MonoTime mono() const override { return MonoTime{Duration{since_start_.load()}}; }
  WallTime wall() const override;
  void advance(Duration by) { since_start_ += by.count(); }

 private:
  std::atomic<int64_t> since_start_{0};
};

// "2026-01-01T00:00:00.000+0000", the form Lambda's API uses.
std::string lambda_time(WallTime time);
// "2026-01-01T00:00:00.000Z" (RFC 3339) and back.
std::string iso_time(WallTime time);
// Milliseconds since 1970.
int64_t epoch_millis(WallTime time);
WallTime from_epoch_millis(int64_t millis);
// "2026-01-01", UTC.
std::string iso_day(WallTime time);

}  // namespace sundog
