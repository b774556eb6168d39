#include "sandbox/local_instance.h"

#include <csignal>

#include "sandbox/call_headers.h"
#include "sandbox/endings.h"

namespace sundog::sandbox {
namespace {

constexpr Millis kExitWait{1000};  // for the parent to say how a process ended
// An invocation that an instance left unread is given back if it is no larger, and if the instance had it no longer:
// who leaves it in the socket may have looked at it there, and must not work on it for nothing.
constexpr size_t kGivenBack = 64 << 10;
constexpr Millis kUnread{1000};

Json error_json(const Error& error) {
  return {{"code", name(error.code)}, {"message", error.message}, {"hint", error.hint}};
}

}  // namespace

LocalInstance::LocalInstance(net::Loop& loop, Clock& clock, LauncherClient& launcher, InstanceEvents& events,
                             Parts parts)
    : loop_(loop),
      clock_(clock),
      launcher_(launcher),
      events_(events),
      parts_(std::move(parts)),
      channel_(loop, std::move(parts_.socket)),
      output_(loop, std::move(parts_.output), [this](std::string_view text) { events_.on_output(text); }),
      made_(clock.mono()) {
  channel_.open(
      {[this](Frame frame) { on_frame(std::move(frame)); }, [this](const std::string& reason) { on_closed(reason); }});
  // Not from inside whoever tells it.
  parts_.exit->on_known = [this, here = std::weak_ptr<bool>(here_)] {
    if (parts_.exit->status < 0) return;  // only that it will never be known
    loop_.post([this, here] {
      if (const auto still = here.lock(); still && *still) on_exited();
    });
  };
}

LocalInstance::~LocalInstance() {
  *here_ = false;
  parts_.exit->on_known = nullptr;
  if (exit_timer_ != 0) loop_.cancel(exit_timer_);
  kill_processes();
  if (!on_done_) return;
  Outcome outcome;
  outcome.kind = Outcome::Kind::killed;
  outcome.consumption = consumed();
  loop_.post([on_done = std::move(on_done_), outcome] { on_done(outcome); });
}

void LocalInstance::kill_processes() {
  if (removed_) return;
  removed_ = true;
  const int pid = channel_.peer_pid();
  channel_.close();
  launcher_.kill_tree(parts_.tree);
  launcher_.remove_cell(parts_.cell.id);
  // Without cgroups only the process itself is in reach, and the server runs as the same user.
  if (parts_.cell.id == 0 && parts_.tree == 0 && pid > 0) ::kill(pid, SIGKILL);
}

Consumption LocalInstance::consumed() const {
  Consumption consumption;
  if (invoked_ != MonoTime{}) consumption.handler = clock_.mono() - invoked_;
  consumption.cpu = std::max(Duration{}, parts_.cell.cpu_time() - cpu_before_);
  consumption.peak_memory_bytes = parts_.cell.peak_bytes();
  return consumption;
}

void LocalInstance::invoke(InvokeRequest request, std::function<void(Outcome)> on_done) {
  if (state_ != State::idle) {
    Outcome outcome;
    outcome.kind = Outcome::Kind::broken;
    outcome.detail = state_ == State::busy ? "The instance is busy." : "The instance has ended.";
    loop_.post([on_done = std::move(on_done), outcome] { on_done(outcome); });
    return;
  }
  state_ = State::busy;
  on_done_ = std::move(on_done);
  invoked_ = clock_.mono();
  cpu_before_ = parts_.cell.cpu_time();
  Frame frame;
  frame.type = FrameType::invoke;
  frame.id = ++invocation_;
  const std::string meta = request.meta.is_null() ? "" : dump(request.meta);
  frame.head = encode(InvokeHeader{.deadline_ms = epoch_millis(request.deadline),
                                   .memory_mb = static_cast<uint32_t>(request.memory_mb),
                                   .request_id = request.request_id,
                                   .arn = request.function_arn,
                                   .name = request.function_name,
                                   .version = request.version,
                                   .client_context = request.client_context,
                                   .meta = meta});
  untouched_ = request.payload.size() <= kGivenBack;
  payload_ = untouched_ ? request.payload : std::string();
  frame.raw = std::move(request.payload);
  channel_.send(std::move(frame));
}

void LocalInstance::kill() {
  if (!alive()) return;
  const bool starting = state_ == State::starting;
  state_ = State::dead;
  output_.drain();
  const auto consumption = consumed();
  kill_processes();
  if (starting) {
    if (auto ready = std::exchange(on_ready_, nullptr)) {
      loop_.post([ready] { ready(fail(Code::cancelled, "The instance was ended while it started.")); });
    }
    return;
  }
  if (!on_done_) return;
  Outcome outcome;
  outcome.kind = Outcome::Kind::killed;
  outcome.signal = SIGKILL;
  outcome.consumption = consumption;
  loop_.post([on_done = std::exchange(on_done_, nullptr), outcome] { on_done(outcome); });
}

void LocalInstance::touched() {
  untouched_ = false;
  std::string().swap(payload_);  // gives its memory back
}

void LocalInstance::on_frame(Frame frame) {
  touched();
  switch (frame.type) {
    case FrameType::way_out:
      return on_way_out(std::move(frame));
    case FrameType::ready:
      return on_ready_frame();
    case FrameType::init_failed:
      return on_init_failed(frame);
    case FrameType::result:
      return on_result(std::move(frame));
    case FrameType::host_call:
      return on_host_call(std::move(frame));
    case FrameType::stream:
      return on_stream(frame);
    default:
      return broken("The instance sent a frame of type " + std::to_string(int(frame.type)) + ".");
  }
}

void LocalInstance::on_way_out(Frame frame) {
  const auto let_out = std::exchange(let_out_, nullptr);
  if (state_ != State::starting || !let_out) return broken("The instance handed over a way out that nobody awaits.");
  kept_ = let_out(std::move(frame.fds));
  if (!kept_) broken("The instance handed over a way out that is none.");
}

void LocalInstance::on_ready_frame() {
  if (state_ != State::starting) return broken("The instance said twice that it is ready.");
  if (let_out_) return broken("The instance has not handed over its way out.");
  state_ = State::idle;
  start_time_ = clock_.mono() - made_;
  if (auto ready = std::exchange(on_ready_, nullptr)) ready(done);
}

void LocalInstance::on_init_failed(const Frame& frame) {
  if (state_ != State::starting) return broken("The instance's init failed after it was ready.");
  const auto said = parse_json(frame.head, "an instance's init failure");
  auto failure = init_failure_of(said.ok() ? *said : Json());
  const auto here = here_;
  output_.drain();  // what init printed comes before its failure
  if (!*here || state_ != State::starting) return;
  if (parts_.cell.oom_kills() > 0) failure = {"Runtime.OutOfMemory", "Init ran out of memory", {}};
  events_.on_init_failure(failure);
  if (*here && state_ == State::starting) broken(failure.type + ": " + failure.message);
}

void LocalInstance::on_result(Frame frame) {
  if (state_ != State::busy || frame.id != invocation_) return broken("The instance answered what was not asked.");
  const auto header = parse_result_header(frame.head);
  if (!header.ok()) return broken("The instance's result has a malformed header.");
  const auto here = here_;
  output_.drain();  // what the handler printed comes before its answer
  if (!*here || state_ != State::busy) return;
  Outcome outcome;
  outcome.kind = header->ok ? Outcome::Kind::ok : Outcome::Kind::handler_error;
  outcome.payload = std::move(frame.raw);
  // The instance measures itself, but cannot claim more than passed here.
  const Duration passed = clock_.mono() - invoked_;
  outcome.consumption.handler = std::min(header->handler, passed);
  outcome.consumption.cpu = header->cpu ? *header->cpu : consumed().cpu;
  outcome.consumption.peak_memory_bytes = parts_.cell.peak_bytes();
  state_ = State::idle;
  std::exchange(on_done_, nullptr)(std::move(outcome));
}

void LocalInstance::on_host_call(Frame frame) {
  if (state_ != State::busy) return broken("The instance called its host while nothing runs.");
  auto header = parse_json(frame.head, "an instance's host call");
  if (!header.ok() || !header->is_object()) return broken("The instance's host call has no header.");
  auto name = get_string(*header, "call");
  if (!name.ok()) return broken("The instance's host call has no name.");
  HostCall call{*name, header->value("arguments", Json::object()), std::move(frame.fds)};
  events_.on_host_call(std::move(call),
                       [this, here = std::weak_ptr<bool>(here_), id = frame.id](Result<HostReply> reply) {
                         if (const auto still = here.lock(); still && *still) answer_host_call(id, std::move(reply));
                       });
}

void LocalInstance::answer_host_call(uint32_t id, Result<HostReply> reply) {
  touched();
  Frame frame;
  frame.type = FrameType::host_reply;
  frame.id = id;
  if (reply.ok()) {
    frame.head = dump({{"ok", true}, {"result", reply->result}});
    frame.fds = std::move(reply->fds);
  } else {
    frame.head = dump({{"ok", false}, {"error", error_json(reply.error())}});
  }
  if (frame.head.size() > kMaxFrameHead) {
    frame.fds.clear();
    frame.head = dump({{"ok", false}, {"error", error_json(fail(Code::too_large, "The reply is over 1 MB."))}});
  }
  channel_.send(std::move(frame));
}

void LocalInstance::on_stream(const Frame& frame) {
  if (state_ != State::busy || frame.id != invocation_) return broken("The instance streams while nothing runs.");
  events_.on_stream(frame.raw);
}

void LocalInstance::broken(std::string detail) {
  ending_.kind = Outcome::Kind::broken;
  ending_.detail = std::move(detail);
  state_ = state_ == State::busy || state_ == State::starting ? state_ : State::idle;
  ending_.consumption = consumed();
  kill_processes();
  loop_.post([this, here = std::weak_ptr<bool>(here_)] {
    if (const auto still = here.lock(); still && *still) finish();
  });
}

void LocalInstance::on_closed(const std::string& reason) {
  if (!alive()) return;
  if (!reason.empty()) return broken(reason);
  const auto here = here_;
  output_.drain();
  if (!*here || !alive()) return;
  ending_.consumption = consumed();
  ending_.kind = parts_.cell.oom_kills() > 0 ? Outcome::Kind::out_of_memory : Outcome::Kind::exited;
  ending_.unread = state_ == State::busy && untouched_ && channel_.left_unread() && clock_.mono() - invoked_ <= kUnread;
  if (ending_.unread) ending_.payload = std::move(payload_);
  // The process may only have closed its socket: end the rest of it, then its parent says how the first one ended. When
  // it ended by itself its status is fixed already and the kill changes nothing.
  wait_for_exit();
}

// Its process has ended, while what it forked may hold its socket open still.
void LocalInstance::on_exited() {
  const auto here = here_;
  exited_ = true;
  channel_.resume();
  if (*here) channel_.drain();  // its last words
  if (*here) on_closed({});
}

void LocalInstance::wait_for_exit() {
  if (parts_.exit->known) {
    kill_processes();
    return finish();
  }
  parts_.exit->on_known = [this] {
    kill_processes();
    finish();
  };
  exit_timer_ = loop_.run_after(kExitWait, [this] {
    exit_timer_ = 0;
    parts_.exit->on_known = nullptr;
    kill_processes();
    finish();
  });
}

void LocalInstance::finish() {
  if (!alive()) return;
  if (exit_timer_ != 0) loop_.cancel(exit_timer_);
  exit_timer_ = 0;
  const bool starting = state_ == State::starting, busy = state_ == State::busy;
  state_ = State::dead;
  if (parts_.exit->known && parts_.exit->status >= 0 && ending_.kind != Outcome::Kind::broken) {
    const int status = parts_.exit->status;
    ending_.signal = status > 128 ? status - 128 : 0;
    ending_.exit_status = status > 128 ? -1 : status;
  }
  if (starting) {
    auto why = ending_.kind == Outcome::Kind::out_of_memory ? std::string("it ran out of memory")
               : ending_.signal != 0                        ? "signal " + std::to_string(ending_.signal)
               : !ending_.detail.empty()                    ? ending_.detail
               : ending_.exit_status >= 0                   ? "exit status " + std::to_string(ending_.exit_status)
                                                            : "it was killed";
    if (auto ready = std::exchange(on_ready_, nullptr)) {
      ready(fail(Code::unavailable, "The instance of " + parts_.name + " ended before it was ready: " + why + "."));
    }
    return;
  }
  if (busy) return std::exchange(on_done_, nullptr)(std::move(ending_));
  events_.on_end();
}

}  // namespace sundog::sandbox
