#include "data/jobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "base/ids.h"
#include "base/kill_point.h"
#include "data/job_context.h"
#include "store/each_record.h"

namespace sundog::data {
namespace {

constexpr size_t kHeld = 20;                         // records at a time of those that a list shows in short
constexpr auto kKept = std::chrono::hours(24 * 30);  // ended jobs are forgotten after it

// Begins with the time that is left until the digits end, so that a scan finds the newest first.
std::string new_job_id(WallTime now) {
  constexpr int64_t kEnd = (int64_t{1} << 44) - 1;  // the year 2527
  return fmt::format("job-{:011x}{}", kEnd - epoch_millis(now), id_digits(6));
}

std::string job_key(const std::string& tenant, const std::string& id) {
  return "jobs/" + tenant + "/" + id;
}

bool is_over(const std::string& state) {
  return state == "succeeded" || state == "failed" || state == "cancelled";
}

Json record_of(const Job& job) {
  return {{"id", job.id},
          {"tenant", job.tenant},
          {"kind", job.kind},
          {"state", job.state},
          {"arguments", job.arguments},
          {"progress", job.progress},
          {"result", job.result},
          {"error", job.error},
          {"created_ms", epoch_millis(job.created)},
          {"ended_ms", is_over(job.state) ? epoch_millis(job.ended) : 0}};
}

Job job_from(const Json& record) {
  Job job;
  job.id = record.value("id", "");
  job.tenant = record.value("tenant", "");
  job.kind = record.value("kind", "");
  job.state = record.value("state", "failed");
  job.arguments = record.value("arguments", Json());
  job.progress = record.value("progress", Json());
  job.result = record.value("result", Json());
  job.error = record.value("error", Json());
  job.created = from_epoch_millis(record.value("created_ms", int64_t{0}));
  job.ended = from_epoch_millis(record.value("ended_ms", int64_t{0}));
  return job;
}

Json error_json(const Error& error) {
  return {{"code", name(error.code)}, {"message", error.message}, {"hint", error.hint}};
}

class StoredJobs final : public Jobs {
 public:
  StoredJobs(net::Loop& loop, Clock& clock, Log& log, store::Catalog& catalog, invoke::Invoker& invoker, int threads)
      : loop_(loop), clock_(clock), log_(log), catalog_(catalog), invoker_(invoker), thread_count_(threads) {}
  ~StoredJobs() override { stop_threads(); }
  StoredJobs(const StoredJobs&) = delete;
  StoredJobs& operator=(const StoredJobs&) = delete;

  void add_kind(std::string kind, JobHandler handler) override { handlers_[std::move(kind)] = std::move(handler); }
  Result<Job> submit(const std::string& tenant, const std::string& kind, Json arguments) override;
  Result<Job> get(const std::string& tenant, const std::string& id) const override;
  Result<Job> wait(const std::string& tenant, const std::string& id, Millis wait) const override;
  Result<JobPage> list(const std::string& tenant, const std::string& after, size_t limit) const override;
  Status cancel(const std::string& tenant, const std::string& id) override;
  Status start() override;
  void ask_to_stop() override;
  void stop() override { stop_threads(); }

 private:
  using Live = std::shared_ptr<RunningJob>;
  void run();
  void run_one(const Live& live);
  Status finish(Job job);
  void stop_threads();
  void changed();
  void enqueue(Job job);  // mutex_ held
  Result<Job> current(const std::string& tenant, const std::string& id) const;

