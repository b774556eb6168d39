#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "base/clock.h"

namespace sundog {
namespace {
std::string_view level_name(Level level) {
  switch (level) {
    case Level::debug:
      return "debug";
    case Level::info:
      return "info";
    case Level::warning:
      return "warning";
    case Level::error:
      return "error";
  }
  return "error";
}
}  // namespace

struct Log::State {
  Level least;
  bool silent = false;
  std::shared_ptr<spdlog::logger> logger;
};

Log::Log(Level least) : state_(std::make_unique<State>()) {
  state_->least = least;
  state_->logger = std::make_shared<spdlog::logger>("sundog", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  state_->logger->set_pattern("%v");
  state_->logger->set_level(spdlog::level::trace);
  state_->logger->flush_on(spdlog::level::trace);
}

Log::~Log() = default;

void Log::write(Level level, std::string_view event, const Json& fields) {
  if (state_->silent || level < state_->least) return;
  Json line = {{"time", iso_time(SystemClock{}.wall())}, {"level", level_name(level)}, {"event", event}};
  line.update(fields);
  state_->logger->log(spdlog::level::info, "{}", dump(line));
}

void Log::error(std::string_view event, const Error& error, Json fields) {
  fields["code"] = name(error.code);
  fields["message"] = error.message;
  fields["where"] = std::string(error.where.file_name()) + ":" + std::to_string(error.where.line());
  write(Level::error, event, fields);
}

Log& Log::none() {
  static Log log = [] {
    Log silent(Level::error);
    silent.state_->silent = true;
    return silent;
  }();
  return log;
}

}  // namespace sundog
