// Streamed answers: Lambda's InvokeWithResponseStream as an event stream, and Sundog's own route as a plain chunked
// body. On the loop thread; a client that reads slowly holds its instance and nothing else.
#include "api/errors.h"
#include "api/event_stream.h"
#include "api/lambda_invocation.h"
#include "api/lambda_routes.h"
#include "api/lambda_shapes.h"
#include "base/crypto.h"

namespace sundog::api {
namespace {

using CallPtr = std::shared_ptr<Call>;
using Wait = net::ResponseStream::Wait;

// One answer under way: its header goes out with the first piece, or with the end if nothing streams.
class StreamedAnswer {
 public:
  explicit StreamedAnswer(CallPtr call, const invoke::Invocation& invocation)
      : call_(std::move(call)), request_id_(invocation.request_id), want_log_(invocation.want_log_tail) {}
  virtual ~StreamedAnswer() = default;

  bool take(const invoke::StreamPiece& piece) {
    begin(piece.executed_version);
    if (!stream_->open()) return true;  // the client has gone: the function ends its work all the same, as on Lambda
    stream_->write(framed(piece.bytes), Wait::never);
    if (!stream_->full()) return true;
    stream_->when_room(piece.resume);
    return false;
  }
  virtual void end(Result<invoke::InvokeResult> result) = 0;

 protected:
  virtual std::string framed(std::string_view bytes) const = 0;
  virtual std::string content_type() const = 0;
  void begin(const std::string& version) {
    if (stream_) return;
    stream_ = call_->responder->stream(200, {{"Content-Type", content_type()},
                                             {"Cache-Control", "no-store"},
                                             {"x-amzn-RequestId", request_id_},
                                             {"X-Amz-Executed-Version", version}});
  }

  CallPtr call_;
  const std::string request_id_;
  const bool want_log_;
  std::shared_ptr<net::ResponseStream> stream_;
};

class EventStreamAnswer final : public StreamedAnswer {
 public:
  static constexpr ErrorShape kErrors = ErrorShape::lambda;
  using StreamedAnswer::StreamedAnswer;
  void end(Result<invoke::InvokeResult> result) override {
    if (!result.ok() && !stream_) return reply_error(*call_->responder, result.error(), kErrors);
    Json complete = Json::object();
    if (!result.ok()) {
      complete = {{"ErrorCode", error_row(result.error().code).lambda_exception},
                  {"ErrorDetails", result.error().text()}};
    } else {
      begin(result->executed_version);
      if (!result->function_error.empty()) {
        complete = {{"ErrorCode", result->function_error}, {"ErrorDetails", result->payload}};
      } else if (!result->payload.empty()) {
        stream_->write(framed(result->payload), Wait::never);
      }
      if (want_log_) complete["LogResult"] = base64(result->log_tail);
    }
    stream_->write(event_message("InvokeComplete", "application/json", dump(complete)), Wait::never);
    stream_->finish();
  }

 private:
  std::string framed(std::string_view bytes) const override {
    return event_message("PayloadChunk", "application/octet-stream", bytes);
  }
  std::string content_type() const override { return "application/vnd.amazon.eventstream"; }
};

// The pieces themselves. An error before the first of them is an ordinary answer; after it, a body that breaks off.
class ChunkedAnswer final : public StreamedAnswer {
 public:
  static constexpr ErrorShape kErrors = ErrorShape::sundog;
  using StreamedAnswer::StreamedAnswer;
  void end(Result<invoke::InvokeResult> result) override {
    if (stream_) {
      if (result.ok() && result->function_error.empty()) stream_->finish();
      stream_.reset();
      return;
    }
    if (!result.ok()) return reply_error(*call_->responder, result.error(), kErrors);
    net::Response response;
    response.headers = {{"Content-Type", "application/json"},
                        {"x-amzn-RequestId", request_id_},
                        {"X-Amz-Executed-Version", result->executed_version}};
    if (!result->function_error.empty()) {
      response.status = 502;
      response.headers.emplace_back("X-Amz-Function-Error", result->function_error);
    }
    response.body = std::move(result->payload);
    call_->responder->send(std::move(response));
  }

 private:
  std::string framed(std::string_view bytes) const override { return std::string(bytes); }
  std::string content_type() const override { return "application/octet-stream"; }
};

template <class Answer>
void stream_function(const CallPtr& call, const functions::Functions& functions, invoke::Invoker& invoker) {
  const std::string_view kind = call->request.header("x-amz-invocation-type");
  const auto refuse = [&call](const Error& error) { reply_error(*call->responder, error, Answer::kErrors); };
  if (!kind.empty() && kind != "RequestResponse" && kind != "DryRun") {
    return refuse(fail(Code::invalid_argument,
                       "\"" + std::string(kind.substr(0, 64)) + "\" is no InvocationType of a streamed answer.",
                       "There are RequestResponse and DryRun."));
  }
  auto invocation = invocation_of(*call, functions);
  if (!invocation.ok()) return refuse(invocation.error());
  if (kind == "DryRun") return call->responder->send({.status = 204});
  const auto taken = take_payload(*call, *invocation, kPayloadLimit, "InvokeWithResponseStream");
  if (!taken.ok()) return refuse(taken.error());
  const auto answer = std::make_shared<Answer>(call, *invocation);
  invoker.invoke_streaming(
      *std::move(invocation), [answer](const invoke::StreamPiece& piece) { return answer->take(piece); },
      [answer](Result<invoke::InvokeResult> result) { answer->end(std::move(result)); });
}

}  // namespace

void add_stream_routes(Router& router, functions::Functions& functions, invoke::Invoker& invoker) {
  router.add("POST", "/2021-11-15/functions/{name}/response-streaming-invocations", Role::invoker,
             [&](const CallPtr& call) { stream_function<EventStreamAnswer>(call, functions, invoker); },
             {.run = Run::loop, .errors = EventStreamAnswer::kErrors, .body_limit = kInvocationBody});
  router.add("POST", "/v1/functions/{name}/stream", Role::invoker,
             [&](const CallPtr& call) { stream_function<ChunkedAnswer>(call, functions, invoker); },
             {.run = Run::loop, .errors = ChunkedAnswer::kErrors, .body_limit = kInvocationBody});
}

}  // namespace sundog::api
