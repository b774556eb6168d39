// Any bytes an instance may write: cut into frames without a fault, whatever the pieces they arrive in, and the headers
// of calls read from them.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "sandbox/call_headers.h"
#include "sandbox/frames.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sundog::sandbox;
  if (size < 1) return 0;
  const size_t piece = data[0] + size_t{1};
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  FrameParser parser;
  size_t taken = 0;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    parser.feed(bytes.substr(at, piece), {});
    while (true) {
      auto next = parser.next();
      if (!next.ok()) return 0;
      if (!*next) break;
      const auto& frame = **next;
      taken += kFrameHeader + frame.head.size() + frame.raw.size();
      if (taken > bytes.size() || frame.head.size() > kMaxFrameHead || frame.raw.size() > kMaxFrameRaw) abort();
      const auto invoke = parse_invoke_header(frame.head);
      if (invoke.ok() && encode(*invoke) != frame.head) abort();
      const auto result = parse_result_header(frame.head);
      if (result.ok() && (result->handler < sundog::Duration{} || encode(*result).size() != frame.head.size())) abort();
    }
  }
  return 0;
}
