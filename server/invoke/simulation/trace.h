// Trace: a synthetic day of invocations. Which functions there are, and when each is called next.
//
// Shaped after what Shahrad et al. published of Azure Functions ("Serverless in the Wild", USENIX ATC 2020): eight
// orders of magnitude between rates; 45 % of the applications called at most once an hour and 81 % at most once a
// minute, the others making nearly all calls; memory as a Burr distribution (c 11.652, k 0.221, λ 107 MB); mean run
// times as a log-normal one (-0.38, 2.36 in seconds; here cut at 10 s); some called by the clock, many in bursts.
//
// Threads     a value; the same seed gives the same trace.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "invoke/simulation/random.h"

namespace sundog::invoke::simulation {

enum class Shape { azure, zipf, diurnal, bursts, regular, rare };
Result<Shape> shape_from(const std::string& name);
std::string name(Shape shape);

struct TraceOptions {
  Shape shape = Shape::azure;
  int functions = 10'000;
  int64_t invocations = 10'000'000;  // about
  double hours = 24;
  double warm_up_hours = 24;  // before them, with as many calls; not counted
  int per_environment = 40;   // functions over one environment, on average
  uint64_t seed = 1;
};

enum class Pattern : uint8_t { poisson, regular, bursts };

struct FunctionTraits {
  double rate = 0;  // calls a second, on average over the day
  Pattern pattern = Pattern::poisson;
  double phase = 0;  // of its day, or of its period: 0 to 1
  double run_s = 0;  // mean run time
  int64_t memory_bytes = 0;
  int64_t own_bytes = 0;  // that an instance holds beside what it shares with its template
  double init_s = 0;      // of its template, over its environment's
  int environment = 0;
};

class Trace {
 public:
  explicit Trace(const TraceOptions& options);

  const std::vector<FunctionTraits>& functions() const { return functions_; }
  double warm_up_seconds() const { return options_.warm_up_hours * 3600; }
  double seconds() const { return warm_up_seconds() + options_.hours * 3600; }
  int environments() const { return environments_; }
  // The first call after `now`, in seconds; at or after seconds(): none any more.
  double next_call(int function, double now);
  // Of its next run. Calls and run times are the same whatever the policy.
  double run_time(int function) {
    const auto i = static_cast<size_t>(function);
    return functions_[i].run_s * runs_[i].log_normal(0, 0.3);
  }

 private:
  void scale(double total);
  double next_burst(int function, double now);

  TraceOptions options_;
  Random random_;
  std::vector<FunctionTraits> functions_;
  std::vector<Random> calls_, runs_;  // of each function
  std::vector<int> left_in_burst_;
  int environments_ = 1;
};

}  // namespace sundog::invoke::simulation
