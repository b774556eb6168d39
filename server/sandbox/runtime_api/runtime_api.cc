#include "sandbox/runtime_api/runtime_api.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/crypto.h"
#include "net/request_parser.h"
#include "sandbox/endings.h"
#include "sandbox/loopback.h"

namespace sundog::sandbox {
namespace {

constexpr size_t kMaxPayload = 6'291'556;  // Lambda's, in bytes
constexpr size_t kMaxPiece = 256 << 10;    // of one STREAM frame
constexpr int64_t kMaxHeader = 2 << 20;    // a runtime's X-Ray cause may have a megabyte
constexpr size_t kMaxClients = 64;
constexpr std::string_view kRoot = "/2018-06-01/runtime/";

constexpr std::string_view kOk = R"({"status":"OK"})";
constexpr std::string_view kErrorType = "lambda-runtime-function-error-type";
constexpr std::string_view kErrorBody = "lambda-runtime-function-error-body";
constexpr std::string_view kResponseMode = "lambda-runtime-function-response-mode";

std::string_view reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 202:
      return "Accepted";
    case 400:
      return "Bad Request";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    default:
      return "Content Too Large";
  }
}

// A header's value is one line.
std::string one_line(std::string text) {
  std::replace_if(text.begin(), text.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  return text;
}

// The trace of an invocation: made of its id, since nothing here is traced further.
std::string trace_id(const NativeInvocation& invocation) {
  std::string digits;
  for (const char c : invocation.request_id) {
    if (c != '-') digits += c;
  }
  digits.resize(32, '0');
  char seconds[16];
  snprintf(seconds, sizeof(seconds), "%08llx",
           static_cast<unsigned long long>(epoch_millis(invocation.deadline) / 1000));
  return std::string("Root=1-") + seconds + "-" + digits.substr(0, 24) + ";Parent=" + digits.substr(16, 16) +
         ";Sampled=0";
}

std::string_view trailer(const net::Pairs& trailers, std::string_view name) {
  for (const auto& [key, value] : trailers) {
    if (key == name) return value;
  }
  return {};
}

std::string error_object(std::string_view type, std::string_view message) {
  return dump(Json{{"errorType", type}, {"errorMessage", message}});
}

std::string too_large_text(size_t bytes) {
  return "Response payload size (" + std::to_string(bytes) + " bytes) exceeded maximum allowed payload size (" +
         std::to_string(kMaxPayload) + " bytes).";
}

// Sends all of it, waiting where the peer is slow; false if it is gone.
bool send_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      bytes.remove_prefix(size_t(sent));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return false;
    pollfd wait{socket, POLLOUT, 0};
    if (poll(&wait, 1, -1) < 0 && errno != EINTR) return false;
  }
  return true;
}

}  // namespace

struct RuntimeApi::Client {
  explicit Client(UniqueFd fd) : socket(std::move(fd)), parser(kMaxHeader) {}

  UniqueFd socket;
  net::RequestParser parser;
  std::string pending;  // read, and not parsed yet
  bool begun = false;   // the header of the request under way has been looked at
  Route route = Route::none;
  Refusal refusal;
  bool answers = false;  // its body is the running invocation's answer
  bool streams = false;  // and goes on as it comes
  std::string body;
  size_t body_bytes = 0;
  bool parked = false;  // waits for the next event
};

Result<UniqueFd> listen_on_loopback(uint16_t port) {
  UniqueFd listener(listen_on_loopback_fd(port));
  if (!listener) return fail_errno("listen on 127.0.0.1:" + std::to_string(port), errno);
  return listener;
}

RuntimeApi::RuntimeApi(Options options)
    : server_(std::move(options.server)), listener_(std::move(options.listener)), init_timeout_(options.init_timeout) {}

RuntimeApi::~RuntimeApi() = default;

Status RuntimeApi::hand_over_way_out(UniqueFd listener) {
  return server_.hand_over_way_out(std::move(listener));
}

