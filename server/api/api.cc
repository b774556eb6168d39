#include "api/api.h"

#include <charconv>

#include "api/errors.h"
#include "base/ids.h"

namespace sundog::api {
namespace {

// Counts the answer on its way out, and signs it with the request's id where Lambda's clients look for one.
class CountedResponder final : public net::Responder {
 public:
  CountedResponder(std::shared_ptr<net::Responder> inner, Clock& clock, Metrics::Route& counts, std::string request_id)
      : inner_(std::move(inner)), clock_(clock), counts_(counts), start_(clock.mono()), id_(std::move(request_id)) {}

  void send(net::Response response) override {
    Metrics::count(counts_, response.status, clock_.mono() - start_);
    add_id(response.headers);
    inner_->send(std::move(response));
  }
  std::shared_ptr<net::ResponseStream> stream(int status, net::Pairs headers) override {
    add_id(headers);
    return std::make_shared<Stream>(inner_->stream(status, std::move(headers)), clock_, counts_, status, start_);
  }
  void on_disconnect(std::function<void()> callback) override { inner_->on_disconnect(std::move(callback)); }

 private:
  class Stream final : public net::ResponseStream {
   public:
    Stream(std::shared_ptr<net::ResponseStream> inner, Clock& clock, Metrics::Route& counts, int status, MonoTime start)
        : inner_(std::move(inner)), clock_(clock), counts_(counts), status_(status), start_(start) {}
    ~Stream() override { Metrics::count(counts_, status_, clock_.mono() - start_); }
    bool write(std::string piece, Wait wait) override { return inner_->write(std::move(piece), wait); }
    bool open() const override { return inner_->open(); }
    bool full() const override { return inner_->full(); }
    void when_room(std::function<void()> callback) override { inner_->when_room(std::move(callback)); }
    void finish() override { inner_->finish(); }

   private:
    std::shared_ptr<net::ResponseStream> inner_;
    Clock& clock_;
    Metrics::Route& counts_;
    int status_;
    MonoTime start_;
  };

  void add_id(net::Pairs& headers) {
    if (id_.empty()) return;
    for (const auto& [name, value] : headers) {
      if (name == "x-amzn-RequestId") return;  // the handler knows better: an invocation's own
    }
    headers.emplace_back("x-amzn-RequestId", id_);
  }

