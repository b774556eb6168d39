#include "invoke/rhythm.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

namespace sundog::invoke {
namespace {

constexpr size_t kBuckets = Rhythm::kBuckets;
constexpr uint32_t kEnough = 4;        // rests that make a rhythm
constexpr uint32_t kRemembered = 64;   // then the old ones count half
constexpr double kLongest = 32'768.0;  // seconds; the upper bound of the last bucket
constexpr double kMegabyte = 1 << 20;
constexpr std::chrono::minutes kClockLeast{10};  // the shortest rest after which something is built for the next call
constexpr int kClockSpread = 20;                 // the last rests are alike within a twentieth of the shortest …
constexpr int kClockMargin = 50;                 // … and the next one may differ by a fiftieth at least

constexpr std::array<double, kBuckets> kUpperBounds = [] {
  std::array<double, kBuckets> bounds{};
  double power = 1;
  for (size_t i = 0; i < kBuckets; ++i) bounds[i] = i % 2 == 0 ? power* std::numbers::sqrt2 : power *= 2;
  return bounds;
}();

Duration seconds(double count) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(count));
}

}  // namespace

void Rhythm::rested(Duration gap) {
  last_[turn_++ % kLast] = gap;
  const double s = std::chrono::duration<double>(gap).count();
  if (s < 1) return;  // an instance is idle for much of it, whatever is decided
  const auto bucket = s >= kLongest ? kBuckets : static_cast<size_t>(std::max(0.0, std::ceil(2 * std::log2(s)) - 1));
  ++counts_[std::min(bucket, kBuckets)];
  if (++total_ < kRemembered) return;
  total_ = 0;
  for (auto& count : counts_) total_ += count /= 2;
}

// What was seen may come again and last up to twice as long: half a rest in each of the next two buckets.
std::array<double, kBuckets + 1> Rhythm::expected() const {
  std::array<double, kBuckets + 1> rests{};
  for (size_t i = 0; i <= kBuckets; ++i) {
    rests[i] += counts_[i];
    if (counts_[i] == 0) continue;
    for (size_t later = i + 1; later <= i + 2; ++later) rests[std::min(later, kBuckets)] += 0.5;
  }
  return rests;
}

Duration Rhythm::keep(int64_t bytes, double worth, Duration most) const {
  const double megabytes = std::max(1.0, static_cast<double>(bytes)) / kMegabyte;
  const double limit = std::chrono::duration<double>(most).count();
  if (total_ < kEnough) return seconds(std::min(worth / megabytes, limit));
  // Kept for `length`, those rests that are longer cost that length and a start, the others only their own length.
  const auto rests = expected();
  double longer = std::accumulate(rests.begin(), rests.end(), 0.0);
  double best = 0, best_cost = worth * longer, shorter_cost = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    const double length = kUpperBounds[i];
    if (length > limit) break;
    longer -= rests[i];
    shorter_cost += rests[i] * length * megabytes;
    const double cost = shorter_cost + longer * (length * megabytes + worth);
    if (cost < best_cost) {
      best = length;
      best_cost = cost;
    }
  }
  return seconds(best);
}

std::optional<Rhythm::Expected> Rhythm::next_call() const {
  if (turn_ < kLast) return std::nullopt;
  const auto [shortest, longest] = std::minmax_element(last_.begin(), last_.end());
  const Duration spread = *longest - *shortest;
  if (*shortest < kClockLeast || spread * kClockSpread > *shortest) return std::nullopt;
  const Duration margin = std::max(spread, *longest / kClockMargin);
  return Expected{*shortest - margin, *longest + margin};
}

}  // namespace sundog::invoke
