// Simulator: a day of invocations on simulated nodes that act on decide(), the very code of the server.
//
// The policies to compare with are run by the same code with other numbers: keep-alive is an idle time of ten minutes
// and no parking; the histogram policy gives each function its own idle time, and provisions an instance when one is
// expected.
//
// Threads     one thread; the same options give the same tally.
#pragma once

#include "invoke/scaling.h"
#include "invoke/simulation/tally.h"
#include "invoke/simulation/trace.h"

namespace sundog::invoke::simulation {

enum class Keeping { sundog, fixed, histogram };

struct SimulationOptions {
  Keeping keeping = Keeping::sundog;
  ScalingPolicy policy;
  int nodes = 32;
  int64_t node_bytes = 256LL << 30;
  double queue_limit_s = 10;
  // What the steps of a start take: assumptions near what ./dev bench start and density measure
  // (docs/design/scaling.md).
  double fork_s = 0.008;       // from a function's template, scikit-learn loaded
  double thaw_s = 0.0002;      // first call of a parked instance that has served before
  double ahead_s = 0.0015;     // and of one forked ahead, which has not
  double environment_s = 2.0;  // an environment's template
  double process_s = 0.008;    // a cold start of the policies that keep instances alive
  int64_t environment_bytes = 78LL << 20;
  int64_t template_bytes = 7LL << 20;  // a function's, beside its environment's
  double keep_alive_s = 600;
  double environment_keep_s = 2400;  // after the last template that was forked from it
};

Tally simulate(Trace& trace, const SimulationOptions& options);

}  // namespace sundog::invoke::simulation
