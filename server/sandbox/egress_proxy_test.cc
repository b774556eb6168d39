#include "sandbox/egress_proxy.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <thread>

#include "sandbox/poll_loop.h"
#include "sandbox/test_listener.h"

namespace sundog::sandbox {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class EgressProxyTest : public ::testing::Test {
 protected:
  void serve(const std::vector<std::string>& allowed, EgressProxy::Options options = {}) {
    TestListener listening;
    port_ = listening.port;
    proxy_ = std::make_unique<EgressProxy>(loop_, Log::none(), options);
    way_ = proxy_->add(std::move(listening.fd), *EgressPolicy::parse(allowed), "test", "test/f:1");
    EXPECT_TRUE(way_);
  }
  UniqueFd dial(std::string_view request) const {
    UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(send(client.get(), request.data(), request.size(), MSG_NOSIGNAL), ssize_t(request.size()));
    return client;
  }
  // What comes until `enough` says so, or the end.
  template <class Enough>
  std::string read_until(const UniqueFd& from, Enough enough) {
    std::string text;
    loop_.run_until([&] {
      char piece[65536];
      for (ssize_t bytes = 0; (bytes = recv(from.get(), piece, sizeof(piece), MSG_DONTWAIT)) != 0;) {
        if (bytes < 0) return errno != EAGAIN || enough(text);
        text.append(piece, size_t(bytes));
      }
      return true;
    });
    return text;
  }
  std::string read_all(const UniqueFd& from) {
    return read_until(from, [](const std::string&) { return false; });
  }
  UniqueFd accept_from(const TestListener& target) {
    UniqueFd peer;
    loop_.run_until([&] {
      peer = UniqueFd(accept4(target.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
      return bool(peer);
    });
    return peer;
  }

  PollLoop loop_;
  uint16_t port_ = 0;
  std::unique_ptr<EgressProxy> proxy_;
  std::shared_ptr<void> way_;
};

TEST_F(EgressProxyTest, ATunnelPassesBothWaysAndEndsOneByOne) {
  const TestListener target;
  serve({target.name()});
  const auto client = dial("CONNECT " + target.name() + " HTTP/1.1\r\n\r\nhello");
  const auto peer = accept_from(target);
  const auto established = [](const std::string& text) { return text.ends_with("\r\n\r\n"); };
  EXPECT_THAT(read_until(client, established), StartsWith("HTTP/1.1 200 "));
  EXPECT_EQ(read_until(peer, [](const std::string& text) { return text.size() >= 5; }), "hello");
  shutdown(client.get(), SHUT_WR);
  EXPECT_EQ(read_all(peer), "");
  // The other way is open still, and takes more than any buffer holds.
  const std::string much(8 << 20, 'x');
  std::thread sender([&] {
    for (size_t sent = 0; sent < much.size();) {
      const ssize_t bytes = send(peer.get(), much.data() + sent, much.size() - sent, MSG_NOSIGNAL);
      if (bytes <= 0) break;
      sent += size_t(bytes);
    }
    shutdown(peer.get(), SHUT_WR);
  });
  EXPECT_EQ(read_all(client), much);
  sender.join();
  EXPECT_EQ(proxy_->counts().bytes_out, 5U);
  EXPECT_EQ(proxy_->counts().bytes_in, much.size());
  EXPECT_EQ(proxy_->counts().connections, 1U);
  EXPECT_EQ(proxy_->counts().refused, 0U);
}

TEST_F(EgressProxyTest, APlainRequestIsForwardedOnce) {
  const TestListener target;
  serve({target.name()});
  const auto client = dial("GET http://" + target.name() + "/x HTTP/1.1\r\nProxy-Connection: keep-alive\r\n\r\n");
  const auto peer = accept_from(target);
  const auto whole = [](const std::string& text) { return text.ends_with("\r\n\r\n"); };
  EXPECT_EQ(read_until(peer, whole), "GET /x HTTP/1.1\r\nHost: " + target.name() + "\r\nConnection: close\r\n\r\n");
  constexpr std::string_view kAnswer = "HTTP/1.1 200 OK\r\n\r\nyes";
  send(peer.get(), kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL);
  shutdown(peer.get(), SHUT_WR);
  EXPECT_EQ(read_all(client), kAnswer);
}

TEST_F(EgressProxyTest, RefusesWithAReason) {
  const TestListener target, other;
  serve({target.name(), "0.0.0.0/0:*", "localhost:*", "no-such-host.invalid"});
  const auto refusal = [&](const std::string& host) { return read_all(dial("CONNECT " + host + " HTTP/1.1\r\n\r\n")); };
  EXPECT_THAT(refusal("api.example.com:443"), AllOf(StartsWith("HTTP/1.1 403 "), EndsWith("list does not hold it.\n")));
  // A block of everything, and a name, lead to nothing inside; and neither does another port of what is named.
  EXPECT_THAT(refusal(other.name()), AllOf(StartsWith("HTTP/1.1 403 "), HasSubstr("not public")));
  EXPECT_THAT(refusal("localhost:" + std::to_string(other.port)), HasSubstr("not public"));
  EXPECT_THAT(refusal("no-such-host.invalid:443"), StartsWith("HTTP/1.1 502 "));
  EXPECT_THAT(read_all(dial("GET / HTTP/1.1\r\n\r\n")), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(read_all(dial(std::string(16 << 10, 'x'))), StartsWith("HTTP/1.1 431 "));
  EXPECT_EQ(proxy_->counts().refused, 6U);
}

TEST_F(EgressProxyTest, NobodyThereIsToldSo) {
  std::string gone;
  {
    const TestListener target;
    gone = target.name();
  }
  serve({gone});
  EXPECT_THAT(read_all(dial("CONNECT " + gone + " HTTP/1.1\r\n\r\n")),
              AllOf(StartsWith("HTTP/1.1 502 "), HasSubstr("refused")));
}

TEST_F(EgressProxyTest, NobodyWaitsWithoutEnd) {
  const TestListener target;
  serve({target.name()}, {.connections = 1, .head_limit = Millis{50}, .idle_limit = Millis{50}});
  const auto slow = dial("CONNECT ");
  const auto next = dial("CONNECT " + target.name() + " HTTP/1.1\r\n\r\n");  // waits until there is room
  EXPECT_THAT(read_all(slow), StartsWith("HTTP/1.1 408 "));
  EXPECT_THAT(read_all(next), StartsWith("HTTP/1.1 200 ")) << "and an idle tunnel is ended";
}

TEST_F(EgressProxyTest, AClientThatHasSaidItsLastIsNotKeptForLong) {
  const TestListener target;
  serve({target.name()}, {.last_limit = Millis{50}});
  const auto client = dial("CONNECT " + target.name() + " HTTP/1.1\r\n\r\n");
  const auto peer = accept_from(target);
  shutdown(client.get(), SHUT_WR);
  EXPECT_THAT(read_all(client), StartsWith("HTTP/1.1 200 ")) << "though the target stays";
}

TEST_F(EgressProxyTest, ARefusedClientHearsWhyHoweverMuchItSends) {
  serve({"api.example.com"});
  const auto client = dial("POST http://other.example/ HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n");
  std::thread sender([&] {
    const std::string body(1'000'000, 'x');
    for (size_t sent = 0; sent < body.size();) {
      const ssize_t bytes = send(client.get(), body.data() + sent, body.size() - sent, MSG_NOSIGNAL);
      if (bytes <= 0) break;
      sent += size_t(bytes);
    }
  });
  EXPECT_THAT(read_all(client), StartsWith("HTTP/1.1 403 "));
  shutdown(client.get(), SHUT_RDWR);
  sender.join();
}

TEST_F(EgressProxyTest, ATenantHasHalfOfAllConnections) {
  const TestListener target;
  serve({target.name()}, {.all_connections = 2});
  const auto tunnel = "CONNECT " + target.name() + " HTTP/1.1\r\n\r\n";
  auto first = dial(tunnel);
  const auto peer = accept_from(target);
  const auto waits = dial(tunnel);
  TestListener other;
  port_ = other.port;
  const auto others = proxy_->add(std::move(other.fd), *EgressPolicy::parse({target.name()}), "other", "other/f:1");
  const auto second = dial(tunnel);
  const auto second_peer = accept_from(target);
  EXPECT_EQ(proxy_->counts().connections, 2U);
  first.reset();
  const auto third_peer = [&] {
    read_until(peer, [](const std::string&) { return false; });
    shutdown(peer.get(), SHUT_WR);
    return accept_from(target);
  }();
  EXPECT_EQ(proxy_->counts().connections, 3U) << "once there is room, who waited comes in";
}

TEST_F(EgressProxyTest, TakesNothingButAListener) {
  proxy_ = std::make_unique<EgressProxy>(loop_, Log::none(), EgressProxy::Options{});
  EXPECT_FALSE(proxy_->add(UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), {}, "test", "test/f:1"));
  EXPECT_FALSE(proxy_->add(UniqueFd(eventfd(0, EFD_CLOEXEC)), {}, "test", "test/f:1"));
  EXPECT_FALSE(proxy_->add(UniqueFd(), {}, "test", "test/f:1"));
}

TEST(EgressVariables, LeaveAProgramItsOwnLoopback) {
  const auto usual = egress_variables(EgressPolicy());
  EXPECT_EQ(usual.at("HTTPS_PROXY"), "http://127.0.0.1:3128");
  EXPECT_EQ(usual.at("http_proxy"), "http://127.0.0.1:3128");
  EXPECT_EQ(usual.at("no_proxy"), "localhost,127.0.0.1,::1");
  EXPECT_EQ(egress_variables(*EgressPolicy::parse({"127.0.0.1:8080"})).at("NO_PROXY"), "localhost,::1");
}

TEST_F(EgressProxyTest, AWayOutEndsWithItsHolder) {
  const TestListener target;
  serve({target.name()});
  const auto client = dial("CONNECT " + target.name() + " HTTP/1.1\r\n\r\n");
  const auto peer = accept_from(target);
  way_.reset();
  read_all(client);
  EXPECT_EQ(read_all(peer), "");
  // And a holder that outlives the proxy holds nothing.
  serve({target.name()});
  proxy_.reset();
  way_.reset();
}

}  // namespace
}  // namespace sundog::sandbox
