// FunctionPool's other half: how templates and instances come and go.
#include <algorithm>

#include "base/kill_point.h"
#include "invoke/answers.h"
#include "invoke/function_pool.h"
#include "invoke/specs.h"

namespace sundog::invoke {
namespace {

constexpr int kGivenBackMost = 3;

Machine machine_of(const InvokerOptions& options) {
  return {options.region, options.cores, options.variables, options.runtime_api};
}

}  // namespace

void FunctionPool::reserve_template(int64_t bytes) {
  hold_template(bytes - template_bytes_);
  template_bytes_ = bytes;
}

void FunctionPool::hold_template(int64_t bytes) {
  node_.memory_reserved += bytes;
  node_.memory_of_templates += bytes;
}

std::string FunctionPool::environment() const {
  if (template_state_ != TemplateState::none) return environment_;
  const auto spec = template_spec(*version_, context_.environments, machine_of(context_.options));
  return spec.ok() ? context_.sandbox.shared_by(*spec) : "";
}

void FunctionPool::build_ahead() {
  start_template();
  if (template_state_ != TemplateState::starting) return;
  building_ahead_ = true;
  ++node_.building_ahead;
}

void FunctionPool::start_template() {
  deployed_.reset();  // whatever comes of it: the next try is a caller's
  auto spec = template_spec(*version_, context_.environments, machine_of(context_.options));
  if (!spec.ok()) return cannot_run(spec.error());
  not_runnable_.reset();
  environment_ = context_.sandbox.shared_by(*spec);
  template_state_ = TemplateState::starting;
  hold_template(template_bytes_);
  template_asked_ = context_.clock.mono();
  context_.sandbox.start_template(*std::move(spec), [this, alive = std::weak_ptr(template_turn_)](
                                                        Result<std::shared_ptr<sandbox::TemplateStart>> started) {
    if (alive.lock()) on_template(std::move(started));
  });
}

void FunctionPool::cannot_run(Error error) {
  if (version_->state == functions::State::failed) error.message += " " + version_->state_reason;
  not_runnable_ = error;
  const auto waiting = std::exchange(waiting_, {});
  for (const auto& run : waiting) end_with_error(run, error);
}

void FunctionPool::on_template(Result<std::shared_ptr<sandbox::TemplateStart>> started) {
  if (std::exchange(building_ahead_, false)) --node_.building_ahead;
  if (!started.ok()) {
    template_state_ = TemplateState::none;
    hold_template(-template_bytes_);
    context_.log.error("template_not_started", started.error(), {{"function", version_->identity()}});
    last_error_ = started.error();
    count_failure();
  } else if ((*started)->parked == nullptr) {
    template_state_ = TemplateState::none;
    hold_template(-template_bytes_);
    on_init_failure((*started)->failure, (*started)->output);
  } else {
    auto& start = **started;
    template_state_ = TemplateState::ready;
    template_ = std::move(start.parked);
    ready_ = start.ready;
    template_ready_ = context_.clock.mono();
    init_billed_ = false;
    last_error_.reset();
    last_init_failure_.reset();
    if (ready_.memory_bytes > 0) {
      reserve_template(ready_.memory_bytes);
      template_measured_ = true;
    }
    if (!start.output.empty()) context_.logs.append(tenant_, version_->config.name, "", start.output);
    template_->on_death([this, turn = *template_turn_, alive = std::weak_ptr(template_turn_)](std::string reason) {
      const auto now = alive.lock();
      if (!now || *now != turn || template_state_ != TemplateState::ready) return;
      context_.log.warn("template_died", {{"function", version_->identity()}, {"reason", reason}});
      last_error_ = fail(Code::unavailable, "The template of function " + version_->config.name + " ended: " + reason);
      end_template();
      count_failure();
      look();
    });
    const std::string reason = ready_.fork_safe ? "" : ready_.reason;
    if (reported_failed_ || reason != start_reason_) report({.failure = {}, .start_reason = reason});
  }
  look();
  node_.freed();
}

void FunctionPool::on_init_failure(const sandbox::InitFailure& failure, const std::string& output) {
  const Duration init = context_.clock.mono() - template_asked_;
  note_init_failure(failure, init, output);
  // Only those who are here now: an answer may bring the next invocation, which is a new attempt.
  auto waiting = std::exchange(waiting_, {});
  Duration billed = init;
  for (const auto& run : waiting) end_with_init_failure(context_, run, failure, std::exchange(billed, Duration{0}));
}

void FunctionPool::on_instance_init_failure(sandbox::InitFailure failure, Duration init) {
  if (failure.type == "Runtime.OutOfMemory") {
    failure.message += ": the limit is " + std::to_string(version_->config.memory_mb) + " MB";
  }
  note_init_failure(failure, init, {});
  if (!waiting_.empty()) end_with_init_failure(context_, take_first(), failure, init);
}

void FunctionPool::note_init_failure(const sandbox::InitFailure& failure, Duration init, const std::string& output) {
  last_init_failure_ = failure;
  count_failure();
  std::string text = output;
  if (!text.empty() && text.back() != '\n') text.push_back('\n');
  text += "[ERROR] " + failure.type + ": " + failure.message + "\n" + init_report_line(init, failure);
  context_.logs.append(tenant_, version_->config.name, "", text);
  if (!reported_failed_) report({.failure = failure, .start_reason = {}});
}

// Functions keeps this in its catalog and may block.
void FunctionPool::report(functions::InitReport report) {
  reported_failed_ = report.failure.has_value();
  if (!report.failure) start_reason_ = report.start_reason;
  auto& functions = context_.functions;
  const auto queued = context_.pool.submit(
      [&functions, version = version_, report = std::move(report)] { functions.report_init(*version, report); });
  if (!queued.ok()) context_.log.error("init_not_reported", queued.error(), {{"function", version_->identity()}});
}

void FunctionPool::end_template() {
  if (template_state_ != TemplateState::ready) return;
  ++*template_turn_;
  template_state_ = TemplateState::none;
  hold_template(-template_bytes_);
  // In a later turn: this may be a callback of its own.
  context_.loop.post([parked = std::shared_ptr<sandbox::Template>(std::move(template_))]() mutable { parked.reset(); });
  node_.freed();
}

void FunctionPool::start_instance() {
  std::optional<sandbox::NativeSpec> native;
  if (template_state_ == TemplateState::not_needed) {
    auto spec = native_spec(*version_, context_.environments, machine_of(context_.options));
    if (!spec.ok()) return cannot_run(spec.error());
    not_runnable_.reset();
    native = *std::move(spec);
  }
  auto slot = std::make_shared<Slot>(context_, *this, tenant_, version_);
  slots_.emplace(slot.get(), slot);
  ++starting_;
  ++node_.starting;
  ++of_tenant_->running;
  ++of_function_->running;
  hold(instance_bytes_);
  if (native) {
    context_.sandbox.start_native(*std::move(native), *slot, slot->ready_callback());
  } else {
    template_->fork(*slot, slot->ready_callback());
  }
}

void FunctionPool::on_slot_ready(Slot& slot, Result<std::unique_ptr<sandbox::Instance>> instance) {
  --starting_;
  --node_.starting;
  --of_tenant_->running;
  --of_function_->running;
  if (instance.ok()) {
    slot.adopt(*std::move(instance));
    start_time_ = slot.instance()->start_time();
    idle_.push_back(&slot);
    last_error_.reset();
    if (is_custom(version_->config)) {
      last_init_failure_.reset();
      if (reported_failed_) report({});
    }
  } else if (slot.init_failure()) {
    const auto failure = *slot.init_failure();
    const Duration init = context_.clock.mono() - slot.made();
    end_slot(slot);
    on_instance_init_failure(failure, init);
  } else {
    context_.log.error("instance_not_started", instance.error(), {{"function", version_->identity()}});
    last_error_ = instance.error();
    count_failure();
    end_slot(slot);
  }
  look();
  node_.freed();
}

void FunctionPool::on_slot_done(Slot& slot, RunPtr run, sandbox::Outcome outcome) {
  --busy_;
  node_.memory_busy -= instance_bytes_;
  --of_tenant_->running;
  --of_function_->running;
  if (outcome.unread && !run->timed_out && run->given_back++ < kGivenBackMost) {
    return give_back(slot, std::move(run), std::move(outcome.payload));
  }
  last_used_ = context_.clock.mono();
  const Duration took = last_used_ - run->started.value_or(last_used_);
  mean_run_ = mean_run_ == Duration{0} ? took : mean_run_ + (took - mean_run_) / 16;
  if (slot.state() == Slot::State::idle) {
    failures_ = 0;
    idle_.push_back(&slot);
    arm(last_used_ + context_.policy.idle_instance);
  } else {
    using Kind = sandbox::Outcome::Kind;
    if (outcome.kind == Kind::exited || outcome.kind == Kind::broken) count_failure();
    end_slot(slot);
  }
  end_with_outcome(context_, run, std::move(outcome));
  if (!waiting_.empty() || retired_ || idle_.empty() || lacks_provisioned()) look();
  node_.freed();
}

// It goes first again, to another: whoever had it has ended before it began.
void FunctionPool::give_back(Slot& slot, RunPtr run, std::string payload) {
  count_failure();
  end_slot(slot);
  run->invocation.payload = std::move(payload);
  run->started.reset();
  run->init = run->restore = Duration{0};
  waiting_.push_front(std::move(run));
  look();
  node_.freed();
}

void FunctionPool::on_slot_end(Slot& slot) {
  if (slot.run() != nullptr) return;  // its outcome comes
  lose(slot);
  look();
}

void FunctionPool::lose(Slot& slot) {
  // A parked one that is gone ran nothing: that is no crash of the function.
  if (!is_parked(slot)) count_failure();
  end_slot(slot);
}

void FunctionPool::lose_unreachable(size_t calls) {
  std::vector<Slot*> lost;
  const auto ask = [&](Slot& slot) {
    if (slot.instance()->reachable()) {
      --calls;
    } else {
      lost.push_back(&slot);
    }
  };
  for (auto it = idle_.rbegin(); it != idle_.rend() && calls > 0; ++it) ask(**it);
  for (auto it = parked_.rbegin(); it != parked_.rend() && calls > 0; ++it) ask(*it->slot);
  for (auto* slot : lost) lose(*slot);
}

void FunctionPool::on_slot_host_call(const RunPtr& run, sandbox::HostCall call, Callback<sandbox::HostReply> reply) {
  node_.host_call(run, std::move(call), std::move(reply));
}

void FunctionPool::hold(int64_t bytes) {
  held_bytes_ += bytes;
  of_tenant_->held_bytes += bytes;
  node_.memory_reserved += bytes;
}

bool FunctionPool::is_parked(const Slot& slot) const {
  return std::any_of(parked_.begin(), parked_.end(), [&](const Parked& one) { return one.slot == &slot; });
}

// From now on it holds what it takes in place of its full size.
void FunctionPool::park(Slot& slot) {
  own_bytes_ = slot.instance()->memory_bytes();
  std::erase(idle_, &slot);
  slot.park();
  parked_.push_back({&slot, own_bytes_});
  hold(-instance_bytes_);
  node_.memory_reserved += own_bytes_;
  node_.memory_parked += own_bytes_;
  kill_point("invoke.parked");
  node_.freed();
}

void FunctionPool::leave_parked(std::vector<Parked>::iterator one) {
  node_.memory_reserved -= one->bytes;
  node_.memory_parked -= one->bytes;
  parked_.erase(one);
}

void FunctionPool::end_slot(Slot& slot) {
  const auto parked =
      std::find_if(parked_.begin(), parked_.end(), [&](const Parked& one) { return one.slot == &slot; });
  if (parked != parked_.end()) {
    leave_parked(parked);
  } else {
    std::erase(idle_, &slot);
    hold(-instance_bytes_);
  }
  slot.retire();
  const auto found = slots_.find(&slot);
  node_.bury(std::move(found->second));
  slots_.erase(found);
  node_.freed();
}

void FunctionPool::count_failure() {
  ++failures_;
  last_failure_ = context_.clock.mono();
}

}  // namespace sundog::invoke
