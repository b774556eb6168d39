#include "invoke/simulation/tally.h"

#include <algorithm>
#include <cmath>

namespace sundog::invoke::simulation {
namespace {

constexpr double kUnit = 1e-6;
constexpr double kGigabyte = 1 << 30;

}  // namespace

void Waits::add(double seconds) {
  const double position = seconds <= kUnit ? 0 : 1 + std::log2(seconds / kUnit) * kPerOctave;
  ++counts_[std::min(counts_.size() - 1, static_cast<size_t>(position))];
  ++count_;
  sum_ += seconds;
  longest_ = std::max(longest_, seconds);
}

double Waits::quantile(double share) const {
  const auto wanted = static_cast<int64_t>(std::ceil(share * static_cast<double>(count_)));
  int64_t seen = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (seen >= wanted) return i == 0 ? 0 : kUnit * std::exp2((static_cast<double>(i) - 0.5) / kPerOctave);
  }
  return longest_;
}

Json Tally::json() const {
  const double all = static_cast<double>(std::max<int64_t>(1, invocations));
  const auto share = [&](int64_t count) { return static_cast<double>(count) / all; };
  const auto gigabyte_hours = [](double byte_seconds) { return byte_seconds / kGigabyte / 3600; };
  return {{"invocations", invocations},
          {"share_warm", share(warm)},
          {"share_thawed", share(thawed)},
          {"share_cold", share(started + rebuilt)},
          {"share_rebuilt", share(rebuilt)},
          {"share_queued", share(queued)},
          {"refused", refused},
          {"starts", starts},
          {"template_starts", template_starts},
          {"environment_starts", environment_starts},
          {"wait_mean_ms", waits.mean() * 1e3},
          {"wait_p50_ms", waits.quantile(0.5) * 1e3},
          {"wait_p99_ms", waits.quantile(0.99) * 1e3},
          {"wait_p999_ms", waits.quantile(0.999) * 1e3},
          {"wait_longest_ms", waits.longest() * 1e3},
          {"cold_share_of_functions_p75", cold_share_of_functions_p75},
          {"wasted_gb_h", gigabyte_hours(byte_seconds.total())},
          {"wasted_idle_gb_h", gigabyte_hours(byte_seconds.idle)},
          {"wasted_parked_gb_h", gigabyte_hours(byte_seconds.parked)},
          {"wasted_templates_gb_h", gigabyte_hours(byte_seconds.templates)},
          {"wasted_environments_gb_h", gigabyte_hours(byte_seconds.environments)},
          {"busy_gb_h", gigabyte_hours(busy_byte_seconds)},
          {"simulated_in_s", wall_s}};
}

}  // namespace sundog::invoke::simulation