  net::Loop& loop_;
  Clock& clock_;
  Log& log_;
  store::Catalog& catalog_;
  invoke::Invoker& invoker_;
  int thread_count_;
  std::map<std::string, JobHandler> handlers_;

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;  // a job's state or progress
  std::condition_variable work_;
  std::deque<Live> queue_;
  std::map<std::string, Live> live_;           // queued and running, by key
  std::map<std::string, std::string> states_;  // of those in live_
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

void StoredJobs::changed() {
  {
    const std::lock_guard lock(mutex_);
  }  // so that a waiter is either before its check or asleep
  changed_.notify_all();
}

void StoredJobs::enqueue(Job job) {
  const std::string key = job_key(job.tenant, job.id);
  auto live = std::make_shared<RunningJob>(std::move(job),
                                           RunningJob::Services{loop_, invoker_, catalog_, [this] { changed(); }});
  live_[key] = live;
  states_[key] = "queued";
  queue_.push_back(std::move(live));
  work_.notify_one();
}

Result<Job> StoredJobs::submit(const std::string& tenant, const std::string& kind, Json arguments) {
  if (!handlers_.contains(kind)) return fail(Code::invalid_argument, "There is no kind of job \"" + kind + "\".");
  Job job;
  job.created = clock_.wall();
  job.id = new_job_id(job.created);
  job.tenant = tenant;
  job.kind = kind;
  job.state = "queued";
  job.arguments = std::move(arguments);
  job.progress = {{"done", 0}, {"total", 0}, {"note", "waiting"}};
  SUNDOG_CHECK(catalog_.put(job_key(tenant, job.id), record_of(job), store::kAbsent));
  kill_point("jobs.submitted");
  const std::lock_guard lock(mutex_);
  enqueue(job);
  return job;
}

Result<Job> StoredJobs::current(const std::string& tenant, const std::string& id) const {
  const std::string key = job_key(tenant, id);
  auto record = catalog_.get(key);
  if (!record.ok() && record.error().code == Code::not_found) {
    return fail(Code::not_found, "There is no job \"" + id + "\".", "GET /v1/jobs shows those that exist.");
  }
  if (!record.ok()) return std::move(record).error();
  Job job = job_from(record->value);
  const std::lock_guard lock(mutex_);
  const auto live = live_.find(key);
  if (live != live_.end() && !is_over(job.state)) {
    job.state = states_.at(key);
    if (Json progress = live->second->current_progress(); !progress.is_null()) job.progress = std::move(progress);
  }
  return job;
}

Result<Job> StoredJobs::get(const std::string& tenant, const std::string& id) const {
  return current(tenant, id);
}

Result<Job> StoredJobs::wait(const std::string& tenant, const std::string& id, Millis wait) const {
  SUNDOG_TRY(first, current(tenant, id));
  if (is_over(first.state)) return first;
  const std::string key = job_key(tenant, id);
  const auto deadline = std::chrono::steady_clock::now() + wait;
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline, [&] {
    const auto live = live_.find(key);
    if (live == live_.end() || stopping_) return true;
    const Json progress = live->second->current_progress();
    return states_.at(key) != first.state || (!progress.is_null() && progress != first.progress);
  });
  lock.unlock();
  return current(tenant, id);
}

Result<JobPage> StoredJobs::list(const std::string& tenant, const std::string& after, size_t limit) const {
  JobPage page;
  const auto add = [&](store::Record& record) {
    if (page.items.size() == limit) {
      page.next = page.items.back().id;
      return false;
    }
    for (const auto* large : {"arguments", "result"}) record.value.erase(large);
    page.items.push_back(job_from(record.value));
    return true;
  };
  const auto from = after.empty() ? "" : job_key(tenant, after);
  SUNDOG_CHECK(store::each_record(catalog_, job_key(tenant, ""), add, from, std::min(limit + 1, kHeld)));
  for (auto& job : page.items) {
    if (is_over(job.state)) continue;
    SUNDOG_TRY(now, current(tenant, job.id));
    now.arguments = now.result = nullptr;
    job = std::move(now);
  }
  return page;
}

Status StoredJobs::cancel(const std::string& tenant, const std::string& id) {
  SUNDOG_TRY(job, current(tenant, id));
  if (is_over(job.state)) {
    return fail(Code::conflict, "Job \"" + id + "\" is over: it has " + job.state + ".");
  }
  const std::string key = job_key(tenant, id);
  Live live;
  {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(key);
    if (found == live_.end()) return done;  // ended in between
    live = found->second;
    live->end(RunningJob::End::cancel);
    const auto queued = std::find(queue_.begin(), queue_.end(), live);
    if (queued != queue_.end()) {  // else its thread finds the end written, and leaves it
      queue_.erase(queued);
      live_.erase(key);
      states_.erase(key);
    }
  }
  job.state = "cancelled";
  job.ended = clock_.wall();
  return finish(std::move(job));
}

// Writes a job's end; whoever comes second finds it written already and leaves it.
Status StoredJobs::finish(Job job) {
  const std::string key = job_key(job.tenant, job.id);
  SUNDOG_TRY(record, catalog_.get(key));
  if (!is_over(record.value.value("state", ""))) {
    auto written = catalog_.put(key, record_of(job), record.revision);
    if (!written.ok() && written.error().code == Code::too_large) {
      job.state = "failed";
      job.result = nullptr;
      job.error = error_json(fail(Code::too_large, "The job's result is larger than 1 MB."));
      written = catalog_.put(key, record_of(job), record.revision);
    }
    if (!written.ok() && written.error().code != Code::conflict) return std::move(written).error();
  }
  if (auto removed = catalog_.remove(RunningJob::state_key(job)); !removed.ok()) {
    log_.error("job_state_kept", removed.error(), {{"job", job.id}});
  }
  changed();
  return done;
}

void StoredJobs::run_one(const Live& live) {
  Job job = live->job();
  kill_point("jobs.started");
  const auto handler = handlers_.find(job.kind);
  Result<Json> outcome =
      handler == handlers_.end()
          ? Result<Json>(fail(Code::unsupported, "This server knows no jobs of kind \"" + job.kind + "\"."))
          : handler->second(*live);
  const auto why = live->ended();
  if (!outcome.ok() && why == RunningJob::End::stop) return;  // stays for the next start
  job.ended = clock_.wall();
  if (outcome.ok()) {
    job.state = "succeeded";
    job.result = std::move(*outcome);
  } else {
    job.state = why == RunningJob::End::cancel ? "cancelled" : "failed";
    job.error = error_json(outcome.error());
  }
  if (Json progress = live->current_progress(); !progress.is_null()) job.progress = std::move(progress);
  kill_point("jobs.before_finish");
  if (const auto finished = finish(job); !finished.ok())
    log_.error("job_end_lost", finished.error(), {{"job", job.id}});
  kill_point("jobs.finished");
  if (job.state == "failed") {
    log_.warn("job_failed", {{"job", job.id}, {"kind", job.kind}, {"message", job.error.value("message", "")}});
  }
}

void StoredJobs::run() {
  for (;;) {
    Live live;
    std::string key;
    {
      std::unique_lock lock(mutex_);
      work_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      live = queue_.front();
      queue_.pop_front();
      key = job_key(live->job().tenant, live->job().id);
      states_[key] = "running";
    }
    changed_.notify_all();
    run_one(live);
    {
      const std::lock_guard lock(mutex_);
      live_.erase(key);
      states_.erase(key);
    }
    changed_.notify_all();
  }
}

Status StoredJobs::start() {
  const WallTime oldest = clock_.wall() - kKept;
  std::vector<Job> unfinished;
  SUNDOG_CHECK(store::each_record(catalog_, "jobs/", [&](const store::Record& record) -> Result<bool> {
    Job job = job_from(record.value);
    if (!is_over(job.state)) {
      unfinished.push_back(std::move(job));
    } else if (job.ended < oldest) {
      SUNDOG_CHECK(catalog_.remove(record.key));
    }
    return true;
  }));
  std::sort(unfinished.begin(), unfinished.end(), [](const Job& a, const Job& b) { return a.created < b.created; });
  const std::lock_guard lock(mutex_);
  stopping_ = false;
  for (auto& job : unfinished) {
    if (!live_.contains(job_key(job.tenant, job.id))) enqueue(std::move(job));
  }
  for (int i = 0; i < thread_count_; ++i) threads_.emplace_back([this] { run(); });
  return done;
}

void StoredJobs::ask_to_stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (auto& [key, live] : live_) live->end(RunningJob::End::stop);
  }
  work_.notify_all();
  changed_.notify_all();
}

void StoredJobs::stop_threads() {
  ask_to_stop();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
  const std::lock_guard lock(mutex_);
  queue_.clear();
  live_.clear();
  states_.clear();
}

}  // namespace

Json Job::to_json() const {
  return {{"id", id},
          {"kind", kind},
          {"state", state},
          {"progress", progress},
          {"result", result},
          {"error", error},
          {"created", iso_time(created)},
          {"ended", is_over(state) ? Json(iso_time(ended)) : Json(nullptr)}};
}

std::unique_ptr<Jobs> make_jobs(net::Loop& loop, Clock& clock, Log& log, store::Catalog& catalog,
                                invoke::Invoker& invoker, int threads) {
  return std::make_unique<StoredJobs>(loop, clock, log, catalog, invoker, threads);
}

}  // namespace sundog::data
