// Server: owns every part in the order of construction, wires them, runs, drains.
//
// Ownership   one per process, created by main(); destroying it ends everything it started.
// Threads     open(), run() and the destructor on the main thread, which becomes the loop thread.
// Failure     open() says in one sentence why the server cannot start (folder taken, port taken, launcher missing).
#pragma once

#include <memory>

#include "app/options.h"
#include "base/result.h"

namespace sundog::app {

class Server {
 public:
  static Result<std::unique_ptr<Server>> open(const Options& options);
  virtual ~Server() = default;
  // Until SIGTERM or SIGINT and what follows of it; gives the process's exit status.
  virtual int run() = 0;
};

}  // namespace sundog::app
