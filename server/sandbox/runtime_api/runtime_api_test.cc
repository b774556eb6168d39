#include "sandbox/runtime_api/runtime_api.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "base/crypto.h"
#include "base/file.h"
#include "base/ids.h"
#include "sandbox/call_headers.h"

namespace sundog::sandbox {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// What a runtime says over HTTP, and what it hears.
class Http {
 public:
  explicit Http(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  void say(std::string_view text) {
    EXPECT_EQ(send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL), ssize_t(text.size()));
  }
  // One whole answer, head and body; what there was when the connection ended, if it did.
  std::string hear() {
    while (true) {
      const size_t head = heard_.find("\r\n\r\n");
      if (head != heard_.npos) {
        const size_t length = heard_.find("Content-Length: ");
        const size_t body = length < head ? std::stoul(heard_.substr(length + 16)) : 0;
        if (heard_.size() >= head + 4 + body) {
          std::string answer = heard_.substr(0, head + 4 + body);
          heard_.erase(0, answer.size());
          return answer;
        }
      }
      char buffer[4096];
      const ssize_t bytes = recv(socket_.get(), buffer, sizeof(buffer), 0);
      if (bytes <= 0) return std::exchange(heard_, {});
      heard_.append(buffer, size_t(bytes));
    }
  }
  std::string ask(std::string_view text) {
    say(text);
    return hear();
  }
  std::string next() { return ask("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"); }
  std::string post(std::string_view path, std::string_view body, std::string_view headers = {}) {
    return ask("POST /2018-06-01/runtime/" + std::string(path) + " HTTP/1.1\r\nHost: x\r\n" + std::string(headers) +
               "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body));
  }
  void hang_up() { socket_.reset(); }

 private:
  UniqueFd socket_;
  std::string heard_;
};

// The API in a thread of its own; the test is the server on one side and the runtime on the other. The bootstrap itself
// only waits for the number that it is to exit with.
class RuntimeApiTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("sundog-" + short_id("api"));
    std::filesystem::create_directories(folder_);
    ASSERT_EQ(mkfifo((folder_ / "status").c_str(), 0600), 0);
    status_ = UniqueFd(open((folder_ / "status").c_str(), O_RDWR | O_CLOEXEC));
    write_bootstrap("#!/bin/sh\nread status < status\nexit $status\n");
  }
  void TearDown() override {
    end_bootstrap(0);
    if (thread_.joinable()) thread_.join();
    std::filesystem::remove_all(folder_);
  }
  void write_bootstrap(const std::string& text, mode_t mode = 0755) {
    std::ofstream(folder_ / "bootstrap") << text;
    chmod((folder_ / "bootstrap").c_str(), mode);
  }
  void end_bootstrap(int status) {
    const std::string line = std::to_string(status) + "\n";
    EXPECT_EQ(write(status_.get(), line.data(), line.size()), ssize_t(line.size()));
  }
  void start(Millis init_timeout = Millis(60'000)) {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    server_ = UniqueFd(pair[0]);
    RuntimeApi::Options options;
    options.server = UniqueFd(pair[1]);
    auto listener = listen_on_loopback(0);
    ASSERT_TRUE(listener.ok());
    sockaddr_in address{};
    socklen_t size = sizeof(address);
    getsockname(listener->get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    options.listener = std::move(*listener);
    options.init_timeout = init_timeout;
    thread_ = std::thread([this, options = std::move(options)]() mutable {
      RuntimeApi api(std::move(options));
      auto bootstrap = Bootstrap::start((folder_ / "bootstrap").string(), folder_.string(), {"PATH=/usr/bin:/bin"});
      if (!bootstrap.ok()) return api.refuse(bootstrap.error());
      end_ = api.run(*bootstrap);
    });
  }
  void start_and_ask() {
    start();
    runtime_.emplace(port_);
    runtime_->say("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_EQ(frame().type, FrameType::ready);
  }
  void invoke(const std::string& id, std::string payload = R"({"n":1})") {
    Frame frame;
    frame.type = FrameType::invoke;
    frame.id = ++invocations_;
    frame.head = encode(InvokeHeader{.deadline_ms = 1'700'000'000'123,
                                     .request_id = id,
                                     .arn = "arn:aws:lambda:local:000000000000:function:f",
                                     .client_context = "{\"custom\":\n1}"});
    frame.raw = std::move(payload);
    const std::string bytes = encode_frame_header(frame) + frame.head + frame.raw;
    ASSERT_EQ(send(server_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), ssize_t(bytes.size()));
  }
  Frame frame() {
    while (true) {
      auto next = parser_.next();
      if (!next.ok() || *next) return next.ok() ? std::move(**next) : Frame{};
      char buffer[65536];
      const ssize_t bytes = recv(server_.get(), buffer, sizeof(buffer), 0);
      if (bytes <= 0) {
        ADD_FAILURE() << "the API has ended";
        return {};
      }
      parser_.feed({buffer, size_t(bytes)}, {});
    }
  }
  Json result(bool ok) {
    const auto last = frame();
    EXPECT_EQ(last.type, FrameType::result);
    const auto header = parse_result_header(last.head);
    EXPECT_TRUE(header.ok());
    EXPECT_EQ(header->ok, ok) << last.raw;
    EXPECT_FALSE(header->cpu.has_value());
    raw_ = last.raw;
    const auto body = parse_json(last.raw, "result");
    return body.ok() ? *body : Json();
  }
  Json init_failure() {
    const auto last = frame();
    EXPECT_EQ(last.type, FrameType::init_failed);
    return *parse_json(last.head, "failure");
  }

  Path folder_;
  UniqueFd server_, status_;
  uint16_t port_ = 0;
  std::optional<Http> runtime_;
  FrameParser parser_;
  std::thread thread_;
  ProcessEnd end_;
  std::string raw_;
  uint32_t invocations_ = 0;
};

constexpr std::string_view kAccepted = "{\"status\":\"OK\"}";

TEST_F(RuntimeApiTest, AnEventGoesThereAndItsAnswerBack) {
  start_and_ask();
  for (const std::string id : {"8a8b0d9c-0000-4000-8000-000000000001", "8a8b0d9c-0000-4000-8000-000000000002"}) {
    invoke(id);
    const auto event = runtime_->hear();
    EXPECT_THAT(event, StartsWith("HTTP/1.1 200 OK\r\n"));
    EXPECT_THAT(event, HasSubstr("\r\nLambda-Runtime-Aws-Request-Id: " + id + "\r\n"));
    EXPECT_THAT(event, HasSubstr("\r\nLambda-Runtime-Deadline-Ms: 1700000000123\r\n"));
    EXPECT_THAT(event,
                HasSubstr("\r\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:local:000000000000:function:f"));
    EXPECT_THAT(event, HasSubstr("\r\nLambda-Runtime-Trace-Id: Root=1-"));
    EXPECT_THAT(event, HasSubstr("\r\nLambda-Runtime-Client-Context: {\"custom\": 1}\r\n"));
    EXPECT_THAT(event, HasSubstr("\r\n\r\n{\"n\":1}"));
    const auto accepted = runtime_->post("invocation/" + id + "/response", "[42]");
    EXPECT_THAT(accepted, StartsWith("HTTP/1.1 202 Accepted\r\n"));
    EXPECT_THAT(accepted, HasSubstr(std::string(kAccepted)));
    EXPECT_EQ(result(true), Json({42}));
    runtime_->say("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n");
  }
}

TEST_F(RuntimeApiTest, ConnectionsMayBeMade_ForEachRequest) {
  start();
  std::thread asks([this] {
    Http one(port_);
    EXPECT_THAT(one.ask("GET /2018-06-01/runtime/invocation/next HTTP/1.0\r\n\r\n"), HasSubstr("{\"n\":1}"));
    EXPECT_EQ(one.hear(), "");  // the server closes: it is HTTP/1.0
  });
  EXPECT_EQ(frame().type, FrameType::ready);
  invoke("r1");
  asks.join();
  EXPECT_THAT(Http(port_).post("invocation/r1/response", "1"), StartsWith("HTTP/1.1 202"));
  result(true);
}

TEST_F(RuntimeApiTest, WhatDoesNotFitIsRefusedInLambdasWords) {
  start_and_ask();
  Http other(port_);
  EXPECT_THAT(other.post("invocation/r1/response", "1"), HasSubstr("\"InvalidRequestID\""));
  invoke("r1");
  runtime_->hear();
  const auto wrong = other.post("invocation/r2/response", "1");
  EXPECT_THAT(wrong, StartsWith("HTTP/1.1 400 Bad Request"));
  EXPECT_THAT(wrong, HasSubstr("{\"errorMessage\":\"Invalid request ID\",\"errorType\":\"InvalidRequestID\"}"));
  const auto late = other.post("init/error", "{}");
  EXPECT_THAT(late, StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(late,
              HasSubstr("State transition from RuntimeRunning to RuntimeInitError failed for runtime. Error: State "
                        "transition is not allowed"));
  EXPECT_THAT(other.ask("GET /2018-06-01/runtime/nothing HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(other.ask("GET /2018-06-01/extension/event/next HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(other.post("invocation/next", ""), StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(Http(port_).ask("no HTTP at all\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(other.post("invocation/r1/response", "2"), StartsWith("HTTP/1.1 202"));
  EXPECT_EQ(result(true), 2);
  EXPECT_THAT(other.post("invocation/r1/response", "3"), StartsWith("HTTP/1.1 403"));
}

TEST_F(RuntimeApiTest, AnErrorIsHandedOnAsItIs) {
  start_and_ask();
  invoke("r1");
  runtime_->hear();
  const std::string error = R"({"errorMessage":"no","errorType":"ValueError","stackTrace":["a"]})";
  EXPECT_THAT(runtime_->post("invocation/r1/error", error, "Lambda-Runtime-Function-Error-Type: Unhandled\r\n"),
              StartsWith("HTTP/1.1 202"));
  result(false);
  EXPECT_EQ(raw_, error);
  runtime_->say("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n");
  invoke("r2");
  runtime_->hear();
  runtime_->post("invocation/r2/error", "", "Lambda-Runtime-Function-Error-Type: Function.Odd\r\n");
  EXPECT_EQ(result(false)["errorType"], "Function.Odd");
}

TEST_F(RuntimeApiTest, AnAnswerOverTheLimitIsRefused) {
  start_and_ask();
  invoke("r1");
  runtime_->hear();
  const auto refused =
      runtime_->post("invocation/r1/response", std::string(6'291'557, 'x'), "Expect: 100-continue\r\n");
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 100 Continue"));
  const auto after = runtime_->hear();
  EXPECT_THAT(after, StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(after, HasSubstr("Exceeded maximum allowed payload size (6291556 bytes)."));
  EXPECT_EQ(result(false)["errorType"], "Function.ResponseSizeTooLarge");
}

TEST_F(RuntimeApiTest, AnswersStream) {
  start_and_ask();
  invoke("r1");
  runtime_->hear();
  runtime_->say(
      "POST /2018-06-01/runtime/invocation/r1/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
      "Lambda-Runtime-Function-Response-Mode: streaming\r\n\r\n5\r\nfirst\r\n");
  auto piece = frame();  // before the answer has ended
  EXPECT_EQ(piece.type, FrameType::stream);
  EXPECT_EQ(piece.raw, "first");
  EXPECT_THAT(Http(port_).next(), StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(runtime_->ask("6\r\nsecond\r\n0\r\n\r\n"), StartsWith("HTTP/1.1 202"));
  EXPECT_EQ(frame().raw, "second");
  const auto end = frame();
  EXPECT_EQ(end.type, FrameType::result);
  EXPECT_TRUE(parse_result_header(end.head)->streamed);
}

TEST_F(RuntimeApiTest, AStreamMayEndWithAnError) {
  start_and_ask();
  const std::string error = R"({"errorType":"Late","errorMessage":"too late"})";
  invoke("r1");
  runtime_->hear();
  runtime_->say(
      "POST /2018-06-01/runtime/invocation/r1/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
      "Trailer: Lambda-Runtime-Function-Error-Type\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n\r\n"
      "1\r\na\r\n0\r\nLambda-Runtime-Function-Error-Type: Late\r\nLambda-Runtime-Function-Error-Body: " +
      base64(error) + "\r\n\r\n");
  EXPECT_EQ(frame().raw, "a");
  EXPECT_EQ(result(false)["errorMessage"], "too late");
  EXPECT_THAT(runtime_->hear(), StartsWith("HTTP/1.1 202"));
  runtime_->say("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n");
  invoke("r2");
  runtime_->hear();
  runtime_->say(
      "POST /2018-06-01/runtime/invocation/r2/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
      "Lambda-Runtime-Function-Response-Mode: streaming\r\n\r\n1\r\nb\r\n");
  EXPECT_EQ(frame().raw, "b");
  runtime_->hang_up();
  EXPECT_EQ(result(false)["errorType"], "Runtime.TruncatedResponse");
}

TEST_F(RuntimeApiTest, AnUnknownResponseModeEndsTheInvocation) {
  start_and_ask();
  invoke("r1");
  runtime_->hear();
  EXPECT_THAT(runtime_->post("invocation/r1/response", "1", "Lambda-Runtime-Function-Response-Mode: odd\r\n"),
              HasSubstr("InvalidFunctionResponseMode"));
  EXPECT_EQ(result(false)["errorType"], "Runtime.InvalidResponseModeHeader");
}

TEST_F(RuntimeApiTest, AnEventThatGotLostIsGivenAgain) {
  start_and_ask();
  invoke("r1");
  runtime_->hear();
  runtime_->say("POST /2018-06-01/runtime/invocation/r1/response HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf");
  runtime_->hang_up();
  Http again(port_);
  EXPECT_THAT(again.next(), HasSubstr("{\"n\":1}"));
  EXPECT_THAT(again.post("invocation/r1/response", "[]"), StartsWith("HTTP/1.1 202"));
  result(true);
}

TEST_F(RuntimeApiTest, InitThatFailsIsTold) {
  start();
  Http runtime(port_);
  EXPECT_THAT(runtime.post("init/error", R"({"errorType":"ImportError","errorMessage":"no pandas","stackTrace":["x"]})",
                           "Lambda-Runtime-Function-Error-Type: Runtime.Import\r\n"),
              StartsWith("HTTP/1.1 202"));
  EXPECT_EQ(init_failure(), Json({{"type", "ImportError"}, {"message", "no pandas"}, {"stack", {"x"}}}));
}

TEST_F(RuntimeApiTest, ABootstrapThatEndsInInitIsTold) {
  for (const auto& [status, text] :
       {std::pair{3, "Runtime exited with error: exit status 3"}, {0, "Runtime exited without providing a reason"}}) {
    parser_ = {};
    start();
    end_bootstrap(status);
    const auto failure = init_failure();
    EXPECT_EQ(failure["type"], "Runtime.ExitError");
    EXPECT_EQ(failure["message"], text);
    thread_.join();
  }
}

TEST_F(RuntimeApiTest, InitHasALimit) {
  start(Millis(30));
  const auto failure = init_failure();
  EXPECT_EQ(failure["type"], "Sandbox.Timedout");
  EXPECT_EQ(failure["message"], "Init timed out after 0.03 seconds");
}

TEST_F(RuntimeApiTest, ABootstrapThatCannotRunIsAnInvalidEntrypoint) {
  const auto message = [this] {
    parser_ = {};
    start();
    const auto failure = init_failure();
    thread_.join();
    EXPECT_EQ(failure["type"], "Runtime.InvalidEntrypoint");
    return failure.value("message", "");
  };
  write_bootstrap("#!/bin/sh\n", 0644);
  EXPECT_THAT(message(), StartsWith("Couldn't find valid bootstrap(s): ["));
  write_bootstrap("neither a script nor a program", 0755);
  EXPECT_THAT(message(), HasSubstr("exec format error"));
  write_bootstrap("#!/no/such/interpreter\n", 0755);
  EXPECT_THAT(message(), HasSubstr("No such file or directory"));
  std::filesystem::remove(folder_ / "bootstrap");
  EXPECT_THAT(message(), StartsWith("Couldn't find valid bootstrap(s): ["));
}

TEST_F(RuntimeApiTest, LastWordsComeBeforeTheEnd) {
  start_and_ask();
  invoke("r1");
  runtime_->hear();
  EXPECT_THAT(runtime_->post("invocation/r1/response", "1"), StartsWith("HTTP/1.1 202"));
  end_bootstrap(7);
  result(true);
  thread_.join();
  EXPECT_EQ(end_.exit_status, 7);
}

TEST_F(RuntimeApiTest, ASignalIsPassedOn) {
  write_bootstrap("#!/bin/sh\nread status < status\nkill -9 $$\n");
  start_and_ask();
  invoke("r1");
  runtime_->hear();
  end_bootstrap(0);
  thread_.join();
  EXPECT_EQ(end_.signal, 9);
}

TEST_F(RuntimeApiTest, EndsWhenTheServerLetsGo) {
  start_and_ask();
  server_.reset();
  thread_.join();
  EXPECT_EQ(end_.exit_status, 0);
}

}  // namespace
}  // namespace sundog::sandbox
