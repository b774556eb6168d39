#include "api/authenticate.h"

#include <algorithm>

#include "api/errors.h"
#include "api/sigv4.h"
#include "base/crypto.h"

namespace sundog::api {
namespace {

AuthFailure refused(std::string_view exception, std::string message, std::string hint = {}) {
  return {fail(Code::unauthenticated, std::move(message), std::move(hint)), exception};
}

constexpr std::string_view kBearer = "Bearer ";

bool begins_with_no_case(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() && std::ranges::equal(text.substr(0, prefix.size()), prefix,
                                                            [](char a, char b) { return (a | 0x20) == (b | 0x20); });
}

}  // namespace

net::Response auth_failure_response(const AuthFailure& failure, ErrorShape shape) {
  if (shape == ErrorShape::sundog) return error_response(failure.error, shape);
  return lambda_error_response(403, failure.exception, failure.error.text());
}

std::variant<Principal, AuthFailure> Authenticator::check(const net::Request& request, Body body) const {
  const auto authorization = request.header("authorization");
  if (authorization.empty()) {
    return refused("MissingAuthenticationTokenException", "The request has no key.",
                   "Send \"Authorization: Bearer sk-…\" or sign it with a key's id and secret; "
                   "sundog keys create makes one.");
  }
  if (authorization.starts_with(kSigv4Algorithm)) return check_signature(request, body);
  if (!begins_with_no_case(authorization, kBearer)) {
    return refused("IncompleteSignatureException", "The Authorization header is neither Bearer nor AWS4-HMAC-SHA256.");
  }
  auto principal = keys_.by_token(authorization.substr(kBearer.size()));
  if (!principal) {
    return refused("UnrecognizedClientException", "The token is not that of a key, or its key was revoked.",
                   "An admin makes a new one with sundog keys create.");
  }
  return *std::move(principal);
}

std::variant<Principal, AuthFailure> Authenticator::check_signature(const net::Request& request, Body body) const {
  auto parts = parse_sigv4(request.header("authorization"));
  if (!parts.ok()) return AuthFailure{std::move(parts).error(), "IncompleteSignatureException"};
  auto signer = keys_.by_id(parts->key_id);
  if (!signer) {
    return refused("UnrecognizedClientException",
                   "There is no key with the id that signed this request, or it was revoked.",
                   "An admin makes a new one with sundog keys create.");
  }
  const auto announced = request.header("x-amz-content-sha256");
  if (body == Body::streamed && announced != kUnsignedPayload) {
    return refused("InvalidSignatureException", "A streamed body cannot be checked against a signature.",
                   "Send x-amz-content-sha256: UNSIGNED-PAYLOAD, or the key's bearer token.");
  }
  if (body == Body::coming) return std::move(signer->principal);
  const auto hash = body == Body::streamed ? std::string(kUnsignedPayload) : sha256_hex(request.body);
  if (!announced.empty() && announced != hash) {
    return refused("InvalidSignatureException", "The body is not the one that x-amz-content-sha256 announces.");
  }
  const auto status = verify_sigv4(
      request, *parts, {.secret = signer->secret, .service = "lambda", .payload_hash = hash, .now = clock_.wall()});
  if (!status.ok()) return AuthFailure{status.error(), "InvalidSignatureException"};
  return std::move(signer->principal);
}

}  // namespace sundog::api
