#include "api/function_routes.h"

#include <atomic>

#include "invoke/event_body.h"
#include "invoke/events.h"

namespace sundog::api {
namespace {

using CallPtr = std::shared_ptr<Call>;
using invoke::FunctionLogs;

constexpr size_t kBatch = 500;
constexpr Millis kLookForClient{5'000};

std::string lines_of(const std::vector<invoke::LogLine>& lines) {
  std::string text;
  for (const auto& line : lines) {
    text += dump({{"sequence", line.sequence},
                  {"time", iso_time(line.time)},
                  {"request_id", line.request_id},
                  {"text", line.text}});
    text += '\n';
  }
  return text;
}

// One client that follows one function's log. Lines are read and written on the pool, one batch after the other; the
// loop's timer holds it and lets it go once the client has gone.
class Follower : public OpenStreams::Stream, public std::enable_shared_from_this<Follower> {
 public:
  Follower(FunctionLogs& logs, Pool& pool, net::Loop& loop, const CallPtr& call, std::string function, int64_t after)
      : logs_(logs),
        pool_(pool),
        loop_(loop),
        tenant_(call->principal.tenant),
        function_(std::move(function)),
        after_(after),
        stream_(
            call->responder->stream(200, {{"Content-Type", "application/x-ndjson"}, {"Cache-Control", "no-store"}})) {}

  void start() {
    token_ = logs_.follow(tenant_, function_, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->schedule();
    });
    schedule();
    watch_client();
  }

  void end() override {
    ending_ = true;
    schedule();
  }

 private:
  void schedule() {
    if (scheduled_.exchange(true)) return;
    const auto submitted = pool_.submit([self = shared_from_this()] { self->pump(); });
    if (!submitted.ok()) scheduled_ = false;  // the next line, or the timer, tries again
  }

  void pump() {
    const std::lock_guard lock(pumping_);
    scheduled_ = false;
    while (true) {
      const auto lines = logs_.read(tenant_, function_, after_, kBatch);
      if (!lines.ok() || lines->empty()) break;
      after_ = lines->back().sequence;
      if (!stream_->write(lines_of(*lines))) return;
    }
    if (ending_) stream_->finish();
  }

  // A client that has gone is noticed here even if the function logs nothing any more.
  void watch_client() {
    loop_.run_after(kLookForClient, [self = shared_from_this()] {
      if (!self->stream_->open()) return;
      self->schedule();
      self->watch_client();
    });
  }

  FunctionLogs& logs_;
  Pool& pool_;
  net::Loop& loop_;
  const std::string tenant_, function_;
  std::mutex pumping_;
  int64_t after_;
  std::atomic<bool> scheduled_{false}, ending_{false};
  std::shared_ptr<net::ResponseStream> stream_;
  FunctionLogs::Token token_;  // destroyed first: no call comes after that
};

Result<std::string> own_function(const Call& call, const functions::Functions& functions) {
  SUNDOG_TRY(name, functions::parse_function_name(call.param("name")));
  SUNDOG_CHECK(functions.get(call.principal.tenant, name.name, ""));
  return name.name;
}

Json dead_letter_json(const store::DeadLetter& letter) {
  Json json = {{"id", letter.id},         {"request_id", ""},
               {"payload", ""},           {"attempts", letter.attempts},
               {"reason", letter.reason}, {"died", iso_time(letter.died)}};
  const auto event = invoke::parse_event(letter.body);
  if (!event.ok()) return json;
  json["request_id"] = event->invocation.request_id;
  json["payload"] = event->invocation.payload;
  json["attempts"] = letter.attempts + event->earlier_attempts;
  return json;
}

void add_log_route(Router& router, functions::Functions& functions, FunctionLogs& logs, Pool& pool, net::Loop& loop,
                   OpenStreams& streams) {
  router.add("GET", "/v1/functions/{name}/logs", Role::viewer, [&](const CallPtr& call) {
    const auto refuse = [&](const Error& error) { reply_error(*call->responder, error, ErrorShape::sundog); };
    const auto function = own_function(*call, functions);
    if (!function.ok()) return refuse(function.error());
    const auto after = call->query_int("after", 0);
    if (!after.ok()) return refuse(after.error());
    if (call->query("follow") == "1") {
      const auto follower = std::make_shared<Follower>(logs, pool, loop, call, *function, *after);
      return loop.post([follower, &streams] {
        streams.add(follower);
        follower->start();
      });
    }
    const auto limit = call->query_limit(1000, 10'000);
    if (!limit.ok()) return refuse(limit.error());
    const auto lines = logs.read(call->principal.tenant, *function, *after, *limit);
    if (!lines.ok()) return refuse(lines.error());
    call->responder->send(
        {.status = 200, .headers = {{"Content-Type", "application/x-ndjson"}}, .body = lines_of(*lines)});
  });
}

void add_dead_letter_routes(Router& router, functions::Functions& functions, store::Queue& queue) {
  router.json("GET", "/v1/functions/{name}/dead-letters", Role::viewer, [&](const CallPtr& call) -> Result<Json> {
    SUNDOG_TRY(function, own_function(*call, functions));
    SUNDOG_TRY(most, call->query_limit());
    SUNDOG_TRY(after, call->query_int("after", 0));
    SUNDOG_TRY(letters, queue.dead_letters(invoke::event_queue(call->principal.tenant, function), after, most));
    Json items = Json::array();
    for (const auto& letter : letters) items.push_back(dead_letter_json(letter));
    const std::string next = letters.size() == most ? std::to_string(letters.back().id) : "";
    return Json{{"items", std::move(items)}, {"next", next}};
  });
  router.json("POST", "/v1/functions/{name}/dead-letters/{id}/redrive", Role::deployer,
              [&](const CallPtr& call) -> Result<Json> {
                SUNDOG_TRY(function, own_function(*call, functions));
                const std::string text = call->param("id");
                if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos) {
                  return fail(Code::invalid_argument, "\"" + text.substr(0, 40) + "\" is no dead letter's id.");
                }
                SUNDOG_CHECK(queue.redrive(invoke::event_queue(call->principal.tenant, function), std::stoll(text)));
                return Json::object();
              });
}

}  // namespace

void OpenStreams::add(std::weak_ptr<Stream> stream) {
  std::erase_if(streams_, [](const auto& one) { return one.expired(); });
  streams_.push_back(std::move(stream));
}

void OpenStreams::end_all() {
  for (const auto& weak : std::exchange(streams_, {})) {
    if (const auto stream = weak.lock()) stream->end();
  }
}

void add_function_routes(Router& router, functions::Functions& functions, FunctionLogs& logs, store::Queue& queue,
                         Pool& pool, net::Loop& loop, OpenStreams& streams) {
  add_log_route(router, functions, logs, pool, loop, streams);
  add_dead_letter_routes(router, functions, queue);
}

}  // namespace sundog::api
