// The headers of INVOKE and RESULT, docs/formats/instance.md: two frames that every call has, so neither of them is
// JSON.
//
// Ownership   what parse_invoke_header() gives points into the bytes it was given.
// Threads     plain functions.
// Failure     invalid_argument for bytes that are no such header; any bytes are safe to parse.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "sandbox/call_layout.h"

namespace sundog::sandbox {

struct ResultHeader {
  bool ok = false;
  bool streamed = false;
  Duration handler{};
  std::optional<Duration> cpu;  // absent: other processes did the work, and their cgroup knows
};

std::string encode(const InvokeHeader& header);
std::string encode(const ResultHeader& header);
Result<InvokeHeader> parse_invoke_header(std::string_view bytes);
Result<ResultHeader> parse_result_header(std::string_view bytes);

}  // namespace sundog::sandbox
