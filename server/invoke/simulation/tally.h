// Tally: what a simulated day came to: how long invocations waited, and what memory waited for them.
//
// Threads     a value.
#pragma once

#include <array>
#include <cstdint>

#include "base/json.h"

namespace sundog::invoke::simulation {

// Waits, to about one per cent each.
class Waits {
 public:
  void add(double seconds);
  // At least the given share of all waits is no longer than this.
  double quantile(double share) const;
  double mean() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }
  double longest() const { return longest_; }

 private:
  static constexpr int kPerOctave = 64;
  static constexpr int kOctaves = 40;  // from a microsecond
  std::array<int64_t, kPerOctave * kOctaves + 1> counts_{};
  int64_t count_ = 0;
  double sum_ = 0, longest_ = 0;
};

// Memory that serves no invocation, over time.
struct Resting {
  double idle = 0, parked = 0, templates = 0, environments = 0;
  double total() const { return idle + parked + templates + environments; }
};

struct Tally {
  int64_t invocations = 0;
  int64_t warm = 0;     // taken by an idle instance at once
  int64_t thawed = 0;   // by a parked one
  int64_t started = 0;  // waited for an instance to start
  int64_t rebuilt = 0;  // waited for a template too
  int64_t queued = 0;   // waited for one that was busy, or for room
  int64_t refused = 0;
  int64_t starts = 0, template_starts = 0, environment_starts = 0;  // whether anybody waited or not
  Waits waits;
  Resting bytes_now;
  Resting byte_seconds;
  double busy_byte_seconds = 0, busy_bytes_now = 0;
  double cold_share_of_functions_p75 =
      0;              // three quarters of the functions are cold in no larger a share of their calls
  double wall_s = 0;  // that the simulation took

  Json json() const;
};

}  // namespace sundog::invoke::simulation
