// Connection: one client's socket and the coroutine that serves its requests, one after the other. Internal to net/.
//
// Ownership   its coroutine keeps it alive until the socket is closed; Server counts it.
// Threads     loop thread only.
#pragma once

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <coroutine>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "net/asio_loop.h"
#include "net/exchange.h"
#include "net/http.h"
#include "net/request_parser.h"

namespace sundog::net {

// What all connections of one server share. Lives as long as the last of them.
struct ServerState {
  ServerState(AsioLoop& loop, HttpServer::Options options) : loop(loop), options(std::move(options)) {}

  AsioLoop& loop;
  HttpServer::Options options;
  BodyPolicyFunction policy;
  Handler handler;
  std::unordered_set<Connection*> connections;
  bool draining = false;

  std::string_view date();  // "Tue, 24 Nov 2026 07:00:00 GMT", made once a second

 private:
  int64_t date_second_ = 0;
  std::string date_;
};

class Connection final : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<ServerState> server, boost::asio::ip::tcp::socket socket, std::string remote);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start();
  void wake() { event_.fire(); }
  void abort();  // close now, whatever is in flight
  void drain();  // close if idle, else after the answer
  void check_deadline(MonoTime now);

  void answer(Response response, std::shared_ptr<StreamBuffer> stream = nullptr);
  void answer_error(int status, const Error& error);

 private:
  // Runs at once and resumes itself; nobody waits for it.
  struct Detached {
    struct promise_type {
      Detached get_return_object() { return {}; }
      std::suspend_never initial_suspend() noexcept { return {}; }
      std::suspend_never final_suspend() noexcept { return {}; }
      void return_void() {}
      [[noreturn]] void unhandled_exception() { std::terminate(); }
    };
  };
  // What the coroutine waits for: anything that may let it go on. It looks for itself what that was.
  class Event {
   public:
    void fire() {
      fired_ = true;
      if (waiter_) std::exchange(waiter_, nullptr).resume();
    }
    bool await_ready() const { return fired_; }
    void await_suspend(std::coroutine_handle<> waiter) { waiter_ = waiter; }
    void await_resume() { fired_ = false; }

   private:
    std::coroutine_handle<> waiter_;
    bool fired_ = false;
  };
  enum class Step { wait, next };
  enum class Phase { idle, header, body, handling, writing, lingering };

  Detached run(std::shared_ptr<Connection> self);
  void begin_request();
  Step receive_header();
  void decide_body();
  Step receive_body();
  void dispatch();
  Step exchange();
  Step linger();
  void close();
  void break_off();  // close in the middle of an answer

  // Reading.
  std::string_view unread() const { return {in_.data() + in_begin_, in_end_ - in_begin_}; }
  bool feed();
  void start_read();
  void on_read(const boost::system::error_code& error, size_t count);
  void pump_body();
  bool over_limit(size_t more) const;

  // Answering.
  void refuse(int status, const Error& error);
  void begin_answer();
  std::string header_text(const Response& response, int64_t length) const;
  void take_pieces();
  void queue_piece(std::string piece);
  enum class Flush { all, blocked, broken };
  Flush flush();

  void set_phase(Phase phase, Millis limit);
  void set_phase(Phase phase);  // without a deadline

  std::shared_ptr<ServerState> server_;
  boost::asio::ip::tcp::socket socket_;
  const std::string remote_;
  Event event_;
  bool closed_ = false;
  bool eof_ = false;     // the client sends no more
  bool broken_ = false;  // and takes no more
  bool timed_out_ = false;
  Phase phase_ = Phase::idle;
  MonoTime deadline_ = MonoTime::max();
  bool first_request_ = true;

  std::vector<char> in_;
  size_t in_begin_ = 0, in_end_ = 0;
  bool reading_ = false;
  RequestParser parser_;

  // Of the current request.
  BodyPolicy policy_;
  int64_t body_bytes_ = 0;
  bool head_request_ = false;
  bool http_1_0_ = false;
  bool keep_alive_ = true;
  bool body_done_ = false;
  bool body_dropped_ = false;   // invalid or over its limit: no more of it is wanted
  bool answered_late_ = false;  // not from within the handler
  bool in_handler_ = false;
  std::shared_ptr<BodyBuffer> body_;
  std::weak_ptr<Exchange> exchange_;
  std::optional<Response> response_;
  std::shared_ptr<StreamBuffer> stream_;
  bool answer_begun_ = false;
  bool chunked_ = false;
  bool first_piece_ = true;
  bool stream_ended_ = false;
  int64_t length_left_ = -1;  // of a stream with a Content-Length

  std::deque<std::string> out_;
  size_t out_offset_ = 0;     // sent of out_.front()
  size_t pieces_in_out_ = 0;  // bytes of the stream's pieces in out_
  bool waiting_to_write_ = false;
};

}  // namespace sundog::net
