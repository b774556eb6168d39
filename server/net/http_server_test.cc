// HttpServer over real sockets on loopback.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <future>
#include <thread>

#include "base/fd.h"
#include "base/pool.h"
#include "net/asio_loop.h"
#include "net/http.h"

namespace sundog::net {
namespace {

using namespace std::chrono_literals;

// A blocking client that gives up after ten seconds rather than hang.
class Client {
 public:
  explicit Client(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval limit{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  bool connected() const { return connected_; }

  bool send(std::string_view text) {
    while (!text.empty()) {
      const auto count = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      text.remove_prefix(static_cast<size_t>(count));
    }
    return true;
  }
  // Until the peer closes.
  std::string rest() {
    while (receive()) {
    }
    return std::exchange(in_, {});
  }
  // Header and, by its Content-Length, body of one answer.
  std::string answer(bool head = false) {
    while (in_.find("\r\n\r\n") == std::string::npos) {
      if (!receive()) return std::exchange(in_, {});
    }
    const size_t header = in_.find("\r\n\r\n") + 4;
    const size_t at = in_.find("Content-Length: ");
    const size_t length = at < header && !head ? std::stoul(in_.substr(at + 16)) : 0;
    while (in_.size() < header + length) {
      if (!receive()) break;
    }
    auto text = in_.substr(0, header + length);
    in_.erase(0, text.size());
    return text;
  }
  // What comes up to and with `mark`.
  std::string until(std::string_view mark) {
    while (in_.find(mark) == std::string::npos) {
      if (!receive()) return std::exchange(in_, {});
    }
    auto text = in_.substr(0, in_.find(mark) + mark.size());
    in_.erase(0, text.size());
    return text;
  }
  std::string call(std::string_view text) { return send(text) ? answer() : ""; }
  void half_close() { ::shutdown(fd_.get(), SHUT_WR); }
  void close() { fd_.reset(); }

 private:
  bool receive() {
    std::array<char, 16384> piece;
    const auto count = ::recv(fd_.get(), piece.data(), piece.size(), 0);
    if (count <= 0) return false;
    in_.append(piece.data(), static_cast<size_t>(count));
    return true;
  }
  UniqueFd fd_;
  bool connected_ = false;
  std::string in_;
};

class HttpServerTest : public testing::Test {
 protected:
  void start(Handler handler, HttpServer::Options options = {}, BodyPolicyFunction policy = {}) {
    options.port = 0;
    if (!policy) policy = [](const Request&) { return BodyPolicy{}; };
    auto server = HttpServer::listen(loop_, std::move(options), std::move(policy), std::move(handler));
    ASSERT_TRUE(server.ok()) << server.error().text();
    server_ = std::move(*server);
    port_ = server_->port();
    thread_ = std::thread([this] { loop_.run(); });
  }
  // Every request is answered by a stream that the test writes.
  std::future<std::shared_ptr<ResponseStream>> start_stream() {
    start([this](const Request&, const std::shared_ptr<Responder>& responder) {
      made_.set_value(responder->stream(200, {{"Content-Type", "text/plain"}}));
    });
    return made_.get_future();
  }
  // Runs on the loop's thread and waits for it.
  template <class F>
  auto on_loop(F f) {
    std::packaged_task<decltype(f())()> task(std::move(f));
    auto result = task.get_future();
    loop_.post([&task] { task(); });
    return result.get();
  }
  bool eventually(const std::function<bool()>& condition) {
    const auto give_up = std::chrono::steady_clock::now() + 10s;
    while (!on_loop(condition)) {
      if (std::chrono::steady_clock::now() > give_up) return false;
    }
    return true;
  }
  void TearDown() override {
    if (thread_.joinable()) {
      on_loop([this] {
        server_.reset();
        return 0;
      });
      loop_.stop();
      thread_.join();
    }
  }

  AsioLoop loop_;
  Pool pool_{"test", {.threads = 2}};
  std::unique_ptr<HttpServer> server_;
  uint16_t port_ = 0;
  std::promise<std::shared_ptr<ResponseStream>> made_;
  std::thread thread_;
};

Handler echo() {
  return [](Request request, const std::shared_ptr<Responder>& responder) {
    responder->send({200, {{"X-Path", request.path}}, request.method + " " + request.body});
  };
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST_F(HttpServerTest, KeepsAliveAndAnswersInOrder) {
  start(echo());
  Client client(port_);
  const auto first = client.call("POST /a%20b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
  EXPECT_TRUE(first.starts_with("HTTP/1.1 200 OK\r\n")) << first;
  EXPECT_TRUE(has(first, "X-Path: /a b\r\n")) << first;
  EXPECT_TRUE(first.ends_with("\r\n\r\nPOST hi")) << first;
  // Two at once: answered one after the other.
  ASSERT_TRUE(client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(client.answer().ends_with("POST 1"));
  EXPECT_TRUE(client.answer().ends_with("GET "));
  const auto last = client.call("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(has(last, "Connection: close\r\n")) << last;
  EXPECT_EQ(client.rest(), "");
}

TEST_F(HttpServerTest, PipelinedRequestsToAPoolKeepTheirOrder) {
  start([this](Request request, std::shared_ptr<Responder> responder) {
    ASSERT_TRUE(pool_
                    .submit([request = std::move(request), responder = std::move(responder)] {
                      responder->send({200, {}, request.path});
                    })
                    .ok());
  });
  Client client(port_);
  std::string all;
  for (int i = 0; i < 50; ++i) all += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: x\r\n\r\n";
  ASSERT_TRUE(client.send(all));
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(client.answer().ends_with("\r\n\r\n/" + std::to_string(i)));
}

TEST_F(HttpServerTest, ReadsChunkedBodiesAndExpectContinue) {
  start(echo());
  Client client(port_);
  const auto chunked = client.call(
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nA: b\r\n\r\n");
  EXPECT_TRUE(chunked.ends_with("POST abcdefg")) << chunked;
  ASSERT_TRUE(client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"));
  EXPECT_EQ(client.answer(), "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_TRUE(client.call("xyz").ends_with("POST xyz"));
  EXPECT_TRUE(client.call("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: a-pony\r\n\r\nabc")
                  .starts_with("HTTP/1.1 417"));
}

TEST_F(HttpServerTest, AnswersHeadWithoutBodyAndOldClientsWithClose) {
  start(echo());
  Client client(port_);
  ASSERT_TRUE(client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"));
  const auto head = client.answer(true);
  EXPECT_TRUE(has(head, "Content-Length: 5\r\n")) << head;
  EXPECT_TRUE(client.call("GET / HTTP/1.1\r\nHost: x\r\n\r\n").ends_with("GET "));
  Client old(port_);
  ASSERT_TRUE(old.send("GET / HTTP/1.0\r\n\r\n"));
  const auto text = old.rest();
  EXPECT_TRUE(has(text, "Connection: close\r\n")) << text;
  EXPECT_TRUE(text.ends_with("\r\n\r\nGET ")) << text;
}

struct Refusal {
  std::string request;
  std::string status;
};
class HttpRefusals : public HttpServerTest, public testing::WithParamInterface<Refusal> {};

TEST_P(HttpRefusals, AreAnsweredAndClosed) {
  start(echo(), {.header_limit = 1024}, [](const Request&) { return BodyPolicy{.limit = 10}; });
  Client client(port_);
  client.send(GetParam().request);
  const auto text = client.rest();
  EXPECT_TRUE(text.starts_with("HTTP/1.1 " + GetParam().status + " ")) << text;
  EXPECT_TRUE(has(text, "\"message\"")) << text;
  EXPECT_TRUE(has(text, "Connection: close\r\n")) << text;
}

INSTANTIATE_TEST_SUITE_P(
    All, HttpRefusals,
    testing::Values(
        Refusal{"not http at all\r\n\r\n", "400"}, Refusal{"GET / HTTP/1.1\r\n\r\n", "400"},
        Refusal{"GET /../etc HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
        Refusal{"GET /a/%2e%2E/b HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
        Refusal{"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
        Refusal{"GET /a%00b HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
        Refusal{"GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(2000, 'a') + "\r\n\r\n", "431"},
        Refusal{"GET /" + std::string(5000, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n", "431"},
        Refusal{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n12345678901", "413"},
        Refusal{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n", "413"},
        Refusal{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "501"},
        Refusal{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"},
        Refusal{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "400"},
        Refusal{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "400"},
        Refusal{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"}));

TEST_F(HttpServerTest, APolicyMayRefuseBeforeTheBodyIsSent) {
  start(echo(), {}, [](const Request&) { return BodyPolicy{.limit = 1 << 20, .refuse = Response{401, {}, "no"}}; });
  Client client(port_);
  ASSERT_TRUE(client.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n"));
  const auto text = client.rest();
  EXPECT_TRUE(text.starts_with("HTTP/1.1 401")) << text;
}

TEST_F(HttpServerTest, SlowClientsAreTimedOut) {
  HttpServer::Options options;
  options.header_timeout = options.body_idle_timeout = options.keep_alive_timeout = 60ms;
  start(echo(), options);
  Client header(port_);
  ASSERT_TRUE(header.send("GET / HT"));
  EXPECT_TRUE(header.rest().starts_with("HTTP/1.1 408"));
  Client body(port_);
  ASSERT_TRUE(body.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"));
  EXPECT_TRUE(body.rest().starts_with("HTTP/1.1 408"));
  Client silent(port_);
  EXPECT_EQ(silent.rest(), "");
  Client idle(port_);
  EXPECT_TRUE(idle.call("GET / HTTP/1.1\r\nHost: x\r\n\r\n").ends_with("GET "));
  EXPECT_EQ(idle.rest(), "");
}

TEST_F(HttpServerTest, ADrippedHeaderGetsNoMoreTime) {
  HttpServer::Options options;
  options.header_timeout = 100ms;
  start(echo(), options);
  Client client(port_);
  const auto begin = std::chrono::steady_clock::now();
  while (client.send("G") && std::chrono::steady_clock::now() - begin < 5s) {
    pollfd none{-1, 0, 0};
    ::poll(&none, 1, 5);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 4s);
}

TEST_F(HttpServerTest, AnAnswerNobodyReadsIsGivenUp) {
  HttpServer::Options options;
  options.write_timeout = 60ms;
  start([](const Request&, const std::shared_ptr<Responder>& r) { r->send({200, {}, std::string(64 << 20, 'x')}); },
        options);
  Client client(port_);
  ASSERT_TRUE(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(eventually([this] { return server_->open_connections() == 1; }));
  EXPECT_TRUE(eventually([this] { return server_->open_connections() == 0; }));
}

TEST_F(HttpServerTest, TellsTheHandlerThatTheClientWentAway) {
  std::promise<void> arrived;
  std::promise<void> gone;
  std::shared_ptr<Responder> kept;
  start([&](const Request&, std::shared_ptr<Responder> responder) {
    responder->on_disconnect([&] { gone.set_value(); });
    kept = std::move(responder);
    arrived.set_value();
  });
  Client client(port_);
  ASSERT_TRUE(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  ASSERT_EQ(arrived.get_future().wait_for(10s), std::future_status::ready);
  client.close();
  ASSERT_EQ(gone.get_future().wait_for(10s), std::future_status::ready);
  kept->send({200, {}, "late"});  // harmless
  kept.reset();
  EXPECT_TRUE(eventually([this] { return server_->open_connections() == 0; }));
}

TEST_F(HttpServerTest, AHalfClosedClientStillGetsItsAnswer) {
  start([this](const Request&, std::shared_ptr<Responder> responder) {
    ASSERT_TRUE(pool_.submit([responder = std::move(responder)] { responder->send({200, {}, "yes"}); }).ok());
  });
  Client client(port_);
  ASSERT_TRUE(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  client.half_close();
  EXPECT_TRUE(client.rest().ends_with("yes"));
}

TEST_F(HttpServerTest, ADroppedOrThrowingHandlerIs500) {
  start([](const Request& request, const std::shared_ptr<Responder>&) {
    if (request.path == "/throw") throw std::runtime_error("boom");
  });
  Client client(port_);
  EXPECT_TRUE(client.call("GET / HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 500"));
  EXPECT_TRUE(client.call("GET /throw HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 500"));
}

TEST_F(HttpServerTest, StreamsAnswersInChunksAsTheyCome) {
  auto made = start_stream();
  Client client(port_);
  ASSERT_TRUE(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  auto stream = made.get();
  EXPECT_TRUE(has(client.until("\r\n\r\n"), "Transfer-Encoding: chunked\r\n"));
  ASSERT_TRUE(stream->write("hello"));
  EXPECT_EQ(client.until("hello\r\n"), "5\r\nhello\r\n");
  ASSERT_TRUE(stream->write(std::string(16, 'a'), ResponseStream::Wait::never));
  stream->finish();
  EXPECT_EQ(client.until("0\r\n\r\n"), "10\r\naaaaaaaaaaaaaaaa\r\n0\r\n\r\n");
  EXPECT_TRUE(client.send("GET / HTTP/1.1\r\nHost: x\r\n"));  // still open
}

TEST_F(HttpServerTest, AStreamDroppedUnfinishedBreaksOff) {
  start([](const Request&, const std::shared_ptr<Responder>& responder) {
    responder->stream(200, {})->write("part", ResponseStream::Wait::never);
  });
  Client client(port_);
  ASSERT_TRUE(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_FALSE(client.rest().ends_with("0\r\n\r\n"));
}

TEST_F(HttpServerTest, AStreamDroppedUnfinishedIsResetWhereNothingElseMarksItsEnd) {
  auto made = start_stream();
  Client client(port_);
  ASSERT_TRUE(client.send("GET / HTTP/1.0\r\n\r\n"));
  auto stream = made.get();
  ASSERT_TRUE(stream->write("part", ResponseStream::Wait::never));
  EXPECT_TRUE(client.until("part").ends_with("part"));
  stream.reset();
  errno = 0;
  EXPECT_EQ(client.rest(), "");
  EXPECT_EQ(errno, ECONNRESET);
}

TEST_F(HttpServerTest, AStreamOfKnownLengthIsNotChunked) {
  start([this](const Request&, std::shared_ptr<Responder> responder) {
    ASSERT_TRUE(pool_
                    .submit([responder = std::move(responder)] {
                      auto stream = responder->stream(206, {{"Content-Length", "10"}});
                      stream->write("01234");
                      stream->write("56789");
                      stream->finish();
                    })
                    .ok());
  });
  Client client(port_);
  const auto text = client.call("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_FALSE(has(text, "chunked"));
  EXPECT_TRUE(text.ends_with("0123456789")) << text;
}

TEST_F(HttpServerTest, AFastWriterWaitsForASlowReader) {
  std::atomic<size_t> written{0};
  std::promise<void> ended;
  start([&](const Request&, std::shared_ptr<Responder> responder) {
    ASSERT_TRUE(pool_
                    .submit([&, responder = std::move(responder)] {
                      auto stream = responder->stream(200, {});
                      for (int i = 0; i < 1024 && stream->write(std::string(64 << 10, 'x')); ++i) written += 64 << 10;
                      stream->finish();
                      ended.set_value();
                    })
                    .ok());
  });
  Client client(port_);
  ASSERT_TRUE(client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
  client.until("\r\n\r\n");
  // Nothing is read yet: what was taken is bounded by the socket's and the stream's buffers.
  auto future = ended.get_future();
  EXPECT_EQ(future.wait_for(200ms), std::future_status::timeout);
  EXPECT_LT(written, size_t{32} << 20);
  EXPECT_GT(client.rest().size(), size_t{64} << 20);
  EXPECT_EQ(future.wait_for(10s), std::future_status::ready);
}

TEST_F(HttpServerTest, AStreamIsClosedWhenItsReaderGoes) {
  auto made = start_stream();
  Client client(port_);
  ASSERT_TRUE(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  auto stream = made.get();
  client.until("\r\n\r\n");
  client.close();
  EXPECT_TRUE(eventually([&] { return !stream->open(); }));
  EXPECT_FALSE(stream->write("x"));
}

TEST_F(HttpServerTest, WhoMustNotBlockIsCalledWhenThereIsRoom) {
  auto made = start_stream();
  Client client(port_);
  ASSERT_TRUE(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  const auto stream = made.get();
  client.until("\r\n\r\n");
  EXPECT_FALSE(stream->full());
  // More than sockets take: some of it stays here until the client reads.
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(stream->write(std::string(1 << 20, 'x'), ResponseStream::Wait::never));
  EXPECT_TRUE(stream->full());
  std::promise<void> room;
  stream->when_room([&] { room.set_value(); });
  auto called = room.get_future();
  std::thread reads([&] { client.until("END"); });
  EXPECT_EQ(called.wait_for(10s), std::future_status::ready);
  EXPECT_FALSE(stream->full());
  stream->write("END", ResponseStream::Wait::never);
  reads.join();
  std::promise<void> at_once;
  stream->when_room([&] { at_once.set_value(); });
  EXPECT_EQ(at_once.get_future().wait_for(10s), std::future_status::ready);
  for (int i = 0; i < 12; ++i) stream->write(std::string(1 << 20, 'x'), ResponseStream::Wait::never);
  std::promise<void> gone;
  stream->when_room([&] { gone.set_value(); });
  client.close();
  EXPECT_EQ(gone.get_future().wait_for(10s), std::future_status::ready);
  EXPECT_FALSE(stream->open());
}

BodyPolicyFunction streaming(int64_t limit = int64_t{1} << 40) {
  return [limit](const Request&) { return BodyPolicy{.stream = true, .limit = limit}; };
}

// Answers with the number of bytes it read, or the error.
Handler count_on(Pool& pool) {
  return [&pool](Request request, std::shared_ptr<Responder> responder) {
    const auto submitted = pool.submit([source = std::move(request.body_stream), responder = std::move(responder)] {
      size_t total = 0;
      std::string piece;
      while (true) {
        piece.clear();
        const auto count = source->read(piece, 10'000);
        if (!count.ok()) return responder->send({400, {}, std::string(name(count.error().code))});
        if (*count == 0) break;
        total += *count;
      }
      responder->send({200, {}, std::to_string(total)});
    });
    ASSERT_TRUE(submitted.ok());
  };
}

TEST_F(HttpServerTest, StreamsBodiesToAReader) {
  start(count_on(pool_), {}, streaming());
  Client client(port_);
  const size_t size = 20 << 20;
  ASSERT_TRUE(client.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(size) + "\r\n\r\n"));
  ASSERT_TRUE(client.send(std::string(size, 'b')));
  EXPECT_TRUE(client.answer().ends_with("\r\n\r\n" + std::to_string(size)));
  EXPECT_TRUE(
      client.call("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
          .ends_with("\r\n\r\n3"));
  EXPECT_TRUE(client.call("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").ends_with("\r\n\r\n0"));
}

TEST_F(HttpServerTest, AStreamedBodyThatStopsOrLiesIsAnError) {
  HttpServer::Options options;
  options.body_idle_timeout = 80ms;
  start(count_on(pool_), options, streaming(100));
  Client stops(port_);
  ASSERT_TRUE(stops.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc"));
  EXPECT_TRUE(stops.rest().starts_with("HTTP/1.1 4"));
  Client long_one(port_);
  ASSERT_TRUE(long_one.send("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
  for (int i = 0; i < 20; ++i) long_one.send("a\r\n0123456789\r\n");
  EXPECT_TRUE(long_one.rest().starts_with("HTTP/1.1 413"));
  Client broken(port_);
  ASSERT_TRUE(broken.send("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"));
  EXPECT_TRUE(broken.rest().starts_with("HTTP/1.1 400"));
}

TEST_F(HttpServerTest, AReaderSlowerThanTheClientHoldsItBack) {
  std::promise<std::shared_ptr<ByteSource>> made;
  std::shared_ptr<Responder> kept;
  HttpServer::Options options;
  options.body_idle_timeout = 50ms;  // must not fire while the reader is the slow one
  start(
      [&](Request request, std::shared_ptr<Responder> responder) {
        kept = std::move(responder);
        made.set_value(std::move(request.body_stream));
      },
      options, streaming());
  Client client(port_);
  const size_t size = 16 << 20;
  auto sent = std::async(std::launch::async, [&] {
    return client.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(size) + "\r\n\r\n") &&
           client.send(std::string(size, 'b'));
  });
  auto source = made.get_future().get();
  EXPECT_EQ(sent.wait_for(300ms), std::future_status::timeout);
  std::string all;
  while (true) {
    const auto count = source->read(all, 1 << 20);
    ASSERT_TRUE(count.ok()) << count.error().text();
    if (*count == 0) break;
  }
  EXPECT_EQ(all.size(), size);
  EXPECT_TRUE(sent.get());
  kept->send({200, {}, "ok"});
  EXPECT_TRUE(client.answer().ends_with("ok"));
}

TEST_F(HttpServerTest, AnAnswerBeforeTheBodyIsReadReachesTheClient) {
  start([](const Request&, const std::shared_ptr<Responder>& responder) { responder->send({403, {}, "no"}); }, {},
        streaming());
  Client client(port_);
  ASSERT_TRUE(client.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n"));
  client.send(std::string(4'000'000, 'b'));
  EXPECT_TRUE(client.rest().starts_with("HTTP/1.1 403"));
}

TEST_F(HttpServerTest, RefusesConnectionsOverTheLimit) {
  start(echo(), {.max_connections = 1});
  Client first(port_);
  EXPECT_TRUE(first.call("GET / HTTP/1.1\r\nHost: x\r\n\r\n").ends_with("GET "));
  Client second(port_);
  const auto text = second.answer();
  EXPECT_TRUE(text.starts_with("HTTP/1.1 503")) << text;
  EXPECT_TRUE(has(text, "\"unavailable\"")) << text;
}

TEST_F(HttpServerTest, DrainAnswersWhatIsInFlightAndTakesNoMore) {
  std::promise<void> arrived;
  std::shared_ptr<Responder> kept;
  start([&](const Request& request, std::shared_ptr<Responder> responder) {
    if (request.path == "/idle") return responder->send({200, {}, "idle"});
    kept = std::move(responder);
    arrived.set_value();
  });
  Client idle(port_);
  EXPECT_TRUE(idle.call("GET /idle HTTP/1.1\r\nHost: x\r\n\r\n").ends_with("idle"));
  Client busy(port_);
  ASSERT_TRUE(busy.send("GET /busy HTTP/1.1\r\nHost: x\r\n\r\n"));
  arrived.get_future().wait();
  on_loop([this] {
    server_->drain();
    return 0;
  });
  EXPECT_EQ(idle.rest(), "");
  EXPECT_FALSE(Client(port_).connected());
  kept->send({200, {}, "done"});
  const auto text = busy.rest();
  EXPECT_TRUE(has(text, "Connection: close\r\n")) << text;
  EXPECT_TRUE(text.ends_with("done")) << text;
  EXPECT_TRUE(eventually([this] { return server_->open_connections() == 0; }));
}

TEST_F(HttpServerTest, AHeaderValueCannotSplitTheAnswer) {
  start([](const Request&, const std::shared_ptr<Responder>& responder) {
    responder->send({200, {{"X-Echo", "a\r\nSet-Cookie: b"}, {"bad name", "x"}}, ""});
  });
  Client client(port_);
  const auto text = client.call("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(has(text, "X-Echo: a  Set-Cookie: b\r\n")) << text;
  EXPECT_FALSE(has(text, "bad name")) << text;
}

TEST_F(HttpServerTest, ATakenPortSaysSo) {
  start(echo());
  HttpServer::Options options;
  options.port = port_;
  AsioLoop other;
  const auto second = HttpServer::listen(other, options, {}, {});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Code::unavailable);
  EXPECT_TRUE(has(second.error().message, "is taken")) << second.error().message;
}

}  // namespace
}  // namespace sundog::net
