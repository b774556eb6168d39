// sundog-simulate: runs one synthetic day under one policy and prints its tally as JSON. `./dev bench simulate` runs
// all.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "invoke/simulation/simulator.h"

namespace sundog::invoke::simulation {
namespace {

struct Raw {
  std::string trace = "azure", policy = "sundog";
  double node_gb = 256, hours = 24;
  int64_t idle_ms = -1, keep_s = -1;
};

int run(const Raw& raw, TraceOptions shape, SimulationOptions options) {
  const auto found = shape_from(raw.trace);
  if (!found.ok()) {
    std::fprintf(stderr, "%s\n", found.error().text().c_str());
    return 2;
  }
  shape.shape = *found;
  shape.hours = raw.hours;
  options.node_bytes = static_cast<int64_t>(raw.node_gb * (1LL << 30));
  if (raw.policy == "sundog") {
    options.keeping = Keeping::sundog;
    if (raw.idle_ms >= 0) options.policy.idle_instance = Millis{raw.idle_ms};
    if (raw.keep_s >= 0) options.policy.keep_most = Millis{raw.keep_s * 1000};
  } else {
    options.keeping = raw.policy == "fixed" ? Keeping::fixed : Keeping::histogram;
    options.policy.parked_most = 0;
    options.policy.idle_instance =
        std::chrono::duration_cast<Millis>(std::chrono::duration<double>(options.keep_alive_s));
  }
  // The traces are about keeping: nobody is refused for their number, and starts do not wait for each other.
  options.policy.account_concurrency = options.policy.starts_at_once = 1 << 30;
  options.policy.queue_length = 1 << 30;
  options.policy.queue_patience = Millis{10'000};
  Trace trace(shape);
  Json json = simulate(trace, options).json();
  json["trace"] = name(shape.shape);
  json["policy"] = raw.policy;
  json["functions"] = shape.functions;
  json["environments"] = trace.environments();
  json["hours"] = shape.hours;
  json["nodes"] = options.nodes;
  json["node_gb"] = raw.node_gb;
  json["process_ms"] = options.process_s * 1e3;
  json["seed"] = shape.seed;
  std::printf("%s\n", json.dump().c_str());
  return 0;
}

int main(int count, char** words) {
  Raw raw;
  TraceOptions shape;
  SimulationOptions options;
  CLI::App cli{"Simulates a day of invocations."};
  cli.add_option("--trace", raw.trace, "azure, zipf, diurnal, bursts, regular or rare");
  cli.add_option("--policy", raw.policy)->check(CLI::IsMember({"sundog", "fixed", "histogram"}));
  cli.add_option("--functions", shape.functions)->check(CLI::PositiveNumber);
  cli.add_option("--invocations", shape.invocations, "About so many")->check(CLI::PositiveNumber);
  cli.add_option("--per-environment", shape.per_environment, "Functions")->check(CLI::PositiveNumber);
  cli.add_option("--hours", raw.hours)->check(CLI::PositiveNumber);
  cli.add_option("--warm-up-hours", shape.warm_up_hours, "Before them, not counted")->check(CLI::NonNegativeNumber);
  cli.add_option("--seed", shape.seed);
  cli.add_option("--nodes", options.nodes)->check(CLI::Range(1, 1000));
  cli.add_option("--node-gb", raw.node_gb, "Memory of each");
  cli.add_option("--process-s", options.process_s, "A cold start of the policies that keep instances alive");
  cli.add_option("--fork-s", options.fork_s, "A start from a template");
  cli.add_option("--idle-ms", raw.idle_ms, "Until an idle instance is parked");
  cli.add_option("--keep-s", raw.keep_s, "The longest that anything is kept");
  cli.add_option("--worth", options.policy.worth, "Megabyte-seconds for a second of waiting");
  cli.add_option("--parked", options.policy.parked_most, "Of one version");
  cli.add_option("--environment-keep-s", options.environment_keep_s);
  CLI11_PARSE(cli, count, words);
  return run(raw, shape, options);
}

}  // namespace
}  // namespace sundog::invoke::simulation

int main(int count, char** words) {
  return sundog::invoke::simulation::main(count, words);
}