ProcessEnd RuntimeApi::run(Bootstrap& bootstrap) {
  const auto deadline = std::chrono::steady_clock::now() + init_timeout_;
  while (state_ != State::over) {
    std::vector<pollfd> waits = {{server_.socket(), POLLIN, 0}, {bootstrap.ended_fd(), POLLIN, 0}};
    waits.push_back({listener_.get(), short(clients_.size() < kMaxClients ? POLLIN : 0), 0});
    for (const auto& client : clients_) waits.push_back({client.socket.get(), POLLIN, 0});
    int patience = -1;
    if (state_ == State::starting) {
      const auto left = std::chrono::ceil<Millis>(deadline - std::chrono::steady_clock::now());
      patience = int(std::max<int64_t>(left.count(), 0));
    }
    const int ready = poll(waits.data(), waits.size(), patience);
    if (ready < 0 && errno != EINTR) break;
    if (ready == 0) {
      init_timed_out();
      break;
    }
    if ((waits[0].revents & ~POLLNVAL) != 0) take_invocation();
    serve_clients();
    if (state_ == State::over || waits[1].revents == 0) continue;
    serve_clients();  // its last words came before its end, and may stand in the sockets still
    const auto end = bootstrap.wait();
    if (state_ == State::starting) init_failed({"Runtime.ExitError", how_it_ended(end.exit_status, end.signal), {}});
    return state_ == State::over ? ProcessEnd{} : end;
  }
  return {};
}

void RuntimeApi::refuse(const Error& why) {
  init_failed({"Runtime.InvalidEntrypoint", why.message, {}});
}

void RuntimeApi::init_timed_out() {
  char text[64];
  snprintf(text, sizeof(text), "Init timed out after %.2f seconds", double(init_timeout_.count()) / 1000);
  init_failed({"Sandbox.Timedout", text, {}});
}

void RuntimeApi::check(const Status& sent) {
  if (!sent.ok()) state_ = State::over;
}

void RuntimeApi::init_failed(const InitFailure& failure) {
  check(server_.init_failed(failure));
  state_ = State::over;
}

void RuntimeApi::take_invocation() {
  auto next = server_.next();
  const bool idle = state_ == State::ready || state_ == State::answered;
  if (!next.ok() || !*next || !idle || event_waits_) {
    state_ = State::over;  // the server has let go, or is not what it should be
    return;
  }
  invocation_ = std::move(**next);
  event_waits_ = true;
}

void RuntimeApi::serve_clients() {
  accept_clients();
  for (auto& client : clients_) {
    if (state_ == State::over) return;
    read_from(client);
  }
  hand_over();
  clients_.remove_if([](const Client& client) { return !client.socket; });
}

void RuntimeApi::accept_clients() {
  while (clients_.size() < kMaxClients) {
    UniqueFd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) return;
    const int on = 1;
    setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    clients_.emplace_back(std::move(socket));
  }
}

void RuntimeApi::read_from(Client& client) {
  char buffer[64 << 10];
  while (client.socket && state_ != State::over) {
    const ssize_t bytes = recv(client.socket.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0 && errno == EAGAIN) return;
    if (bytes <= 0) return lost(client);
    client.pending.append(buffer, size_t(bytes));
    advance(client);
    if (client.parked && client.pending.size() > sizeof(buffer)) return lost(client);
  }
}

void RuntimeApi::lost(Client& client) {
  client.socket.reset();
  client.parked = false;
  if (!client.answers) return;
  client.answers = false;
  if (client.streams) return settle_error("Runtime.TruncatedResponse", "The runtime's answer broke off.");
  state_ = State::running;  // nothing of it has been passed on: the runtime may try again
}

void RuntimeApi::advance(Client& client) {
  while (client.socket && !client.parked && state_ != State::over && !client.pending.empty()) {
    const auto used = client.parser.feed(client.pending);
    if (!used.ok()) {
      reply_refusal(client, {400, "InvalidRequest", used.error().message});
      return lost(client);
    }
    client.pending.erase(0, *used);
    if (!client.begun && client.parser.header_done()) begin(client);
    if (client.begun) take_body(client);
    if (client.parser.done()) {
      finish(client);
    } else if (*used == 0) {
      return;
    }
  }
}

