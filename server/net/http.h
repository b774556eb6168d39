// HTTP/1.1 server: what a request and a response are, and what the server asks of its handler.
//
// Ownership   HttpServer is created in app/ over an AsioLoop; it owns its connections. A Responder is shared by whoever
//             answers; dropping the last reference unanswered sends 500.
// Threads     the handler is called on the loop thread and must not block; a Responder may be used from any thread.
// Limits      every size and every wait has one (Options); a client over a size gets 413 or 431, a slow one 408 or a
// close.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"

namespace sundog::net {

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct Request {
  std::string method;
  std::string target;  // as it came, "/a%20b?x=1"
  std::string path;    // percent-decoded, without the query; "." and ".." segments are refused with 400 before
  Pairs query;         // decoded, in order
  Pairs headers;       // names in lower case, in order
  std::string body;    // whole, unless body_stream is set
  // For a target whose route streams: yields the body; read it on a pool thread only (it blocks, with a deadline).
  std::shared_ptr<ByteSource> body_stream;
  std::string remote;  // "127.0.0.1:52110"

  std::string_view header(std::string_view lower_case_name) const;  // empty when absent
  std::string_view query_value(std::string_view name) const;        // empty when absent
};

struct Response {
  int status = 200;
  Pairs headers;  // Content-Length, Connection and Date are the server's (but see below)
  std::string body;
};

// A response whose body comes in pieces: chunked, or, when its headers have a Content-Length, exactly that many bytes.
// An answer to HEAD may give a Content-Length and no body. A stream dropped without finish() breaks the connection off,
// so that the client sees that the body is not whole.
class ResponseStream {
 public:
  virtual ~ResponseStream() = default;
  // Queues a piece; false when the client is gone or has read nothing for the write time-out: stop producing.
  // Blocks (off the loop thread) while more than the stream's buffer limit is unsent; never call it on the loop thread
  // with `may_block`. With `never` the limit is 64 times as high, and reaching it is false.
  enum class Wait { may_block, never };
  virtual bool write(std::string piece, Wait wait = Wait::may_block) = 0;
  virtual bool open() const = 0;  // false once the client is gone
  // For who must not block: whether the buffer limit is unsent (stop producing), and a call, once, on the loop thread
  // and in a later turn, when it no longer is, or when the client is gone.
  virtual bool full() const = 0;
  virtual void when_room(std::function<void()> callback) = 0;
  virtual void finish() = 0;
};

class Responder {
 public:
  virtual ~Responder() = default;
  virtual void send(Response response) = 0;                                       // once
  virtual std::shared_ptr<ResponseStream> stream(int status, Pairs headers) = 0;  // instead of send()
  // Called at most once, on the loop thread, if the client goes away before the answer was sent.
  virtual void on_disconnect(std::function<void()> callback) = 0;
};

// Asked on the loop thread as soon as the header is in, before the body is read; not for a request that has none and
// whose method needs none (GET, HEAD, DELETE, OPTIONS).
struct BodyPolicy {
  bool stream = false;
  int64_t limit = 1 << 20;  // bytes; more is 413
  std::optional<Response> refuse =
      std::nullopt;  // answer this at once; the body is not read and the handler not called
};
using BodyPolicyFunction = std::function<BodyPolicy(const Request& header_only)>;
// How the server words its own refusals (400, 408, 413, 431, 500…); it sets the status itself.
using ErrorAnswer = std::function<Response(const Request& header_only, const Error& error)>;
using Handler = std::function<void(Request request, std::shared_ptr<Responder> responder)>;

std::string percent_encode(std::string_view text, bool keep_slash);
Result<std::string> percent_decode(std::string_view text);
// Fills `path` and `query` from `target`; invalid_argument for what no route can mean (dot segments, control
// characters, broken escapes).
Status parse_target(Request& request);

class AsioLoop;

class HttpServer {
 public:
  struct Options {
    std::string host = "127.0.0.1";
    uint16_t port = 9000;  // 0: any free one; see port()
    int64_t header_limit = 16 << 10;
    int max_connections = 4096;
    Millis header_timeout{10'000};
    Millis body_idle_timeout{30'000};  // a body of which nothing arrives for so long
    Millis keep_alive_timeout{75'000};
    Millis write_timeout{30'000};
    ErrorAnswer error_answer;  // empty: {"error":{"code","message","hint"}}
  };
  // unavailable if the address cannot be bound; the message says who to ask ("port 9000 is taken").
  static Result<std::unique_ptr<HttpServer>> listen(AsioLoop& loop, Options options, BodyPolicyFunction policy,
                                                    Handler handler);
  virtual ~HttpServer() = default;
  virtual uint16_t port() const = 0;
  // Takes no new connection; answers what is in flight with `Connection: close`. Loop thread.
  virtual void drain() = 0;
  virtual int open_connections() const = 0;
};

}  // namespace sundog::net
