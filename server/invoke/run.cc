#include "invoke/run.h"

#include <cmath>

#include "base/ids.h"
#include "base/kill_point.h"
#include "invoke/answers.h"

namespace sundog::invoke {
namespace {

constexpr size_t kTailBytes = 4096;
constexpr size_t kLongestLine = 64 << 10;

double in_ms(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}
int64_t rounded_up(double ms) {
  return static_cast<int64_t>(std::ceil(ms));
}

void keep_tail(Run& run, std::string_view line) {
  if (!run.invocation.want_log_tail) return;
  run.tail.append(line).push_back('\n');
  if (run.tail.size() > 2 * kTailBytes) run.tail.erase(0, run.tail.size() - kTailBytes);
}

void log_line(Context& context, Run& run, std::string_view line) {
  context.logs.append(run.invocation.tenant, run.version->config.name, run.invocation.request_id, line);
  keep_tail(run, line);
}

meter::UsageRecord usage_of(Context& context, const Run& run) {
  const auto& config = run.version->config;
  meter::UsageRecord usage;
  usage.request_id = run.invocation.request_id;
  // An attempt's number may come again (a dead letter put back); what ran twice is booked as two.
  usage.id = usage.request_id + "-" + std::to_string(run.invocation.attempt) + "-" + id_digits(8);
  usage.tenant = run.invocation.tenant;
  usage.function = config.name;
  usage.version = run.version->version;
  usage.kind = functions::name(run.invocation.kind.value_or(config.kind));
  usage.ended = context.clock.wall();
  usage.memory_mb = config.memory_mb;
  usage.bytes_in = run.bytes_in;
  usage.init_ms = in_ms(run.init);
  usage.billed_init_ms = rounded_up(usage.init_ms);
  usage.restore_ms = in_ms(run.restore);
  usage.billed_restore_ms = rounded_up(usage.restore_ms);
  usage.instance = run.instance;
  const MonoTime started = run.started.value_or(context.clock.mono());
  usage.queue_ms = std::max(0.0, in_ms(started - run.arrived) - usage.init_ms - usage.restore_ms);
  return usage;
}

void log_end(Context& context, Run& run, const meter::UsageRecord& usage, const Failure* failure) {
  if (!run.partial_line.empty()) log_line(context, run, std::exchange(run.partial_line, {}));
  std::string text = end_line(usage.request_id) + "\n" + report_line(usage, failure != nullptr ? failure->type : "");
  if (failure != nullptr) {
    text += usage.outcome == "timeout" ? "\n" + iso_time(usage.ended) + " " + usage.request_id + " " +
                                             failure->message.substr(failure->message.find("Task timed out"))
                                       : "\n" + failure->message + "\n" + failure->type;
  }
  context.logs.end(run.invocation.tenant, run.version->config.name, usage.request_id, text);
  keep_tail(run, text);
}

void answer(Context& context, const RunPtr& run, InvokeResult result) {
  run->ended = true;
  run->files.clear();
  const auto booked = context.ledger.append(result.usage);
  if (!booked.ok()) context.log.error("usage_kept_in_memory", booked.error(), {{"id", result.usage.id}});
  run->reserved.settle(result.usage);
  kill_point("invoke.metered");
  if (run->invocation.want_log_tail) {
    result.log_tail = run->tail.size() > kTailBytes ? run->tail.substr(run->tail.size() - kTailBytes) : run->tail;
  }
  result.request_id = run->invocation.request_id;
  result.executed_version = run->version->version;
  result.granted_blobs = std::move(run->invocation.granted_blobs);
  const auto on_done = std::move(run->on_done);
  on_done(std::move(result));
}

}  // namespace

meter::Quantity most_of(const functions::Config& config) {
  constexpr int64_t kStart = 10'000;  // the sandbox's limit of an init, in milliseconds
  meter::Quantity most;
  most.invocations = 1;
  most.billed_mb_ms = int64_t{1000} * config.timeout_s * config.memory_mb;
  most.init_mb_ms = most.restore_mb_ms = kStart * config.memory_mb;
  return most;
}

void log_start(Context& context, Run& run) {
  run.logged_start = true;
  log_line(context, run, start_line(run.invocation.request_id, run.version->version));
}

void log_output(Context& context, Run& run, std::string_view text) {
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t newline = text.find('\n', begin);
    const auto piece = text.substr(begin, newline == std::string_view::npos ? newline : newline - begin);
    if (newline == std::string_view::npos && run.partial_line.size() + piece.size() < kLongestLine) {
      run.partial_line.append(piece);
      return;
    }
    if (run.partial_line.empty()) {
      log_line(context, run, piece);
    } else {
      run.partial_line.append(piece);
      log_line(context, run, std::exchange(run.partial_line, {}));
    }
    if (newline == std::string_view::npos) return;
    begin = newline + 1;
  }
}

