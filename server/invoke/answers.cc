#include "invoke/answers.h"

#include <cmath>
#include <cstdio>

#include "base/json.h"

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

// std::strsignal's texts are not Lambda's.
std::string signal_name(int signal) {
  switch (signal) {
    case 4:
      return "illegal instruction";
    case 6:
      return "aborted";
    case 7:
      return "bus error";
    case 8:
      return "floating point exception";
    case 9:
      return "killed";
    case 11:
      return "segmentation fault";
    case 15:
      return "terminated";
    case 31:
      return "bad system call";
    default:
      return "signal " + std::to_string(signal);
  }
}

std::string how_it_ended(const sandbox::Outcome& outcome) {
  if (outcome.signal != 0) return "signal: " + signal_name(outcome.signal);
  return "exit status " + std::to_string(outcome.exit_status < 0 ? 1 : outcome.exit_status);
}

}  // namespace

Failure failure_of(const sandbox::Outcome& outcome, bool timed_out, const std::string& request_id, int timeout_s,
                   int memory_mb) {
  const std::string begin = "RequestId: " + request_id + " Error: ";
  if (timed_out) {
    return {"Sandbox.Timedout", begin + "Task timed out after " + fixed(timeout_s) + " seconds", "timeout"};
  }
  switch (outcome.kind) {
    case sandbox::Outcome::Kind::out_of_memory: {
      const double peak = static_cast<double>(outcome.consumption.peak_memory_bytes) / (1 << 20);
      return {"Runtime.OutOfMemory",
              begin + "Runtime exited with error: signal: killed (memory size " + std::to_string(memory_mb) +
                  " MB, used " + megabytes(peak) + " MB)",
              "out_of_memory"};
    }
    case sandbox::Outcome::Kind::broken:
      return {"Runtime.InvalidResponse", begin + outcome.detail, "crash"};
    case sandbox::Outcome::Kind::killed:
      return {"Runtime.ExitError", begin + "Runtime exited with error: signal: killed", "crash"};
    default:
      return {"Runtime.ExitError", begin + "Runtime exited with error: " + how_it_ended(outcome), "crash"};
  }
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