void RuntimeApi::begin(Client& client) {
  client.begun = true;
  const auto& request = client.parser.request();
  std::string_view path = std::string_view(request.target).substr(0, request.target.find('?'));
  std::string_view wanted_method = "POST";
  if (path.starts_with(kRoot)) path.remove_prefix(kRoot.size());
  if (path == "invocation/next") {
    client.route = Route::next;
    wanted_method = "GET";
  } else if (path == "init/error") {
    client.route = Route::init_error;
  } else if (path.starts_with("invocation/") && path.ends_with("/response")) {
    client.route = Route::response;
  } else if (path.starts_with("invocation/") && path.ends_with("/error")) {
    client.route = Route::error;
  } else {
    client.refusal = {404, "NotFound", "There is nothing at " + request.target.substr(0, 200) + "."};
  }
  if (client.refusal.status == 0 && request.method != wanted_method) {
    client.refusal = {405, "MethodNotAllowed", "It takes " + std::string(wanted_method) + "."};
  }
  if (client.refusal.status == 0 && client.route == Route::response) begin_answer(client, path, "/response");
  if (client.refusal.status == 0 && client.route == Route::error) begin_answer(client, path, "/error");
  if (client.parser.expects_continue() && client.parser.has_body()) {
    send_all(client.socket.get(), "HTTP/1.1 100 Continue\r\n\r\n");
  }
}

// What is wrong is known before the body is there; the body is read all the same, so that the runtime hears of it.
void RuntimeApi::begin_answer(Client& client, std::string_view path, std::string_view tail) {
  path.remove_prefix(std::string_view("invocation/").size());
  path.remove_suffix(tail.size());
  if (path.empty() || path != invocation_.request_id || event_waits_) {
    client.refusal = {400, "InvalidRequestID", "Invalid request ID"};
    return;
  }
  if (state_ != State::running) {
    client.refusal = not_in_this_state(client.route == Route::response ? "RuntimeInvocationResponse"
                                                                       : "RuntimeInvocationErrorResponse");
    return;
  }
  const auto mode = client.parser.request().header(kResponseMode);
  client.answers = true;
  state_ = State::answering;
  if (client.route == Route::error || mode.empty()) return;
  if (mode != "streaming") {
    client.answers = false;
    settle_error("Runtime.InvalidResponseModeHeader", "The runtime's answer has an unknown response mode.");
    client.refusal = {400, "InvalidFunctionResponseMode", "Invalid function response mode"};
    return;
  }
  client.streams = true;
}

void RuntimeApi::take_body(Client& client) {
  const std::string piece = std::exchange(client.parser.body(), {});
  client.body_bytes += piece.size();
  if (client.streams) {
    for (size_t at = 0; at < piece.size() && state_ != State::over; at += kMaxPiece) {
      check(server_.stream(std::string_view(piece).substr(at, kMaxPiece)));
    }
  } else if (client.refusal.status == 0 && client.body_bytes <= kMaxPayload) {
    client.body += piece;
  } else {
    client.body.clear();
  }
}

void RuntimeApi::finish(Client& client) {
  if (client.refusal.status != 0) return reply_refusal(client, client.refusal);
  switch (client.route) {
    case Route::next:
      return finish_next(client);
    case Route::response:
      return finish_response(client);
    case Route::error:
      return finish_error(client);
    default:
      return finish_init_error(client);
  }
}

void RuntimeApi::finish_next(Client& client) {
  if (state_ == State::answering) return reply_refusal(client, not_in_this_state("RuntimeReady"));
  // Asked again while an event is out: it got lost on the way.
  if (state_ == State::running) {
    send_event(client);
    return;
  }
  if (state_ == State::starting) check(server_.ready());
  if (state_ != State::over) state_ = State::ready;
  client.parked = true;
}

void RuntimeApi::hand_over() {
  if (!event_waits_) return;
  for (auto& client : clients_) {
    if (!client.parked || !client.socket || state_ != State::ready) continue;
    client.parked = false;
    if (!send_event(client)) continue;
    event_waits_ = false;
    state_ = State::running;
    advance(client);
  }
}

bool RuntimeApi::send_event(Client& client) {
  std::string head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " +
                     std::to_string(invocation_.payload.size());
  const auto add = [&head](std::string_view name, const std::string& value) {
    if (!value.empty()) head.append("\r\nLambda-Runtime-").append(name).append(": ").append(one_line(value));
  };
  add("Aws-Request-Id", invocation_.request_id);
  add("Deadline-Ms", std::to_string(epoch_millis(invocation_.deadline)));
  add("Invoked-Function-Arn", invocation_.function_arn);
  add("Trace-Id", trace_id(invocation_));
  add("Client-Context", invocation_.client_context);
  head += "\r\n\r\n";
  const bool sent = send_all(client.socket.get(), head) && send_all(client.socket.get(), invocation_.payload);
  next_request(client, sent && client.parser.keep_alive());
  return sent;
}

