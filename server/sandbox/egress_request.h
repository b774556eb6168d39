// What a program asks of the proxy that is its way out: CONNECT, or a plain request with a whole URL.
//
// Threads     plain values and pure functions.
// Failure     invalid_argument for what is no such request, too_large for a head over the limit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sundog::sandbox {

inline constexpr size_t kMaxEgressHead = 16 << 10;

struct EgressRequest {
  bool tunnel = false;  // CONNECT
  std::string host;     // as written, an IPv6 address without its brackets
  uint16_t port = 0;
  std::string head;  // what the target gets first: the request with a path only, of one request a connection
  size_t bytes = 0;  // of the head, as it came
};

// nullopt: more bytes are needed.
Result<std::optional<EgressRequest>> parse_egress_request(std::string_view bytes);

}  // namespace sundog::sandbox
