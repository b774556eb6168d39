// The answering half of Connection.
#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <charconv>

#include "net/connection.h"

namespace sundog::net {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr int64_t kNoLength = -1;

std::string_view reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 206:
      return "Partial Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 416:
      return "Range Not Satisfiable";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Status";
  }
}

bool equal_no_case(std::string_view a, std::string_view lower) {
  return std::ranges::equal(a, lower, [](char x, char y) { return (x >= 'A' && x <= 'Z' ? x + 32 : x) == y; });
}

bool ours(std::string_view name) {
  return equal_no_case(name, "content-length") || equal_no_case(name, "connection") || equal_no_case(name, "date") ||
         equal_no_case(name, "transfer-encoding");
}

bool is_token(std::string_view name) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !name.empty() && std::ranges::all_of(name, [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           kMarks.find(c) != std::string_view::npos;
  });
}

// A handler's value may come from outside: it must not be able to end the line.
void append_value(std::string& text, std::string_view value) {
  for (const char c : value) text += c == '\r' || c == '\n' || c == '\0' ? ' ' : c;
}

int64_t given_length(const Response& response) {
  for (const auto& [name, value] : response.headers) {
    int64_t length = 0;
    if (!equal_no_case(name, "content-length")) continue;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
    if (error == std::errc{} && end == value.data() + value.size() && length >= 0) return length;
  }
  return kNoLength;
}

std::string hex_size(size_t size) {
  std::array<char, 18> text{};
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), size, 16);
  std::string line(text.data(), end);
  return line += "\r\n";
}

// As many buffers as one sendmsg takes at a time.
struct Gather {
  using value_type = asio::const_buffer;
  using const_iterator = const asio::const_buffer*;
  const_iterator begin() const { return buffers.data(); }
  const_iterator end() const { return buffers.data() + count; }
  std::array<asio::const_buffer, 16> buffers;
  size_t count = 0;
};

}  // namespace

void Connection::answer(Response response, std::shared_ptr<StreamBuffer> stream) {
  if (closed_ || response_) {
    if (stream) stream->close();
    return;
  }
  if (stream && eof_) stream->close();
  response_ = std::move(response);
  stream_ = std::move(stream);
  answered_late_ = !in_handler_;
  if (!in_handler_) event_.fire();
}

void Connection::answer_error(int status, const Error& error) {
  auto response = server_->options.error_answer(parser_.request(), error);
  response.status = status;
  answer(std::move(response));
}

// An answer of the server's own, after which the connection ends: what follows of the request is not understood.
void Connection::refuse(int status, const Error& error) {
  keep_alive_ = false;
  if (response_) return;
  response_ = server_->options.error_answer(parser_.request(), error);
  response_->status = status;
}

void Connection::begin_answer() {
  answer_begun_ = true;
  if (server_->draining || !body_done_) keep_alive_ = false;
  auto& response = *response_;
  const bool bodiless = head_request_ || response.status == 204 || response.status == 304;
  if (stream_) {
    length_left_ = given_length(response);
    chunked_ = length_left_ == kNoLength && !http_1_0_;
    if (length_left_ == kNoLength && http_1_0_) keep_alive_ = false;
    out_.push_back(header_text(response, length_left_));
    if (bodiless) {
      stream_ended_ = true;
      stream_->close();
    }
    return;
  }
  auto length = static_cast<int64_t>(response.body.size());
  if (head_request_ && length == 0) length = std::max(length, given_length(response));
  chunked_ = false;
  out_.push_back(header_text(response, length));
  if (!bodiless && !response.body.empty()) out_.push_back(std::move(response.body));
}

std::string Connection::header_text(const Response& response, int64_t length) const {
  std::string text;
  text.reserve(256);
  text += "HTTP/1.1 ";
  text += std::to_string(response.status);
  text += ' ';
  text += reason(response.status);
  text += "\r\nDate: ";
  text += server_->date();
  for (const auto& [name, value] : response.headers) {
    if (ours(name) || !is_token(name)) continue;
    text += "\r\n";
    text += name;
    text += ": ";
    append_value(text, value);
  }
  if (chunked_) {
    text += "\r\nTransfer-Encoding: chunked";
  } else if (length >= 0 && response.status != 204) {
    text += "\r\nContent-Length: ";
    text += std::to_string(length);
  }
  if (!keep_alive_) {
    text += "\r\nConnection: close";
  } else if (http_1_0_) {
    text += "\r\nConnection: keep-alive";
  }
  return text += "\r\n\r\n";
}

void Connection::take_pieces() {
  if (pieces_in_out_ > 0 || stream_ended_) return;
  bool ended = false;
  bool whole = false;
  for (auto& piece : stream_->take(ended, whole)) queue_piece(std::move(piece));
  if (!ended) return;
  stream_ended_ = true;
  if (!whole || length_left_ > 0) return break_off();
  if (chunked_) out_.emplace_back("0\r\n\r\n");
}

// The client must see that this is not all. HTTP/1.0 has no mark for the end but the connection's own: a reset.
void Connection::break_off() {
  error_code ignored;
  if (!chunked_ && length_left_ < 0) socket_.set_option(asio::socket_base::linger(true, 0), ignored);
  close();
}

void Connection::queue_piece(std::string piece) {
  pieces_in_out_ += piece.size();
  if (chunked_) {
    out_.push_back(hex_size(piece.size()));
    piece += "\r\n";
  } else if (length_left_ >= 0) {
    if (piece.size() > static_cast<size_t>(length_left_)) piece.resize(static_cast<size_t>(length_left_));
    length_left_ -= static_cast<int64_t>(piece.size());
  }
  if (!piece.empty()) out_.push_back(std::move(piece));
}

Connection::Flush Connection::flush() {
  while (!out_.empty()) {
    Gather gather;
    for (const auto& text : out_) {
      if (gather.count == gather.buffers.size()) break;
      const size_t skip = gather.count == 0 ? out_offset_ : 0;
      gather.buffers[gather.count++] = asio::const_buffer(text.data() + skip, text.size() - skip);
    }
    error_code error;
    size_t sent = socket_.write_some(gather, error);
    if (error == asio::error::would_block) {
      if (!std::exchange(waiting_to_write_, true)) {
        set_phase(Phase::writing, server_->options.write_timeout);
        socket_.async_wait(asio::ip::tcp::socket::wait_write, [self = shared_from_this()](const error_code&) {
          self->waiting_to_write_ = false;
          self->event_.fire();
        });
      }
      return Flush::blocked;
    }
    if (error) return Flush::broken;
    while (sent > 0) {
      const size_t rest = out_.front().size() - out_offset_;
      if (sent < rest) {
        out_offset_ += sent;
        break;
      }
      sent -= rest;
      out_offset_ = 0;
      out_.pop_front();
    }
  }
  return Flush::all;
}

}  // namespace sundog::net
