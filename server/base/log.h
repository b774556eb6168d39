// Log: structured JSON lines on standard error. One Log per server, created in app/, passed by reference.
//
// Threads     every function may be called from any thread.
// Use         an error is logged once, where it is handled.
#pragma once

#include <memory>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace sundog {

enum class Level { debug, info, warning, error };

class Log {
 public:
  // Lines below `least` are dropped.
  explicit Log(Level least);
  Log(Log&&) noexcept = default;
  ~Log();
  // {"time":…,"level":…,"event":"instance_started", …fields}
  void write(Level level, std::string_view event, const Json& fields = Json::object());
  void info(std::string_view event, const Json& fields = Json::object()) { write(Level::info, event, fields); }
  void warn(std::string_view event, const Json& fields = Json::object()) { write(Level::warning, event, fields); }
  void error(std::string_view event, const Error& error, Json fields = Json::object());
  // A log that drops everything, for tests.
  static Log& none();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sundog
