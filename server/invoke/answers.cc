#include "invoke/answers.h"

#include <cmath>
#include <csignal>
#include <cstdio>

#include "base/json.h"
#include "sandbox/endings.h"

namespace sundog::invoke {
namespace {

std::string fixed(double value) {
  char text[48];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

std::string megabytes(double value) {
  return std::to_string(static_cast<int64_t>(std::ceil(value)));
}

}  // namespace

Failure failure_of(const sandbox::Outcome& outcome, bool timed_out, const std::string& request_id, int timeout_s,
                   int memory_mb) {
  const std::string begin = "RequestId: " + request_id + " Error: ";
  if (timed_out) {
    return {"Sandbox.Timedout", begin + "Task timed out after " + fixed(timeout_s) + " seconds", "timeout"};
  }
  switch (outcome.kind) {
    case sandbox::Outcome::Kind::out_of_memory:
      return {"Runtime.OutOfMemory",
              begin + sandbox::how_memory_ended_it(int64_t{memory_mb} << 20, outcome.consumption.peak_memory_bytes),
              "out_of_memory"};
    case sandbox::Outcome::Kind::broken:
      return {"Runtime.InvalidResponse", begin + outcome.detail, "crash"};
    case sandbox::Outcome::Kind::killed:
      return {"Runtime.ExitError", begin + sandbox::how_it_ended(-1, SIGKILL), "crash"};
    default:
      return {"Runtime.ExitError", begin + sandbox::how_it_ended(outcome.exit_status, outcome.signal), "crash"};
  }
}

Failure too_large_failure(const std::string& request_id, int64_t bytes, int64_t limit) {
  return {"Function.ResponseSizeTooLarge",
          "RequestId: " + request_id + " Error: Response payload size (" + std::to_string(bytes) +
              " bytes) exceeded maximum allowed payload size (" + std::to_string(limit) + " bytes).",
          "handler_error"};
}

std::string failure_payload(const Failure& failure) {
  return dump(Json{{"errorType", failure.type}, {"errorMessage", failure.message}});
}

std::string init_failure_payload(const sandbox::InitFailure& failure, const std::string& request_id) {
  return dump(Json{{"errorMessage", failure.message},
                   {"errorType", failure.type},
                   {"requestId", request_id},
                   {"stackTrace", failure.stack}});
}

std::string start_line(const std::string& request_id, const std::string& version) {
  return "START RequestId: " + request_id + " Version: " + version;
}

std::string end_line(const std::string& request_id) {
  return "END RequestId: " + request_id;
}

std::string report_line(const meter::UsageRecord& usage, const std::string& failure_type) {
  std::string line = "REPORT RequestId: " + usage.request_id + "\tDuration: " + fixed(usage.handler_ms) +
                     " ms\tBilled Duration: " + std::to_string(usage.billed_ms) +
                     " ms\tMemory Size: " + std::to_string(usage.memory_mb) +
                     " MB\tMax Memory Used: " + megabytes(usage.peak_memory_mb) + " MB";
  if (usage.init_ms > 0) line += "\tInit Duration: " + fixed(usage.init_ms) + " ms";
  if (usage.restore_ms > 0) {
    line += "\tRestore Duration: " + fixed(usage.restore_ms) +
            " ms\tBilled Restore Duration: " + std::to_string(usage.billed_restore_ms) + " ms";
  }
  if (usage.outcome == "timeout") {
    line += "\tStatus: timeout";
  } else if (!failure_type.empty()) {
    line += "\tStatus: error\tError Type: " + failure_type;
  }
  return line;
}

std::string init_report_line(Duration init, const sandbox::InitFailure& failure) {
  return "INIT_REPORT Init Duration: " + fixed(std::chrono::duration<double, std::milli>(init).count()) +
         " ms\tPhase: init\tStatus: " + (failure.type == "Sandbox.Timedout" ? "timeout" : "error") +
         "\tError Type: " + failure.type;
}

}  // namespace sundog::invoke
