// Options: how a server was asked to run, from the command line and the environment.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/result.h"

namespace sundog::app {

struct Options {
  Path data;
  std::string host = "127.0.0.1";
  uint16_t port = 9000;
  Path launcher, data_worker, runtime_api, runtime, native, uv, pyarrow;
  std::vector<std::pair<std::string, Path>> pythons;  // "3.11" → interpreter
  Level log_level = Level::info;
  bool closed_metrics = false;
  bool until_stdin_ends = false;  // stop in order when standard input, a pipe, ends: with the program that started it
  bool strict = false;            // refuse to start where the machine cannot seal an instance wholly
  Millis grace{30'000};           // how long a stopping server waits for invocations in flight
  Millis queue_limit{10'000};     // how long an invocation waits for an instance before 429
  Millis idle_instance{250}, idle_template{14'400'000}, idle_environment{2'400'000};
  int parked_most = 16;
  bool no_prebuild = false;  // templates of deployed versions are built for their first call only
  int64_t memory_mb = 0;     // for all instances; 0: 70 % of the machine's
  // Of the server's own environment: which of its kernels a mathematics library takes. With the same choice an instance
  // and a client on one machine compute the same to the bit.
  std::map<std::string, std::string> arithmetic;
};

// What main() does with its arguments: run with `options`, or print `text` and end with `status`.
struct Parsed {
  bool run = false;
  Options options;
  std::string text;
  int status = 0;
};
Parsed parse_options(int count, char** words);

}  // namespace sundog::app
