// Rhythm: how long a function rests between its calls, and how long something is worth keeping for its next one.
//
// A small histogram that forgets, one a function. What is kept costs its memory for as long as it is kept, and spares
// the next caller a start if that call comes in time: keep() takes the length at which both together cost least. Whose
// last rests were long and all alike is called by the clock: next_call() tells when the next call is due.
//
// Threads     a value; no clock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/clock.h"

namespace sundog::invoke {

class Rhythm {
 public:
  struct Expected {
    Duration from{}, until{};  // after the last use
  };
  static constexpr size_t kBuckets = 30;  // the square root of 2 each, from 1 s to 9 h

  // A call came after nothing had run for so long.
  void rested(Duration gap);
  // How long to keep `bytes` after the last use. `worth`: megabyte-seconds that are well spent if they spare the next
  // call its start. Never longer than `most`. What rested too seldom to be known is kept until it has cost its worth:
  // at most twice what a seer would have paid.
  Duration keep(int64_t bytes, double worth, Duration most) const;
  // When the next call is due; nullopt unless the last four rests were alike, and ten minutes at least.
  std::optional<Expected> next_call() const;

 private:
  std::array<double, kBuckets + 1> expected() const;

  static constexpr size_t kLast = 4;
  std::array<uint16_t, kBuckets + 1> counts_{};
  uint32_t total_ = 0;
  std::array<Duration, kLast> last_{};  // rests, in turn
  size_t turn_ = 0;
};

}  // namespace sundog::invoke
