// RequestParser: bytes of a connection in, one net::Request after another out. Internal to net/; Beast's parser is
// inside.
//
// Ownership   one per connection.
// Threads     plain object, one thread.
// Failure     invalid_argument (not HTTP) · too_large (header over its limit) · unsupported (a transfer coding but
// chunked)
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/http.h"

namespace sundog::net {

class RequestParser {
 public:
  explicit RequestParser(int64_t header_limit);
  ~RequestParser();
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  void reset();  // for the next request
  // Consumes what it can of `input` and returns how much. Stops once after the header, then after the body.
  Result<size_t> feed(std::string_view input);

  bool header_done() const;
  bool done() const;
  // Once the header is done:
  Request& request();
  std::string& body();             // the body's bytes fed so far, decoded; the caller may take them
  bool has_body() const;           // chunked, or a Content-Length above 0
  int64_t content_length() const;  // -1: chunked
  const Pairs& trailers() const;   // names in lower case; there once the body is done
  bool expects_continue() const;
  bool keep_alive() const;
  bool http_1_0() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sundog::net
