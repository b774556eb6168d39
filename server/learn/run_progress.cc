#include "learn/run_progress.h"

#include "base/kill_point.h"
#include "learn/run_record.h"
#include "store/each_record.h"

namespace sundog::learn {

Status RunProgress::begin(const std::string& tenant, const std::string& run, int64_t attempt) {
  int64_t last = 0;
  Json latest = Json::object();
  SUNDOG_CHECK(store::each_record(catalog_, point_prefix(tenant, run), [&](const store::Record& point) {
    last = point.value["n"];
    for (const auto& [key, value] : point.value["values"].items()) {
      if (value.is_number()) latest[key] = value;
    }
    return true;
  }));
  const std::lock_guard lock(mutex_);
  auto& live = live_[{tenant, run}];
  live.attempt = attempt;
  live.last_n = std::max(live.last_n, last);
  live.latest = std::move(latest);
  return done;
}

void RunProgress::end(const std::string& tenant, const std::string& run) {
  {
    const std::lock_guard lock(mutex_);
    live_.erase({tenant, run});
  }
  changed(tenant, run);
}

bool RunProgress::running(const std::string& tenant, const std::string& run) const {
  const std::lock_guard lock(mutex_);
  return live_.contains({tenant, run});
}

void RunProgress::ask_to_stop(const std::string& tenant, const std::string& run) {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find({tenant, run});
  if (found != live_.end()) found->second.stop = true;
}

Json RunProgress::latest(const std::string& tenant, const std::string& run) const {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find({tenant, run});
  return found == live_.end() ? Json::object() : found->second.latest;
}

void RunProgress::log(const std::string& tenant, const std::string& run, const Json& arguments, WallTime now,
                      int64_t max_points, Callback<sandbox::HostReply> reply) {
  Result<Json> point = fail(Code::conflict, "The run calls run.metrics before run.start");
  {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find({tenant, run});
    if (found != live_.end()) {
      auto& live = found->second;
      if (live.last_n >= max_points) {
        point = fail(Code::resource_exhausted, "The run has logged " + std::to_string(max_points) + " metric points",
                     "Log every 10th or 100th step.");
      } else {
        point = metric_point(arguments, live.last_n + 1, live.attempt, now);
      }
      if (point.ok()) {
        ++live.last_n;
        for (const auto& [key, value] : (*point)["values"].items()) {
          if (value.is_number()) live.latest[key] = value;
        }
      }
    }
  }
  if (!point.ok()) {
    reply(std::move(point).error());
    return;
  }
  pending_.push_back({{tenant, run}, std::move(*point), std::move(reply)});
  if (!flushing_) flush();
}

void RunProgress::flush() {
  flushing_ = true;
  auto batch = std::make_shared<std::vector<Pending>>(std::exchange(pending_, {}));
  const auto submitted = pool_.submit([this, batch] {
    std::vector<store::Write> writes;
    for (const auto& item : *batch) {
      writes.push_back({point_key(item.key.first, item.key.second, item.point["n"]), item.point, store::kAnyRevision});
    }
    const auto written = catalog_.commit(writes);
    kill_point("runs.metrics_written");
    const Status outcome = written.ok() ? Status(done) : Status(written.error());
    loop_.post([this, batch, outcome] { flushed(*batch, outcome); });
  });
  if (!submitted.ok()) flushed(*batch, submitted);
}

void RunProgress::flushed(const std::vector<Pending>& batch, const Status& outcome) {
  flushing_ = false;
  if (!pending_.empty()) flush();
  for (const auto& item : batch) {
    if (!outcome.ok()) {
      item.reply(outcome.error());
      continue;
    }
    bool stop = false;
    {
      const std::lock_guard lock(mutex_);
      const auto found = live_.find(item.key);
      stop = found == live_.end() || found->second.stop;
      ++changes_[item.key];
    }
    wake(item.key);
    item.reply(sandbox::HostReply{{{"stop", stop}}, {}});
  }
}

uint64_t RunProgress::changes(const std::string& tenant, const std::string& run) const {
  const std::lock_guard lock(mutex_);
  const auto found = changes_.find({tenant, run});
  return found == changes_.end() ? 0 : found->second;
}

void RunProgress::changed(const std::string& tenant, const std::string& run) {
  {
    const std::lock_guard lock(mutex_);
    ++changes_[{tenant, run}];
  }
  loop_.post([this, key = Key{tenant, run}] { wake(key); });
}

void RunProgress::wait(const std::string& tenant, const std::string& run, uint64_t seen, Millis wait,
                       std::function<void()> call) {
  loop_.post([this, key = Key{tenant, run}, seen, wait, call = std::move(call)]() mutable {
    if (changes(key.first, key.second) != seen) {
      call();
      return;
    }
    const auto id = next_waiter_++;
    const auto timer = loop_.run_after(wait, [this, id] { fire(id); });
    waiters_.emplace(id, Waiter{std::move(key), timer, std::move(call)});
  });
}

void RunProgress::wake(const Key& key) {
  std::vector<uint64_t> woken;
  for (const auto& [id, waiter] : waiters_) {
    if (waiter.key == key) woken.push_back(id);
  }
  for (const auto id : woken) fire(id);
}

void RunProgress::fire(uint64_t id) {
  auto waiter = waiters_.extract(id);
  if (waiter.empty()) return;
  loop_.cancel(waiter.mapped().timer);
  waiter.mapped().call();
}

void RunProgress::stop() {
  while (!waiters_.empty()) fire(waiters_.begin()->first);
}

}  // namespace sundog::learn
