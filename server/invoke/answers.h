// Answers: Lambda's words for what happened: error payloads and the START, END and REPORT lines. Pure text.
#pragma once

#include <string>

#include "meter/usage.h"
#include "sandbox/sandbox.h"

namespace sundog::invoke {

// Bytes that an answer may have, as on Lambda: whole, and streamed.
inline constexpr int64_t kAnswerLimit = 6'291'556;
inline constexpr int64_t kStreamLimit = 200LL << 20;

struct Failure {
  std::string type;  // "Sandbox.Timedout", "Runtime.OutOfMemory", "Runtime.ExitError", …
  std::string message;
  std::string outcome;  // of the usage record
};

// What killed an instance, in Lambda's words; `outcome.kind` is none of ok and handler_error, unless it timed out.
Failure failure_of(const sandbox::Outcome& outcome, bool timed_out, const std::string& request_id, int timeout_s,
                   int memory_mb);
// What it streamed was over the limit.
Failure too_large_failure(const std::string& request_id, int64_t bytes, int64_t limit);
std::string failure_payload(const Failure& failure);
std::string init_failure_payload(const sandbox::InitFailure& failure, const std::string& request_id);

std::string start_line(const std::string& request_id, const std::string& version);
std::string end_line(const std::string& request_id);
// `failure_type` is "" for an answer, also an error of the handler's own.
std::string report_line(const meter::UsageRecord& usage, const std::string& failure_type);
std::string init_report_line(Duration init, const sandbox::InitFailure& failure);

}  // namespace sundog::invoke
