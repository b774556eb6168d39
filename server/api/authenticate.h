// Authenticator: who sends a request, by bearer token or AWS Signature V4.
//
// Ownership   made by Api over its Keys.
// Threads     any thread; memory only.
#pragma once

#include <string_view>
#include <variant>

#include "api/keys.h"
#include "api/router.h"
#include "base/clock.h"
#include "base/result.h"
#include "net/http.h"

namespace sundog::api {

// Why not; `exception` is Lambda's name for it.
struct AuthFailure {
  Error error;
  std::string_view exception;
};
net::Response auth_failure_response(const AuthFailure& failure, ErrorShape shape);

class Authenticator {
 public:
  enum class Body {
    complete,  // in request.body: a signature must cover it
    coming,    // not here yet: what can be told from the header is; complete must follow
    streamed,  // never here whole: a signature must be over UNSIGNED-PAYLOAD
  };

  Authenticator(const Keys& keys, const Clock& clock) : keys_(keys), clock_(clock) {}
  std::variant<Principal, AuthFailure> check(const net::Request& request, Body body) const;

 private:
  std::variant<Principal, AuthFailure> check_signature(const net::Request& request, Body body) const;

  const Keys& keys_;
  const Clock& clock_;
};

}  // namespace sundog::api
