// Function logs: what handlers print and Lambda's START / END / REPORT lines, bounded per function.
//
// Ownership   one per server, created in app/; owns its folder.
// Threads     append() on the loop thread (buffered, written behind by the pool); read() and follow() on any thread.
// Bounds      `bytes_per_function` on disk in two segments; older lines are dropped whole. A flood is cut per
//             invocation with a line that says how much was dropped. Files are open, and last lines in memory, for the
//             64 functions that were used last.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/pool.h"
#include "base/result.h"

namespace sundog::invoke {

struct LogLine {
  int64_t sequence = 0;  // growing per function
  WallTime time;
  std::string request_id;
  std::string text;  // without the line end
};

class FunctionLogs {
 public:
  struct Options {
    Path folder;
    int64_t bytes_per_function = 10 << 20;
    int64_t bytes_per_invocation = 1 << 20;
  };
  virtual ~FunctionLogs() = default;
  virtual void append(const std::string& tenant, const std::string& function, const std::string& request_id,
                      std::string_view text) = 0;
  // The invocation has ended: says how much of its output was dropped, then appends `text` (its END and REPORT lines)
  // whatever the bounds, and forgets what it counted.
  virtual void end(const std::string& tenant, const std::string& function, const std::string& request_id,
                   std::string_view text) = 0;
  // Lines with sequence > `after`, oldest first, at most `limit`; also those not yet on disk.
  virtual Result<std::vector<LogLine>> read(const std::string& tenant, const std::string& function, int64_t after,
                                            size_t limit) const = 0;
  // Calls `on_new` (any thread) after lines were appended to that function. Dropping the token ends it:
  // no call happens after the drop returns.
  using Token = std::shared_ptr<void>;
  virtual Token follow(const std::string& tenant, const std::string& function, std::function<void()> on_new) = 0;
  virtual void remove(const std::string& tenant, const std::string& function) = 0;
};

std::unique_ptr<FunctionLogs> open_function_logs(Clock& clock, Pool& pool, FunctionLogs::Options options);

}  // namespace sundog::invoke
