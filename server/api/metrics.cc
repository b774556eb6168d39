#include "api/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <deque>
#include <map>
#include <mutex>

namespace sundog::api {

class Metrics::Route {
 public:
  Route(prometheus::Family<prometheus::Counter>& requests, prometheus::Family<prometheus::Histogram>& durations,
        std::string method, std::string pattern)
      : requests_(requests),
        method_(std::move(method)),
        pattern_(std::move(pattern)),
        seconds_(durations.Add({{"method", method_}, {"route", pattern_}},
                               prometheus::Histogram::BucketBoundaries{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                                       0.1, 0.25, 0.5, 1, 2.5, 10, 30, 120, 900})) {}

  void count(int status, double seconds) {
    counter(status).Increment();
    seconds_.Observe(seconds);
  }

 private:
  prometheus::Counter& counter(int status) {
    const std::lock_guard lock(mutex_);
    auto& counter = by_status_[status];
    if (counter == nullptr) {
      counter = &requests_.Add({{"method", method_}, {"route", pattern_}, {"status", std::to_string(status)}});
    }
    return *counter;
  }

  prometheus::Family<prometheus::Counter>& requests_;
  const std::string method_, pattern_;
  prometheus::Histogram& seconds_;
  std::mutex mutex_;
  std::map<int, prometheus::Counter*> by_status_;
};

struct Metrics::State {
  prometheus::Registry registry;
  prometheus::Family<prometheus::Counter>& requests = prometheus::BuildCounter()
                                                          .Name("sundog_http_requests_total")
                                                          .Help("Requests answered, by route and status.")
                                                          .Register(registry);
  prometheus::Family<prometheus::Histogram>& durations =
      prometheus::BuildHistogram()
          .Name("sundog_http_request_duration_seconds")
          .Help("From the request's arrival to its answer, or to the end of a streamed one.")
          .Register(registry);
  mutable std::mutex mutex;
  std::deque<Route> routes;                                        // guarded by mutex; stable addresses
  std::vector<std::function<std::vector<Sample>()>> more_samples;  // guarded by mutex
};

Metrics::Metrics() : state_(std::make_unique<State>()) {}
Metrics::~Metrics() = default;

Metrics::Route& Metrics::route(const std::string& method, const std::string& pattern) {
  const std::lock_guard lock(state_->mutex);
  return state_->routes.emplace_back(state_->requests, state_->durations, method, pattern);
}

void Metrics::count(Route& route, int status, Duration took) {
  route.count(status, std::chrono::duration<double>(took).count());
}

void Metrics::add_samples(std::function<std::vector<Sample>()> samples) {
  const std::lock_guard lock(state_->mutex);
  state_->more_samples.push_back(std::move(samples));
}

std::string Metrics::text() const {
  std::vector<std::function<std::vector<Sample>()>> sources;
  {
    const std::lock_guard lock(state_->mutex);
    sources = state_->more_samples;
  }
  auto families = state_->registry.Collect();
  std::map<std::string, prometheus::MetricFamily> more;  // a family's samples must stand together
  for (const auto& source : sources) {
    for (const auto& sample : source()) {
      auto& family = more[sample.name];
      const bool gauge = sample.kind == Sample::Kind::gauge;
      family.name = sample.name;
      family.help = sample.help;
      family.type = gauge ? prometheus::MetricType::Gauge : prometheus::MetricType::Counter;
      auto& metric = family.metric.emplace_back();
      for (const auto& [name, value] : sample.labels) metric.label.push_back({name, value});
      (gauge ? metric.gauge.value : metric.counter.value) = sample.value;
    }
  }
  for (auto& [name, family] : more) families.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace sundog::api