void end_with_outcome(Context& context, const RunPtr& run, sandbox::Outcome outcome) {
  kill_point("invoke.answered");
  using Kind = sandbox::Outcome::Kind;
  const auto& config = run->version->config;
  const bool answered =
      !run->timed_out && !run->too_large && (outcome.kind == Kind::ok || outcome.kind == Kind::handler_error);
  InvokeResult result;
  auto& usage = result.usage = usage_of(context, *run);
  Duration handler = outcome.consumption.handler;
  if (!answered || handler == Duration{}) handler = context.clock.mono() - *run->started;
  usage.handler_ms = in_ms(handler);
  usage.billed_ms = run->timed_out ? int64_t{1000} * config.timeout_s : rounded_up(usage.handler_ms);
  usage.cpu_ms = in_ms(outcome.consumption.cpu);
  usage.peak_memory_mb = static_cast<double>(outcome.consumption.peak_memory_bytes) / (1 << 20);
  if (answered) {
    usage.outcome = outcome.kind == Kind::ok ? "ok" : "handler_error";
    result.function_error = outcome.kind == Kind::ok ? "" : "Unhandled";
    // Invoke of what streams: the whole, unless it ended with an error.
    const bool gathered = outcome.kind == Kind::ok && !run->gathered.empty();
    result.payload = gathered ? std::move(run->gathered) : std::move(outcome.payload);
    log_end(context, *run, usage, nullptr);
  } else {
    const auto failure =
        run->too_large && !run->timed_out
            ? too_large_failure(usage.request_id, run->bytes_streamed, run->on_piece ? kStreamLimit : kAnswerLimit)
            : failure_of(outcome, run->timed_out, usage.request_id, config.timeout_s, config.memory_mb);
    usage.outcome = failure.outcome;
    result.function_error = "Unhandled";
    result.payload = failure_payload(failure);
    log_end(context, *run, usage, &failure);
  }
  usage.bytes_out = static_cast<int64_t>(result.payload.size()) + (run->on_piece ? run->bytes_streamed : 0);
  answer(context, run, std::move(result));
}

void end_with_init_failure(Context& context, const RunPtr& run, const sandbox::InitFailure& failure, Duration init) {
  if (!run->logged_start) log_start(context, *run);
  run->init = init;
  InvokeResult result;
  result.usage = usage_of(context, *run);
  result.usage.outcome = "init_error";
  result.function_error = "Unhandled";
  result.payload = init_failure_payload(failure, run->invocation.request_id);
  result.usage.bytes_out = static_cast<int64_t>(result.payload.size());
  const Failure shown{failure.type, "RequestId: " + run->invocation.request_id + " Error: " + failure.message, ""};
  log_end(context, *run, result.usage, &shown);
  answer(context, run, std::move(result));
}

void end_with_error(const RunPtr& run, Error error) {
  run->ended = true;
  run->reserved.release();
  run->files.clear();
  const auto on_done = std::move(run->on_done);
  on_done(std::move(error));
}

}  // namespace sundog::invoke
