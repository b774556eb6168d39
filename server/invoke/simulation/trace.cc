#include "invoke/simulation/trace.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace sundog::invoke::simulation {
namespace {

struct Named {
  Shape shape;
  const char* name;
};
constexpr std::array kShapes = {Named{Shape::azure, "azure"},     Named{Shape::zipf, "zipf"},
                                Named{Shape::diurnal, "diurnal"}, Named{Shape::bursts, "bursts"},
                                Named{Shape::regular, "regular"}, Named{Shape::rare, "rare"}};

constexpr double kDay = 86'400;
constexpr double kSwing = 0.8;        // of a diurnal function: from a fifth of its mean to nearly twice
constexpr int kCallsInBurst = 20;     // on average
constexpr double kWithinBurst = 0.5;  // seconds between them, on average
constexpr double kLongestRun = 10;
constexpr double kMegabyte = 1 << 20;

// Calls a day. Log-normal through two published points: 45 % are called at most once an hour, 81 % at most once a
// minute; the most popular ones are cut so that the whole fits the number of calls that was asked for.
double azure_rate(Random& random) {
  const double hour = std::log(24), minute = std::log(1440);
  const double z45 = -0.1257, z81 = 0.8779;
  const double sigma = (minute - hour) / (z81 - z45);
  return random.log_normal(hour - sigma * z45, sigma);
}

Pattern pattern_of(Shape shape, Random& random) {
  const double dice = random.uniform();
  if (shape == Shape::regular) return Pattern::regular;
  if (shape == Shape::bursts) return dice < 0.8 ? Pattern::bursts : Pattern::poisson;
  if (shape == Shape::zipf) return Pattern::poisson;
  return dice < 0.2 ? Pattern::regular : dice < 0.6 ? Pattern::bursts : Pattern::poisson;
}

int64_t memory_size(Random& random) {
  const double megabytes = std::clamp(random.burr(11.652, 0.221, 107.083), 128.0, 1024.0);
  return static_cast<int64_t>(std::ceil(megabytes / 64) * 64 * kMegabyte);
}

}  // namespace

Result<Shape> shape_from(const std::string& name) {
  for (const auto& one : kShapes) {
    if (name == one.name) return one.shape;
  }
  return fail(Code::invalid_argument, "There is no trace \"" + name + "\".",
              "It is azure, zipf, diurnal, bursts, regular or rare.");
}

std::string name(Shape shape) {
  const auto* found =
      std::find_if(kShapes.begin(), kShapes.end(), [&](const Named& one) { return one.shape == shape; });
  return found->name;
}

Trace::Trace(const TraceOptions& options) : options_(options), random_(options.seed) {
  environments_ = std::max(1, options.functions / options.per_environment);
  for (int i = 0; i < options.functions; ++i) {
    FunctionTraits one;
    const double rank = i + 1.0;
    one.rate = options.shape == Shape::zipf   ? 1 / rank
               : options.shape == Shape::rare ? random_.log_normal(std::log(12), 1.5)
                                              : azure_rate(random_);
    one.pattern = pattern_of(options.shape, random_);
    one.phase = random_.uniform();
    one.run_s = std::min(kLongestRun, random_.log_normal(-0.38, 2.36));
    one.memory_bytes = memory_size(random_);
    one.own_bytes =
        std::min(one.memory_bytes, static_cast<int64_t>(random_.log_normal(std::log(4.5), 0.6) * kMegabyte));
    one.init_s = random_.log_normal(std::log(0.15), 0.7);
    // Some environments are shared by many functions, most by few.
    one.environment = static_cast<int>(environments_ * std::pow(random_.uniform(), 1.5));
    functions_.push_back(one);
    calls_.emplace_back(random_.next());
    runs_.emplace_back(random_.next());
  }
  left_in_burst_.assign(functions_.size(), 0);
  if (options.shape != Shape::rare) scale(static_cast<double>(options.invocations) / (options.hours * 3600));
  for (auto& one : functions_) {
    if (options.shape == Shape::rare) one.rate /= kDay;
  }
}

// To `total` calls a second: Zipf's by a factor, Azure's by cutting the most popular.
void Trace::scale(double total) {
  const auto sum = [&](double cut) {
    return std::accumulate(functions_.begin(), functions_.end(), 0.0,
                           [&](double so_far, const FunctionTraits& one) { return so_far + std::min(one.rate, cut); });
  };
  if (options_.shape == Shape::zipf) {
    const double factor = total / sum(1e18);
    for (auto& one : functions_) one.rate *= factor;
    return;
  }
  for (auto& one : functions_) one.rate /= kDay;
  double low = 0, high = 1e9;
  for (int i = 0; i < 200; ++i) {
    const double middle = (low + high) / 2;
    (sum(middle) < total ? low : high) = middle;
  }
  for (auto& one : functions_) one.rate = std::min(one.rate, high);
}

double Trace::next_burst(int function, double now) {
  const auto& one = functions_[static_cast<size_t>(function)];
  auto& random = calls_[static_cast<size_t>(function)];
  int& left = left_in_burst_[static_cast<size_t>(function)];
  if (left > 0) {
    --left;
    return now + random.exponential(kWithinBurst);
  }
  left = static_cast<int>(std::lround(random.exponential(kCallsInBurst - 1)));
  const double between = std::max(1.0, kCallsInBurst / one.rate - kCallsInBurst * kWithinBurst);
  return now + random.exponential(between);
}

double Trace::next_call(int function, double now) {
  const auto& one = functions_[static_cast<size_t>(function)];
  auto& random = calls_[static_cast<size_t>(function)];
  if (one.pattern == Pattern::regular) {
    const double period = 1 / one.rate;
    if (now <= 0) return one.phase * period;
    return now + period * (1 + 0.01 * (random.uniform() - 0.5));
  }
  if (one.pattern == Pattern::bursts) return next_burst(function, now);
  if (options_.shape != Shape::diurnal) return now + random.exponential(1 / one.rate);
  // Thinned from its highest rate.
  while (true) {
    now += random.exponential(1 / (one.rate * (1 + kSwing)));
    const double wave = 1 + kSwing * std::sin(2 * std::numbers::pi * (now / kDay + 0.1 * one.phase));
    if (now >= seconds() || random.uniform() * (1 + kSwing) < wave) return now;
  }
}

}  // namespace sundog::invoke::simulation
