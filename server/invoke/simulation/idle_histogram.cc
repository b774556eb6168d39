#include "invoke/simulation/idle_histogram.h"

#include <algorithm>
#include <cmath>

namespace sundog::invoke::simulation {
namespace {

constexpr double kMinute = 60;
constexpr uint32_t kEnough = 4;        // rests before the histogram says anything
constexpr double kRepresentative = 2;  // coefficient of variation of the bins' counts
constexpr double kMargin = 0.1;
constexpr double kHead = 0.05, kTail = 0.99;

}  // namespace

void IdleHistogram::rested(double seconds) {
  const auto minute = static_cast<size_t>(seconds / kMinute);
  ++total_;
  if (minute >= counts_.size()) {
    ++beyond_;
  } else {
    ++counts_[minute];
  }
}

IdleHistogram::Windows IdleHistogram::windows() const {
  const Windows standard{0, kMinutes * kMinute};
  const uint32_t inside = total_ - beyond_;
  if (total_ < kEnough || beyond_ * 2 > total_) return standard;
  double squares = 0;
  for (const auto count : counts_) squares += static_cast<double>(count) * count;
  const double mean = static_cast<double>(inside) / kMinutes;
  const double variance = squares / kMinutes - mean * mean;
  if (std::sqrt(std::max(0.0, variance)) / mean < kRepresentative) return standard;
  uint32_t seen = 0;
  double head = 0, tail = kMinutes;
  bool found_head = false;
  for (size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (!found_head && seen >= kHead * inside) {
      head = static_cast<double>(i);
      found_head = true;
    }
    if (seen >= kTail * inside) {
      tail = static_cast<double>(i + 1);
      break;
    }
  }
  const double prewarm = head * (1 - kMargin), until = tail * (1 + kMargin);
  return {prewarm * kMinute, (until - prewarm) * kMinute};
}

}  // namespace sundog::invoke::simulation
