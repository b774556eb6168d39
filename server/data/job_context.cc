#include "data/job_context.h"

#include <algorithm>
#include <deque>

#include "base/kill_point.h"
#include "data/data_jobs.h"

namespace sundog::data {
namespace {

constexpr Millis kLongestThrottleWait{3'000};

// The code that a native function of ours names as its error's type.
std::optional<Code> code_from(std::string_view text) {
  for (int code = 0; code <= static_cast<int>(Code::internal); ++code) {
    if (text == sundog::name(static_cast<Code>(code))) return static_cast<Code>(code);
  }
  return std::nullopt;
}

Error stopped() {
  return fail(Code::cancelled, "The job was cancelled.");
}

}  // namespace

Error error_from_function(const invoke::InvokeResult& result) {
  const auto parsed = parse_json(result.payload, "the function's error");
  if (!parsed.ok() || !parsed->is_object())
    return fail(Code::internal, "The function failed: " + result.payload.substr(0, 500));
  const auto text = [&](const char* key) {
    const auto found = parsed->find(key);
    return found != parsed->end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  const std::string type = text("errorType"), message = text("errorMessage");
  if (const auto code = code_from(type)) return fail(*code, message, text("hint"));
  std::string said = message.empty() ? "The function failed." : message;
  if (!type.empty() && said.find(type) == std::string::npos) said = type + ": " + said;
  if (result.usage.outcome == "out_of_memory" || type == "Runtime.OutOfMemory") {
    return fail(Code::resource_exhausted, said,
                "It needs more memory: use smaller shards, or a function of a larger memory size.");
  }
  if (result.usage.outcome == "timeout" || type == "Sandbox.Timedout") {
    return fail(Code::deadline_exceeded, said, "Use smaller shards, or a function of a longer timeout.");
  }
  return fail(Code::internal, said, "The function's log says more.");
}

// Invocations in flight, shared with the callbacks, which may outlive a cancelled job.
struct RunningJob::Batch {
  std::vector<invoke::Invocation> invocations;
  std::vector<std::optional<Result<invoke::InvokeResult>>> answers;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<size_t> answered;  // not yet looked at
};

void RunningJob::progress(int64_t done, int64_t total, std::string note) {
  {
    const std::lock_guard lock(mutex_);
    progress_ = {{"done", done}, {"total", total}, {"note", std::move(note)}};
  }
  services_.on_change();
}

Json RunningJob::current_progress() const {
  const std::lock_guard lock(mutex_);
  return progress_;
}

bool RunningJob::cancelled() const {
  return ended() != End::none;
}

RunningJob::End RunningJob::ended() const {
  const std::lock_guard lock(mutex_);
  return end_;
}

void RunningJob::end(End why) {
  {
    const std::lock_guard lock(mutex_);
    if (end_ == End::none) end_ = why;
  }
  wake_.notify_all();
}

Json RunningJob::saved() const {
  auto record = services_.catalog.get(state_key(job_));
  return record.ok() ? record->value : Json();
}

Status RunningJob::save(Json state) {
  SUNDOG_CHECK(services_.catalog.put(state_key(job_), std::move(state)));
  return done;
}

Result<invoke::InvokeResult> RunningJob::invoke(invoke::Invocation invocation) {
  std::vector<invoke::Invocation> one;
  one.push_back(std::move(invocation));
  SUNDOG_TRY(answers, invoke_all(std::move(one), 1));
  return std::move(answers[0]);
}

void RunningJob::start(const std::shared_ptr<Batch>& batch, size_t index) {
  invoke::Invocation invocation = batch->invocations[index];
  if (invocation.tenant.empty()) invocation.tenant = job_.tenant;
  auto& invoker = services_.invoker;
  services_.loop.post([batch, index, &invoker, invocation = std::move(invocation)]() mutable {
    invoker.invoke(std::move(invocation), [batch, index](Result<invoke::InvokeResult> result) {
      {
        const std::lock_guard lock(batch->mutex);
        batch->answers[index] = std::move(result);
        batch->answered.push_back(index);
      }
      batch->changed.notify_all();
    });
  });
}

Result<std::vector<invoke::InvokeResult>> RunningJob::invoke_all(std::vector<invoke::Invocation> invocations,
                                                                 int parallel) {
  const auto batch = std::make_shared<Batch>();
  batch->invocations = std::move(invocations);
  const size_t total = batch->invocations.size();
  batch->answers.resize(total);
  std::vector<invoke::InvokeResult> out(total);
  std::deque<size_t> waiting;
  for (size_t i = 0; i < total; ++i) waiting.push_back(i);
  size_t in_flight = 0, finished = 0;
  Millis wait = services_.throttle_wait;
  while (finished < total) {
    if (cancelled()) return stopped();
    while (!waiting.empty() && in_flight < static_cast<size_t>(std::max(1, parallel))) {
      start(batch, waiting.front());
      waiting.pop_front();
      ++in_flight;
    }
    std::optional<size_t> index;
    std::optional<Result<invoke::InvokeResult>> answer;
    {
      std::unique_lock lock(batch->mutex);
      // Cancelling does not know this batch: it is looked at ten times a second.
      batch->changed.wait_for(lock, Millis{100}, [&] { return !batch->answered.empty(); });
      if (batch->answered.empty()) continue;
      index = batch->answered.front();
      batch->answered.pop_front();
      answer = std::move(batch->answers[*index]);
    }
    --in_flight;
    if (!answer->ok() && answer->error().code == Code::resource_exhausted) {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, wait, [&] { return end_ != End::none; });
      wait = std::min(wait * 2, kLongestThrottleWait);
      waiting.push_front(*index);
      continue;
    }
    if (!answer->ok()) return answer->error();
    if (!(*answer)->function_error.empty()) return error_from_function(**answer);
    wait = services_.throttle_wait;
    out[*index] = std::move(**answer);
    ++finished;
    kill_point("jobs.step_done");
  }
  return out;
}

}  // namespace sundog::data
