// Environments: resolved, content-addressed sets of Python packages; each built once by uv, shared by every function.
//
// Ownership   one per server, created in app/; owns the folder that they are installed in.
// Threads     every function may be called from any thread; ensure() starts a build and returns at once.
// Failure     invalid_argument (a requirement that is none) · unavailable (no uv, no such Python); a build that fails
// ends
//             as State::failed with uv's own words in `log`.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/pool.h"
#include "base/result.h"
#include "store/catalog.h"

namespace sundog::functions {

struct Environment {
  enum class State { building, ready, failed };
  std::string id;  // digest of Python version and the requirements as asked
  std::string python = "3.11";
  std::vector<std::string> packages;  // as asked, sorted
  std::vector<std::string> resolved;  // "numpy==2.3.1", …
  std::string content;                // digest of `resolved`: two environments that resolve alike share one folder
  Path folder;                        // site-packages; valid when ready
  State state = State::building;
  std::string log;  // the last 16 KB of the builder's output
  int64_t bytes = 0;
  double build_seconds = 0;
};

class Environments {
 public:
  struct Options {
    Path folder;
    Path uv;                                            // the uv program
    std::vector<std::pair<std::string, Path>> pythons;  // "3.11" → interpreter
    Millis build_timeout{600'000};
  };
  virtual ~Environments() = default;
  virtual Result<Environment> ensure(const std::string& python, std::vector<std::string> packages) = 0;
  virtual Result<Environment> get(const std::string& id) const = 0;  // memory only: may be called on the loop thread
  // Called (any thread) when a build ends, well or not.
  virtual void on_built(std::function<void(const Environment&)> callback) = 0;
  virtual Result<Path> python(const std::string& version) const = 0;  // "3.11" → interpreter
};

// Refused if a record cannot be read: what was acknowledged does not silently disappear.
Result<std::unique_ptr<Environments>> open_environments(store::Catalog& catalog, Clock& clock, Pool& pool,
                                                        Environments::Options options);

}  // namespace sundog::functions