  std::shared_ptr<net::Responder> inner_;
  Clock& clock_;
  Metrics::Route& counts_;
  MonoTime start_;
  std::string id_;
};

ErrorShape shape_of(const Router::Match* match, std::string_view path) {
  return match != nullptr ? match->options.errors : shape_of_path(path);
}

Error shutting_down() {
  return fail(Code::unavailable, "The server is shutting down.", "Try again soon.");
}

Error too_large(std::string_view length, int64_t limit) {
  return fail(Code::too_large, "The request's body of " + std::string(length) +
                                   " bytes is over this route's limit of " + std::to_string(limit) + " bytes.");
}

}  // namespace

Api::Api(Clock& clock, Log& log, std::unique_ptr<Keys> keys, Options options)
    : clock_(clock),
      log_(log),
      keys_(std::move(keys)),
      authenticator_(*keys_, clock),
      unmatched_(&metrics_.route("", "none")),
      pool_(std::make_unique<Pool>("api", Pool::Options{options.threads, options.queue_limit})) {}

Api::~Api() = default;

net::Handler Api::handler() {
  return [this](net::Request request, std::shared_ptr<net::Responder> responder) {
    handle(std::move(request), std::move(responder));
  };
}

net::BodyPolicyFunction Api::body_policy() {
  return [this](const net::Request& request) { return policy_for(request); };
}

net::ErrorAnswer Api::error_answer() {
  return [this](const net::Request& request, const Error& error) {
    if (error.code == Code::internal) log_.error("request_not_answered", error, {{"target", request.target}});
    return error_response(error, shape_of_path(request.path.empty() ? request.target : request.path));
  };
}

// Before the body comes: who may not send one is told so at once.
net::BodyPolicy Api::policy_for(const net::Request& request) {
  std::map<std::string, std::string, std::less<>> params;
  bool path_exists = false;
  const auto* match = router_.match(request.method, request.target, params, path_exists);
  const auto shape = shape_of(match, request.path);
  net::BodyPolicy policy;  // where nothing matches: a little is read, and handle() says what is wrong
  if (draining_) {
    policy.refuse = error_response(shutting_down(), shape);
  } else if (match != nullptr) {
    policy = {.stream = match->options.stream_body, .limit = match->options.body_limit};
    Principal principal;
    const auto body = policy.stream ? Authenticator::Body::streamed : Authenticator::Body::coming;
    policy.refuse = authorise(*match, request, body, principal);
    const auto length = request.header("content-length");
    int64_t bytes = 0;
    const auto [end, error] = std::from_chars(length.data(), length.data() + length.size(), bytes);
    if (!policy.refuse && !length.empty() && (error != std::errc{} || bytes > policy.limit)) {
      policy.refuse = error_response(too_large(length, policy.limit), shape);
    }
  }
  if (policy.refuse) {
    Metrics::count(counts_of(match), policy.refuse->status, Duration{0});
    if (shape == ErrorShape::lambda) policy.refuse->headers.emplace_back("x-amzn-RequestId", uuid4());
  }
  return policy;
}

std::optional<net::Response> Api::authorise(const Router::Match& match, const net::Request& request,
                                            Authenticator::Body body, Principal& principal) const {
  if (match.options.open_to_all) return std::nullopt;
  auto outcome = authenticator_.check(request, body);
  if (const auto* failure = std::get_if<AuthFailure>(&outcome)) {
    return auth_failure_response(*failure, match.options.errors);
  }
  principal = std::get<Principal>(std::move(outcome));
  if (principal.role >= match.least) return std::nullopt;
  return error_response(fail(Code::permission_denied,
                             "Key " + principal.key_id + " has the role " + std::string(name(principal.role)) +
                                 "; this takes " + std::string(name(match.least)) + ".",
                             "Ask an admin of tenant \"" + principal.tenant + "\" for a key with that role."),
                        match.options.errors);
}

void Api::handle(net::Request request, std::shared_ptr<net::Responder> responder) {
  auto call = std::make_shared<Call>();
  bool path_exists = false;
  const auto* match = router_.match(request.method, request.target, call->params, path_exists);
  const auto shape = shape_of(match, request.path);
  call->request_id = uuid4();
  call->responder = std::make_shared<CountedResponder>(std::move(responder), clock_, counts_of(match),
                                                       shape == ErrorShape::lambda ? call->request_id : "");
  if (draining_ && !(match != nullptr && match->options.open_to_all)) {
    return reply_error(*call->responder, fail(Code::unavailable, "The server is shutting down.", "Try again soon."),
                       shape);
  }
  if (match == nullptr && !path_exists) {
    return reply_error(*call->responder, fail(Code::not_found, "There is nothing at " + request.path + "."), shape);
  }
  if (match == nullptr) {
    const auto allowed = router_.allowed(request.target);
    auto response = error_response(fail(Code::invalid_argument, request.path + " does not take " + request.method + ".",
                                        "It takes " + allowed + "."),
                                   shape);
    response.status = 405;
    response.headers.emplace_back("Allow", allowed);
    return call->responder->send(std::move(response));
  }
  const auto body =
      match->options.stream_body && request.body_stream ? Authenticator::Body::streamed : Authenticator::Body::complete;
  if (auto refusal = authorise(*match, request, body, call->principal)) {
    return call->responder->send(std::move(*refusal));
  }
  if (!call->principal.key_id.empty()) note_use(call->principal.key_id);
  call->request = std::move(request);
  run(*match, call);
}

void Api::run(const Router::Match& match, const std::shared_ptr<Call>& call) {
  const auto guarded = [this, &match](const std::shared_ptr<Call>& running) {
    try {
      match.handler(running);
    } catch (const std::exception& exception) {
      const auto error = fail(Code::internal, std::string("The server failed: ") + exception.what() + ".",
                              "The server's log has request " + running->request_id + ".");
      log_.error("handler_failed", error, {{"route", match.pattern}, {"request_id", running->request_id}});
      reply_error(*running->responder, error, match.options.errors);
    }
  };
  if (match.options.run == Run::loop) return guarded(call);
  const auto submitted = pool_->submit([guarded, call] { guarded(call); });
  if (!submitted.ok()) reply_error(*call->responder, submitted.error(), match.options.errors);
}

void Api::note_use(const std::string& key_id) {
  if (!keys_->used(key_id)) return;
  const auto submitted = pool_->submit([this] {
    if (const auto status = keys_->write_last_used(); !status.ok()) log_.error("keys_last_used", status.error());
  });
  if (!submitted.ok()) log_.error("keys_last_used", submitted.error());
}

Metrics::Route& Api::counts_of(const Router::Match* match) {
  if (match == nullptr) return *unmatched_;
  if (counts_.size() < router_.size()) counts_.resize(router_.size(), nullptr);
  auto& counts = counts_[match->index];
  if (counts == nullptr) counts = &metrics_.route(match->method, match->pattern);
  return *counts;
}

}  // namespace sundog::api
