#include "net/connection.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>

namespace sundog::net {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr size_t kBodyReadSize = 64 << 10;
constexpr int64_t kLingerBytes = 32 << 20;
constexpr Millis kLingerTime{5'000};
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

MonoTime now() {
  return std::chrono::steady_clock::now();
}

int status_of_parse_error(const Error& error) {
  switch (error.code) {
    case Code::too_large:
      return 431;
    case Code::unsupported:
      return 501;
    default:
      return 400;
  }
}

bool method_has_body(std::string_view method) {
  return method != "GET" && method != "HEAD" && method != "DELETE" && method != "OPTIONS";
}

}  // namespace

Connection::Connection(std::shared_ptr<ServerState> server, asio::ip::tcp::socket socket, std::string remote)
    : server_(std::move(server)),
      socket_(std::move(socket)),
      remote_(std::move(remote)),
      in_(static_cast<size_t>(server_->options.header_limit) + 1024),
      parser_(server_->options.header_limit) {
  server_->connections.insert(this);
}

Connection::~Connection() {
  server_->connections.erase(this);
}

void Connection::start() {
  run(shared_from_this());
}

Connection::Detached Connection::run(std::shared_ptr<Connection> self) {
  while (true) {
    begin_request();
    while (receive_header() == Step::wait) co_await event_;
    if (closed_) break;
    if (!response_) decide_body();
    while (receive_body() == Step::wait) co_await event_;
    if (closed_) break;
    if (!response_) dispatch();
    while (exchange() == Step::wait) co_await event_;
    if (closed_ || !keep_alive_) break;
    if (answered_late_ && !unread().empty()) {
      // We may be inside the callback of whoever answered: call the next handler from the loop, not from there.
      asio::post(server_->loop.context(), [self] { self->wake(); });
      co_await event_;
    }
  }
  // A client that still sends would lose our answer to the reset that a plain close means.
  if (!closed_ && !eof_ && !timed_out_ && (!body_done_ || !unread().empty())) {
    error_code ignored;
    socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    body_bytes_ = 0;
    set_phase(Phase::lingering, kLingerTime);
    while (linger() == Step::wait) co_await event_;
  }
  close();
}

void Connection::begin_request() {
  parser_.reset();
  policy_ = {};
  body_bytes_ = 0;
  head_request_ = http_1_0_ = body_done_ = body_dropped_ = answered_late_ = false;
  body_.reset();
  exchange_.reset();
  response_.reset();
  stream_.reset();
  answer_begun_ = stream_ended_ = false;
  first_piece_ = true;
  length_left_ = -1;
  pieces_in_out_ = 0;
  if (unread().empty()) {
    set_phase(Phase::idle, first_request_ ? server_->options.header_timeout : server_->options.keep_alive_timeout);
  } else {
    set_phase(Phase::header, server_->options.header_timeout);
  }
}

Connection::Step Connection::receive_header() {
  if (closed_ || response_) return Step::next;
  if (!unread().empty()) {
    if (phase_ == Phase::idle) {
      // The first header's time runs from the accept.
      if (!first_request_) set_phase(Phase::header, server_->options.header_timeout);
      phase_ = Phase::header;
    }
    if (!feed() || parser_.header_done()) return Step::next;
  }
  if (eof_ || (server_->draining && unread().empty() && phase_ == Phase::idle)) {
    close();
    return Step::next;
  }
  if (in_begin_ == 0 && in_end_ == in_.size()) {
    refuse(431, fail(Code::too_large,
                     "The request's header is over " + std::to_string(server_->options.header_limit) + " bytes.",
                     "Send fewer or shorter header fields."));
    return Step::next;
  }
  start_read();
  return Step::wait;
}

// The header is in: what of the body to take, if any.
void Connection::decide_body() {
  first_request_ = false;
  auto& request = parser_.request();
  request.remote = remote_;
  head_request_ = request.method == "HEAD";
  http_1_0_ = parser_.http_1_0();
  keep_alive_ = parser_.keep_alive() && !server_->draining;
  if (!http_1_0_ && request.header("host").empty()) {
    return refuse(400, fail(Code::invalid_argument, "The request has no Host header."));
  }
  if (const auto status = parse_target(request); !status.ok()) return refuse(400, status.error());
  if (!request.header("expect").empty() && !parser_.expects_continue() && !http_1_0_) {
    return refuse(417, fail(Code::invalid_argument, "Expect is not \"100-continue\"."));
  }
  const bool has_body = parser_.has_body();
  if (has_body || method_has_body(request.method)) policy_ = server_->policy(request);
  if (policy_.refuse) {
    body_done_ = !has_body;
    response_ = std::move(*policy_.refuse);
    return;
  }
  if (!has_body) {
    body_done_ = true;
  } else {
    if (parser_.content_length() > policy_.limit)
      return refuse(
          413, fail(Code::too_large, "The request's body of " + std::to_string(parser_.content_length()) +
                                         " bytes is over the limit of " + std::to_string(policy_.limit) + " bytes."));
    if (parser_.expects_continue() && unread().empty()) {
      out_.emplace_back(kContinue);
      if (flush() == Flush::broken) return close();
    }
    if (in_.size() < kBodyReadSize && (parser_.content_length() < 0 || parser_.content_length() > 16 << 10)) {
      in_.resize(kBodyReadSize);
    }
    set_phase(Phase::body, server_->options.body_idle_timeout);
  }
  if (policy_.stream) {
    // Twice the time-out: this side notices a silent client first and says so.
    body_ = std::make_shared<BodyBuffer>(server_->loop, weak_from_this(), 2 * server_->options.body_idle_timeout);
    if (body_done_) body_->finish();
  }
}

Connection::Step Connection::receive_body() {
  if (closed_ || response_ || body_done_ || body_) return Step::next;
  while (!unread().empty() && !parser_.done()) {
    const auto before = unread().size();
    if (!feed()) return Step::next;
    if (over_limit(parser_.body().size())) {
      refuse(413, fail(Code::too_large,
                       "The request's body is over the limit of " + std::to_string(policy_.limit) + " bytes."));
      return Step::next;
    }
    if (unread().size() == before) break;
  }
  if (parser_.done()) {
    body_done_ = true;
    return Step::next;
  }
  if (eof_) {
    close();
    return Step::next;
  }
  start_read();
  return Step::wait;
}

void Connection::dispatch() {
  set_phase(Phase::handling);
  auto responder = std::make_shared<Exchange>(server_->loop, weak_from_this(), server_->options.write_timeout);
  exchange_ = responder;
  // The parser keeps the header fields that a refusal of the rest of the body is worded by.
  Request request = body_ ? parser_.request() : std::move(parser_.request());
  if (body_) {
    request.body_stream = std::make_shared<BodySource>(body_);
  } else {
    request.body = std::exchange(parser_.body(), {});
  }
  in_handler_ = true;
  try {
    server_->handler(std::move(request), std::move(responder));
  } catch (const std::exception& exception) {
    answer_error(500, fail(Code::internal, std::string("The handler failed: ") + exception.what() + "."));
  }
  in_handler_ = false;
}

// Body in, answer out, both at once if the handler streams both.
Connection::Step Connection::exchange() {
  if (closed_) return Step::next;
  if (body_ && !body_done_) pump_body();
  if (!response_) {
    if (broken_) {
      close();
      return Step::next;
    }
    if (!body_ || body_done_) start_read();  // to notice a client that goes away
    return Step::wait;
  }
  if (!answer_begun_) begin_answer();
  while (true) {
    if (stream_) take_pieces();
    if (closed_) return Step::next;
    switch (flush()) {
      case Flush::broken:
        close();
        return Step::next;
      case Flush::blocked:
        return Step::wait;
      case Flush::all:
        break;
    }
    if (!stream_ || stream_ended_) break;
    if (pieces_in_out_ > 0) {
      stream_->sent(std::exchange(pieces_in_out_, 0));
      continue;  // more may have come meanwhile
    }
    if (phase_ == Phase::writing) set_phase(Phase::handling);
    if (!body_ || body_done_) start_read();
    return Step::wait;
  }
  if (stream_) stream_->close();
  if (!body_done_) keep_alive_ = false;
  if (body_) body_->fail_with(fail(Code::cancelled, "The request was answered before its body was read."));
  return Step::next;
}

void Connection::pump_body() {
  if (body_dropped_ || body_->abandoned()) return;
  while (!unread().empty() && !parser_.done() && body_->has_room()) {
    const auto before = unread().size();
    if (!feed()) {
      body_dropped_ = true;
      body_->fail_with(fail(Code::invalid_argument, "The request's body is not valid HTTP/1.1 chunks."));
      return;
    }
    auto& piece = parser_.body();
    if (over_limit(piece.size())) {
      const auto error =
          fail(Code::too_large, "The request's body is over the limit of " + std::to_string(policy_.limit) + " bytes.");
      body_dropped_ = true;
      body_->fail_with(error);
      refuse(413, error);
      return;
    }
    body_bytes_ += static_cast<int64_t>(piece.size());
    body_->push(piece);
    piece.clear();
    if (unread().size() == before) break;
  }
  if (parser_.done()) {
    body_done_ = true;
    body_->finish();
    if (phase_ == Phase::body) set_phase(Phase::handling);
  } else if (eof_) {
    keep_alive_ = false;
    body_->fail_with(fail(Code::unavailable, "The client went away before the whole body had arrived."));
  } else if (body_->has_room()) {
    if (!reading_ && phase_ != Phase::writing) set_phase(Phase::body, server_->options.body_idle_timeout);
    start_read();
  } else if (phase_ == Phase::body) {
    set_phase(Phase::handling);  // it is the reader that is slow, not the client
  }
}

bool Connection::over_limit(size_t more) const {
  return body_bytes_ + static_cast<int64_t>(more) > policy_.limit;
}

bool Connection::feed() {
  const auto consumed = parser_.feed(unread());
  if (!consumed.ok()) {
    refuse(status_of_parse_error(consumed.error()), consumed.error());
    return false;
  }
  in_begin_ += *consumed;
  if (in_begin_ == in_end_) in_begin_ = in_end_ = 0;
  return true;
}

void Connection::start_read() {
  if (reading_ || eof_ || closed_) return;
  if (in_begin_ > 0) {
    std::copy(in_.begin() + static_cast<ptrdiff_t>(in_begin_), in_.begin() + static_cast<ptrdiff_t>(in_end_),
              in_.begin());
    in_end_ -= in_begin_;
    in_begin_ = 0;
  }
  if (in_end_ == in_.size()) return;  // pipelined requests fill it: go on once they are answered
  reading_ = true;
  socket_.async_read_some(
      asio::buffer(in_.data() + in_end_, in_.size() - in_end_),
      [self = shared_from_this()](const error_code& error, size_t count) { self->on_read(error, count); });
}

void Connection::on_read(const error_code& error, size_t count) {
  reading_ = false;
  if (closed_) return;
  in_end_ += count;
  if (error) {
    eof_ = true;
    keep_alive_ = false;
    broken_ = error != asio::error::eof;
    if (stream_) stream_->close();
    if (const auto exchange = exchange_.lock()) exchange->disconnected();
  }
  event_.fire();
}

Connection::Step Connection::linger() {
  if (closed_ || eof_ || body_bytes_ > kLingerBytes) return Step::next;
  body_bytes_ += static_cast<int64_t>(unread().size());
  in_begin_ = in_end_ = 0;
  start_read();
  return Step::wait;
}

void Connection::set_phase(Phase phase, Millis limit) {
  phase_ = phase;
  deadline_ = now() + limit;
}

void Connection::set_phase(Phase phase) {
  phase_ = phase;
  deadline_ = MonoTime::max();
}

void Connection::check_deadline(MonoTime time) {
  if (closed_ || time < deadline_) return;
  deadline_ = MonoTime::max();
  timed_out_ = true;
  const auto late = fail(Code::deadline_exceeded, "The request did not arrive in time.",
                         "Send it again; check the connection if this happens often.");
  switch (phase_) {
    case Phase::header:
      refuse(408, late);
      break;
    case Phase::body:
      if (body_) body_->fail_with(late);
      if (!response_) refuse(408, late);
      break;
    case Phase::idle:
    case Phase::handling:
    case Phase::writing:
    case Phase::lingering:
      close();
      break;
  }
  event_.fire();
}

void Connection::abort() {
  close();
  event_.fire();
}

void Connection::drain() {
  keep_alive_ = false;
  if (phase_ == Phase::idle) abort();
}

void Connection::close() {
  if (std::exchange(closed_, true)) return;
  deadline_ = MonoTime::max();
  error_code ignored;
  socket_.close(ignored);
  if (stream_) stream_->close();
  if (body_) body_->fail_with(fail(Code::unavailable, "The client went away before the whole body had arrived."));
  if (const auto exchange = exchange_.lock()) exchange->disconnected();
}

}  // namespace sundog::net
