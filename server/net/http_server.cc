#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <ctime>

#include "base/json.h"
#include "net/connection.h"
#include "net/http.h"

namespace sundog::net {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

Response plain_error_answer(const Request&, const Error& error) {
  const Json body = {
      {"error", {{"code", std::string(name(error.code))}, {"message", error.message}, {"hint", error.hint}}}};
  return {500, {{"Content-Type", "application/json"}}, dump(body)};
}

constexpr std::string_view kFull =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nRetry-After: 1\r\n"
    "Content-Length: 114\r\n\r\n"
    R"({"error":{"code":"unavailable","message":"The server has no room for another connection.","hint":"Try again."}}   )";
static_assert(kFull.size() - kFull.find("\r\n\r\n") - 4 == 114);

std::string text_of(const tcp::endpoint& endpoint) {
  const auto address = endpoint.address().to_string();
  const auto port = std::to_string(endpoint.port());
  return endpoint.address().is_v6() ? "[" + address + "]:" + port : address + ":" + port;
}

class Server final : public HttpServer {
 public:
  Server(std::shared_ptr<ServerState> state, tcp::acceptor acceptor)
      : state_(std::move(state)), acceptor_(std::move(acceptor)), port_(acceptor_.local_endpoint().port()) {
    const auto& o = state_->options;
    const auto shortest =
        std::min({o.header_timeout, o.body_idle_timeout, o.keep_alive_timeout, o.write_timeout}).count() / 4;
    sweep_every_ = Millis{std::clamp<int64_t>(shortest, 5, 1000)};
    accept();
  }
  ~Server() override {
    stop_accepting();
    state_->loop.cancel(sweep_);
    for (const auto& connection : snapshot()) connection->abort();
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  uint16_t port() const override { return port_; }
  int open_connections() const override { return static_cast<int>(state_->connections.size()); }
  void drain() override {
    state_->draining = true;
    stop_accepting();
    for (const auto& connection : snapshot()) connection->drain();
  }

 private:
  void stop_accepting() {
    *alive_ = false;
    error_code ignored;
    acceptor_.close(ignored);
    state_->loop.cancel(retry_);
  }

  // Strong, because a connection may end, and leave the set, while the others are visited.
  std::vector<std::shared_ptr<Connection>> snapshot() const {
    std::vector<std::shared_ptr<Connection>> all;
    all.reserve(state_->connections.size());
    for (auto* connection : state_->connections) {
      if (auto strong = connection->weak_from_this().lock()) all.push_back(std::move(strong));
    }
    return all;
  }

  void accept() {
    acceptor_.async_accept([this, alive = alive_](const error_code& error, tcp::socket socket) {
      if (!*alive) return;
      if (error == asio::error::no_descriptors || error == asio::error::no_buffer_space ||
          error == asio::error::no_memory) {
        // Accepting at once would spin: descriptors come free when connections end.
        retry_ = state_->loop.run_after(Millis{50}, [this] { accept(); });
        return;
      }
      if (!error) take(std::move(socket));
      accept();
    });
  }

  void take(tcp::socket socket) {
    error_code error;
    socket.non_blocking(true, error);
    socket.set_option(tcp::no_delay(true), error);
    const auto remote = socket.remote_endpoint(error);
    if (error) return;
    if (open_connections() >= state_->options.max_connections) {
      socket.write_some(asio::buffer(kFull), error);
      socket.shutdown(tcp::socket::shutdown_send, error);
      return;
    }
    std::make_shared<Connection>(state_, std::move(socket), text_of(remote))->start();
    if (sweep_ == 0) sweep_later();
  }

  // One timer for all: a deadline per connection costs a comparison, not a timer per read.
  void sweep_later() {
    sweep_ = state_->loop.run_after(sweep_every_, [this] {
      sweep_ = 0;
      const MonoTime now = std::chrono::steady_clock::now();
      for (const auto& connection : snapshot()) connection->check_deadline(now);
      if (!state_->connections.empty()) sweep_later();
    });
  }

  std::shared_ptr<ServerState> state_;
  tcp::acceptor acceptor_;
  const uint16_t port_;
  Millis sweep_every_{1000};
  Loop::Id sweep_ = 0;
  Loop::Id retry_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace

std::string_view ServerState::date() {
  const std::time_t second = std::time(nullptr);
  if (second != date_second_) {
    std::tm parts{};
    gmtime_r(&second, &parts);
    std::array<char, 40> text{};
    const size_t size = std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    date_.assign(text.data(), size);
    date_second_ = second;
  }
  return date_;
}

Result<std::unique_ptr<HttpServer>> HttpServer::listen(AsioLoop& loop, Options options, BodyPolicyFunction policy,
                                                       Handler handler) {
  error_code error;
  const auto name = options.host == "localhost" ? std::string("127.0.0.1") : options.host;
  const auto address = asio::ip::make_address(name, error);
  if (error) {
    return fail(Code::invalid_argument, "\"" + options.host + "\" is not an address to listen on.",
                "Give one of this machine's addresses, such as 127.0.0.1 or 0.0.0.0.");
  }
  const tcp::endpoint endpoint(address, options.port);
  tcp::acceptor acceptor(loop.context());
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(1024, error);
  if (error == asio::error::address_in_use) {
    return fail(Code::unavailable, "Port " + std::to_string(options.port) + " of " + options.host + " is taken.",
                "Another server listens there; choose another with --port.");
  }
  if (error) {
    return fail(Code::unavailable, "Cannot listen on " + text_of(endpoint) + ": " + error.message() + ".");
  }
  if (!options.error_answer) options.error_answer = plain_error_answer;
  auto state = std::make_shared<ServerState>(loop, std::move(options));
  state->policy = std::move(policy);
  state->handler = std::move(handler);
  return std::unique_ptr<HttpServer>(std::make_unique<Server>(std::move(state), std::move(acceptor)));
}

}  // namespace sundog::net
