#include "invoke/slot.h"

#include "base/kill_point.h"
#include "invoke/answers.h"
#include "invoke/specs.h"

namespace sundog::invoke {
namespace {

// How long a killed instance may take to be gone before its caller is answered without its figures.
constexpr Millis kKillGrace{2'000};

sandbox::InvokeRequest request_of(Context& context, Run& run) {
  const auto& config = run.version->config;
  sandbox::InvokeRequest request;
  request.request_id = run.invocation.request_id;
  request.payload = std::move(run.invocation.payload);
  request.deadline = context.clock.wall() + std::chrono::seconds{config.timeout_s};
  request.function_arn = run.version->arn();
  request.function_name = config.name;
  request.version = run.version->version;
  request.memory_mb = config.memory_mb;
  request.client_context = run.invocation.client_context;
  request.meta = run.invocation.meta;
  return request;
}

}  // namespace

Slot::~Slot() {
  cancel_timer();
}

Callback<std::unique_ptr<sandbox::Instance>> Slot::ready_callback() {
  return [weak = weak_from_this()](Result<std::unique_ptr<sandbox::Instance>> instance) {
    const auto slot = weak.lock();
    if (slot && slot->owner_ != nullptr) slot->owner_->on_slot_ready(*slot, std::move(instance));
  };
}

void Slot::adopt(std::unique_ptr<sandbox::Instance> instance) {
  instance_ = std::move(instance);
  state_ = State::idle;
  since_ = context_.clock.mono();
}

void Slot::execute(RunPtr run) {
  run_ = std::move(run);
  // Who came while the instance was starting waited for it, and for no more of it than that.
  if (fresh_ && run_->arrived < since_) {
    const Duration waited = std::min(instance_->start_time(), since_ - run_->arrived);
    (is_custom(run_->version->config) ? run_->init : run_->restore) = waited;
  }
  fresh_ = false;
  state_ = State::busy;
  since_ = context_.clock.mono();
  run_->started = since_;
  run_->instance = id_;
  if (!run_->logged_start) log_start(context_, *run_);
  auto request = request_of(context_, *run_);
  timer_ = context_.loop.run_after(std::chrono::seconds{run_->version->config.timeout_s}, [this] { on_timeout(); });
  instance_->invoke(std::move(request), [weak = weak_from_this(), turn = ++turn_](sandbox::Outcome outcome) {
    const auto slot = weak.lock();
    if (slot && slot->turn_ == turn) slot->settle(std::move(outcome));
  });
  kill_point("invoke.started");
}

void Slot::kill() {
  if (instance_) instance_->kill();
}

void Slot::on_timeout() {
  run_->timed_out = true;
  timer_ = context_.loop.run_after(kKillGrace, [this] {
    timer_ = 0;
    sandbox::Outcome outcome;
    outcome.kind = sandbox::Outcome::Kind::killed;
    settle(std::move(outcome));
  });
  instance_->kill();
}

void Slot::settle(sandbox::Outcome outcome) {
  cancel_timer();
  ++turn_;
  using Kind = sandbox::Outcome::Kind;
  const bool usable = !run_->timed_out && (outcome.kind == Kind::ok || outcome.kind == Kind::handler_error);
  state_ = usable && instance_->alive() ? State::idle : State::ended;
  since_ = context_.clock.mono();
  last_version_ = run_->version;
  last_tenant_ = run_->invocation.tenant;
  last_request_id_ = run_->invocation.request_id;
  if (owner_ != nullptr) owner_->on_slot_done(*this, std::exchange(run_, nullptr), std::move(outcome));
}

void Slot::cancel_timer() {
  if (timer_ != 0) context_.loop.cancel(std::exchange(timer_, 0));
}

void Slot::on_output(std::string_view text) {
  if (run_) return log_output(context_, *run_, text);
  if (last_version_) context_.logs.append(last_tenant_, last_version_->config.name, last_request_id_, text);
}

void Slot::on_host_call(sandbox::HostCall call, Callback<sandbox::HostReply> reply) {
  if (run_ && owner_ != nullptr) {
    owner_->on_slot_host_call(run_, std::move(call), std::move(reply));
  } else {
    reply(fail(Code::conflict, "\"" + call.name + "\" was called while no invocation runs."));
  }
}

void Slot::on_stream(std::string_view piece) {
  if (!run_ || run_->too_large) return;
  run_->bytes_streamed += static_cast<int64_t>(piece.size());
  if (run_->bytes_streamed > (run_->on_piece ? kStreamLimit : kAnswerLimit)) {
    run_->too_large = true;
    run_->gathered = {};
    if (run_->on_piece) instance_->kill();  // there is no end in sight
    return;
  }
  if (!run_->on_piece) {
    run_->gathered.append(piece);
    return;
  }
  auto resume = [weak = weak_from_this(), turn = turn_] {
    const auto slot = weak.lock();
    if (slot && slot->turn_ == turn && slot->instance_) slot->instance_->hold(false);
  };
  if (!run_->on_piece({piece, run_->version->version, std::move(resume)})) instance_->hold(true);
  kill_point("invoke.streamed");
}

void Slot::on_end() {
  if (state_ == State::ended) return;
  state_ = State::ended;
  if (owner_ != nullptr) owner_->on_slot_end(*this);
}

}  // namespace sundog::invoke
