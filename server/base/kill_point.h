// Kill points: names of moments at which a fault test has the server die as by kill -9.
//
// Threads     any. Costs one comparison with a constant when SUNDOG_KILL_POINT is not set, which is always but in
// tests/faults. Use         kill_point("invoke.before_ledger"): the process that was started with
// SUNDOG_KILL_POINT=invoke.before_ledger[:N]
//             sends itself SIGKILL the Nth time (default: first) it comes by.
#pragma once

#include <string_view>

namespace sundog {

void kill_point(std::string_view name);

}  // namespace sundog
