// BatchWriter: group commit. One thread takes every pending operation and commits them as one SQLite transaction.
// Internal to store/: the embedded Queue's engine.
//
// Ownership   owned by the queue; borrows its writing connection. The destructor commits what was handed over.
// Threads     submit() and defer() from any thread. `work` and `committed` of an operation run on the writer thread,
// one after
//             the other, so what they touch needs no lock. `reply` runs on the writer thread too and must be short, or,
//             with Reply::deferred, on the callback thread.
// Failure     a storage failure of any operation or of COMMIT rolls the transaction back: every operation of it is
// replied
//             that error and none of them happened. resource_exhausted when too much waits.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "store/sqlite.h"

namespace sundog::store {

enum class Reply { at_once, deferred };

struct Operation {
  // Inside the transaction. The returned Status is the storage's; what the caller did wrong goes into `outcome`.
  std::function<Status(Status& outcome)> work;
  // After COMMIT, when `outcome` is ok: brings what is kept in memory up to date.
  std::function<void()> committed;
  std::function<void(const Status& outcome)> reply;
  Reply how = Reply::at_once;
  size_t bytes = 0;  // of payload, for the limits
};

class BatchWriter {
 public:
  struct Options {
    size_t pending_bytes_limit;
    size_t pending_count_limit;
    size_t batch_count_limit;
    size_t batch_bytes_limit;
    std::function<void()> began;                     // before the first operation of a transaction (writer thread)
    std::function<std::optional<Duration>()> timer;  // after each transaction and at each wake-up (writer thread):
                                                     // does what is due and says how long until something else is
  };
  BatchWriter(Database& database, Options options);
  ~BatchWriter();
  BatchWriter(const BatchWriter&) = delete;
  BatchWriter& operator=(const BatchWriter&) = delete;

  // Refused (and not replied) when too much waits.
  Status submit(Operation operation);
  // submit(), then waits for the reply.
  Status run(Operation operation);
  // Calls `callback` on the callback thread.
  void defer(std::function<void()> callback);

 private:
  void write_loop();
  void callback_loop();
  std::vector<Operation> take();
  void commit(std::vector<Operation>& batch);
  Status transact(std::vector<Operation>& batch, std::vector<Status>& outcomes);

  Database& database_;
  Options options_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Operation> pending_;
  size_t pending_bytes_ = 0;
  bool stopping_ = false;

  std::mutex callback_mutex_;
  std::condition_variable callback_wake_;
  std::deque<std::function<void()>> callbacks_;
  bool callbacks_stopping_ = false;

  std::thread callback_thread_;
  std::thread writer_thread_;
};

}  // namespace sundog::store
