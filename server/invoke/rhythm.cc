#include "invoke/rhythm.h"

#include <algorithm>
#include <cmath>

namespace sundog::invoke {
namespace {

constexpr uint32_t kEnough = 4;        // rests that make a rhythm
constexpr uint32_t kRemembered = 64;   // then the old ones count half
constexpr double kLongest = 32'768.0;  // seconds; the upper bound of the last bucket
constexpr double kMegabyte = 1 << 20;

double upper_bound(size_t bucket) {
  return std::exp2(static_cast<double>(bucket + 1) / 2);
}

Duration seconds(double count) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(count));
}

}  // namespace

void Rhythm::rested(Duration gap) {
  const double s = std::chrono::duration<double>(gap).count();
  if (s < 1) return;  // an instance is still idle then, whatever is decided
  const auto bucket = s >= kLongest ? kBuckets : static_cast<size_t>(std::max(0.0, std::ceil(2 * std::log2(s)) - 1));
  ++counts_[std::min(bucket, kBuckets)];
  if (++total_ < kRemembered) return;
  total_ = 0;
  for (auto& count : counts_) total_ += count /= 2;
}

Duration Rhythm::keep(int64_t bytes, double worth, Duration most) const {
  const double megabytes = std::max(1.0, static_cast<double>(bytes)) / kMegabyte;
  const double limit = std::chrono::duration<double>(most).count();
  if (total_ < kEnough) return seconds(std::min(worth / megabytes, limit));
  // Kept for `length`, those rests that are longer cost that length and a start, the others only their own length.
  double best = 0, best_cost = worth * total_, shorter_cost = 0;
  uint32_t longer = total_;
  for (size_t i = 0; i < kBuckets; ++i) {
    const double length = upper_bound(i);
    if (length > limit) break;
    longer -= counts_[i];
    shorter_cost += counts_[i] * length * megabytes;
    const double cost = shorter_cost + longer * (length * megabytes + worth);
    if (cost < best_cost) {
      best = length;
      best_cost = cost;
    }
  }
  return seconds(best);
}

}  // namespace sundog::invoke
