// AWS Signature Version 4 in the Authorization header, as the server checks it.
//
// Threads     pure functions.
// Failure     unauthenticated; the message says what did not fit and never what would have.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "net/http.h"

namespace sundog::api {

inline constexpr std::string_view kSigv4Algorithm = "AWS4-HMAC-SHA256";
inline constexpr std::string_view kUnsignedPayload = "UNSIGNED-PAYLOAD";

// The parts of an Authorization header.
struct Sigv4 {
  std::string key_id, date, region, service;  // of Credential=KEY/20260101/REGION/SERVICE/aws4_request
  std::vector<std::string> signed_headers;
  std::string signature;
  std::string scope() const { return date + "/" + region + "/" + service + "/aws4_request"; }
};
Result<Sigv4> parse_sigv4(std::string_view authorization);

// What AWS's documents call the canonical request. `payload_hash`: hex, or UNSIGNED-PAYLOAD.
std::string canonical_request(const net::Request& request, const std::vector<std::string>& signed_headers,
                              std::string_view payload_hash);
std::string sigv4_signature(const Sigv4& parts, std::string_view amz_date, std::string_view canonical_request,
                            std::string_view secret);

// True if the signature is right: `service` is ours, the time within `skew` of `now`, host and every x-amz-* header
// signed.
struct Sigv4Check {
  std::string_view secret;
  std::string_view service;
  std::string_view payload_hash;
  WallTime now;
  Duration skew = std::chrono::minutes(5);
};
Status verify_sigv4(const net::Request& request, const Sigv4& parts, const Sigv4Check& check);

}  // namespace sundog::api
