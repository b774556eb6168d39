// Random: numbers that are the same everywhere for the same seed (the standard library's distributions are not).
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace sundog::invoke::simulation {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ULL + 0x1234567) {}

  // Splitmix64.
  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  double uniform() { return (static_cast<double>(next() >> 11) + 0.5) / 9007199254740992.0; }  // in (0, 1)
  double exponential(double mean) { return -mean * std::log(uniform()); }
  double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(2 * std::numbers::pi * uniform()); }
  double log_normal(double mu, double sigma) { return std::exp(mu + sigma * normal()); }
  double burr(double c, double k, double scale) { return scale * std::pow(std::pow(1 - uniform(), -1 / k) - 1, 1 / c); }

 private:
  uint64_t state_;
};

}  // namespace sundog::invoke::simulation