void RuntimeApi::finish_response(Client& client) {
  client.answers = false;
  if (client.streams) {
    const auto& trailers = client.parser.trailers();
    const auto type = trailer(trailers, kErrorType), body = trailer(trailers, kErrorBody);
    if (type.empty() && body.empty()) {
      settle(true, {});
    } else {
      const auto decoded = from_base64(body);
      settle(false, decoded.ok() && !decoded->empty() ? *decoded : error_object(type, ""));
    }
  } else if (client.body_bytes > kMaxPayload) {
    settle_error("Function.ResponseSizeTooLarge", too_large_text(client.body_bytes));
    return reply_refusal(client,
                         {413, "RequestEntityTooLarge",
                          "Exceeded maximum allowed payload size (" + std::to_string(kMaxPayload) + " bytes)."});
  } else {
    settle(true, client.body);
  }
  reply(client, 202, kOk);
}

void RuntimeApi::finish_error(Client& client) {
  client.answers = false;
  const auto type = client.parser.request().header(kErrorType);
  if (client.body_bytes > kMaxPayload) {
    settle_error("Function.ResponseSizeTooLarge", too_large_text(client.body_bytes));
  } else if (client.body.empty()) {
    settle_error(type.empty() ? "Runtime.Unknown" : type, "The runtime gave no reason.");
  } else {
    settle(false, client.body);
  }
  reply(client, 202, kOk);
}

void RuntimeApi::finish_init_error(Client& client) {
  if (state_ != State::starting) return reply_refusal(client, not_in_this_state("RuntimeInitError"));
  const auto body = parse_json(client.body, "the runtime's error");
  auto failure =
      init_failure_of(body.ok() ? *body : Json(), kLambdasFields,
                      {std::string(client.parser.request().header(kErrorType)), "The runtime gave no reason.", {}});
  if (failure.type.empty()) failure.type = "Runtime.Unknown";
  reply(client, 202, kOk);
  init_failed(failure);
}

void RuntimeApi::reply(Client& client, int status, std::string_view body) {
  const bool keep = client.parser.header_done() && client.parser.keep_alive();
  std::string text = "HTTP/1.1 " + std::to_string(status) + " " + std::string(reason(status)) +
                     "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
                     (keep ? "" : "\r\nConnection: close") + "\r\n\r\n";
  text += body;
  next_request(client, send_all(client.socket.get(), text) && keep);
}

void RuntimeApi::reply_refusal(Client& client, const Refusal& refusal) {
  reply(client, refusal.status, dump(Json{{"errorMessage", refusal.message}, {"errorType", refusal.type}}));
}

void RuntimeApi::next_request(Client& client, bool keep) {
  client.parser.reset();
  client.begun = client.streams = false;
  client.route = Route::none;
  client.refusal = {};
  client.body = {};
  client.body_bytes = 0;
  if (!keep) client.socket.reset();
}

RuntimeApi::Refusal RuntimeApi::not_in_this_state(std::string_view wanted) const {
  const auto now = [this]() -> std::string_view {
    switch (state_) {
      case State::starting:
        return "RuntimeStarted";
      case State::ready:
        return "RuntimeReady";
      case State::running:
        return "RuntimeRunning";
      case State::answering:
        return "RuntimeInvocationResponse";
      default:
        return "RuntimeResponseSent";
    }
  };
  return {403, "InvalidStateTransition",
          "State transition from " + std::string(now()) + " to " + std::string(wanted) +
              " failed for runtime. Error: State transition is not allowed"};
}

void RuntimeApi::settle(bool ok, std::string_view payload) {
  state_ = State::answered;
  check(server_.answer_as_is(ok, payload));
  invocation_.payload = {};
}

void RuntimeApi::settle_error(std::string_view type, const std::string& message) {
  settle(false, dump(Json{{"errorType", type}, {"errorMessage", message}, {"requestId", invocation_.request_id}}));
}

}  // namespace sundog::sandbox
