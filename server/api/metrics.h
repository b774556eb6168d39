// Metrics: what /metrics shows: requests by route and status, their durations, and the gauges that other modules give.
//
// Ownership   one per server, in Api.
// Threads     any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"

namespace sundog::api {

// One value at the moment of a scrape.
struct Sample {
  enum class Kind { gauge, counter };
  std::string name;  // "sundog_instances"
  std::string help;
  std::vector<std::pair<std::string, std::string>> labels;
  double value = 0;
  Kind kind = Kind::gauge;
};

class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Of one route, kept by whoever counts: counting needs no look-up by text. Lives as long as the Metrics.
  class Route;
  Route& route(const std::string& method, const std::string& pattern);
  static void count(Route& route, int status, Duration took);

  // Called at each scrape, on the thread that scrapes.
  void add_samples(std::function<std::vector<Sample>()> samples);

  std::string text() const;  // Prometheus' text format

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sundog::api
