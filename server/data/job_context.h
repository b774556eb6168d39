// RunningJob: the JobContext of one run of a job's handler, shared between the job's thread and those that ask about
// it.
//
// Ownership   shared_ptr; jobs.cc keeps those that are queued or running.
// Threads     every function may be called from any thread; the handler's functions block.
#pragma once

#include <condition_variable>
#include <mutex>

#include "data/jobs.h"

namespace sundog::data {

class RunningJob final : public JobContext {
 public:
  struct Services {
    net::Loop& loop;
    invoke::Invoker& invoker;
    store::Catalog& catalog;
    std::function<void()> on_change;  // progress differs
    Millis throttle_wait{200};        // the first wait after a 429; doubles up to 3 s
  };
  RunningJob(Job job, Services services) : job_(std::move(job)), services_(std::move(services)) {}

  const Job& job() const override { return job_; }
  void progress(int64_t done, int64_t total, std::string note) override;
  bool cancelled() const override;
  Json saved() const override;
  Status save(Json state) override;
  Result<invoke::InvokeResult> invoke(invoke::Invocation invocation) override;
  Result<std::vector<invoke::InvokeResult>> invoke_all(std::vector<invoke::Invocation> invocations,
                                                       int parallel) override;

  enum class End { none, cancel, stop };
  void end(End why);
  End ended() const;
  Json current_progress() const;

  static std::string state_key(const Job& job) { return "job-states/" + job.tenant + "/" + job.id; }

 private:
  struct Batch;
  void start(const std::shared_ptr<Batch>& batch, size_t index);

  const Job job_;  // as it was when it began: its id, kind and arguments do not change
  Services services_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  End end_ = End::none;
  Json progress_;
};

}  // namespace sundog::data
