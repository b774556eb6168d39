// IdleHistogram: the hybrid histogram policy of Shahrad et al. (USENIX ATC 2020), to compare with: when an instance is
// unloaded after a call, started again ahead of the next, and given up. Without its third part (ARIMA for what rests
// longer than four hours): there the standard keep-alive holds.
//
// Threads     a value.
#pragma once

#include <array>
#include <cstdint>

namespace sundog::invoke::simulation {

class IdleHistogram {
 public:
  struct Windows {
    double prewarm_s = 0;     // after a call: unloaded for so long; 0: kept
    double keep_alive_s = 0;  // from then on loaded for so long
  };

  void rested(double seconds);
  Windows windows() const;

 private:
  static constexpr int kMinutes = 240;
  std::array<uint32_t, kMinutes> counts_{};
  uint32_t total_ = 0, beyond_ = 0;
};

}  // namespace sundog::invoke::simulation
