#include "store/batch_writer.h"

#include <pthread.h>

#include <algorithm>
#include <future>

namespace sundog::store {
namespace {
// With a clock that is turned by hand, or that slept with the machine, "how long until" is only a guess: look again.
constexpr Duration kLongestWait = std::chrono::milliseconds{100};
}  // namespace

BatchWriter::BatchWriter(Database& database, Options options)
    : database_(database),
      options_(std::move(options)),
      callback_thread_([this] { callback_loop(); }),
      writer_thread_([this] { write_loop(); }) {
  pthread_setname_np(callback_thread_.native_handle(), "queue-callback");
  pthread_setname_np(writer_thread_.native_handle(), "queue-writer");
}

BatchWriter::~BatchWriter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  writer_thread_.join();
  {
    const std::lock_guard lock(callback_mutex_);
    callbacks_stopping_ = true;
  }
  callback_wake_.notify_all();
  callback_thread_.join();
}

Status BatchWriter::submit(Operation operation) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return fail(Code::unavailable, "The server is shutting down.");
    if (pending_.size() >= options_.pending_count_limit ||
        pending_bytes_ + operation.bytes > options_.pending_bytes_limit) {
      return fail(Code::resource_exhausted,
                  std::to_string(pending_.size()) + " operations with " + std::to_string(pending_bytes_) +
                      " bytes wait for the queue's disk already.",
                  "Try again in a moment.");
    }
    pending_bytes_ += operation.bytes;
    pending_.push_back(std::move(operation));
  }
  wake_.notify_one();
  return done;
}

Status BatchWriter::run(Operation operation) {
  std::promise<Status> promise;
  auto outcome = promise.get_future();
  operation.reply = [&promise](const Status& status) { promise.set_value(status); };
  SUNDOG_CHECK(submit(std::move(operation)));
  return outcome.get();
}

void BatchWriter::defer(std::function<void()> callback) {
  {
    const std::lock_guard lock(callback_mutex_);
    callbacks_.push_back(std::move(callback));
  }
  callback_wake_.notify_one();
}

void BatchWriter::callback_loop() {
  std::unique_lock lock(callback_mutex_);
  while (true) {
    callback_wake_.wait(lock, [this] { return callbacks_stopping_ || !callbacks_.empty(); });
    if (callbacks_.empty()) return;
    auto callback = std::move(callbacks_.front());
    callbacks_.pop_front();
    lock.unlock();
    callback();
    callback = nullptr;
    lock.lock();
  }
}

// Waits for operations or for the timer; empty when it was the timer or the end.
std::vector<Operation> BatchWriter::take() {
  const auto wait = options_.timer();
  std::vector<Operation> batch;
  std::unique_lock lock(mutex_);
  const auto something = [this] { return stopping_ || !pending_.empty(); };
  if (wait) {
    wake_.wait_for(lock, std::clamp(*wait, Duration{0}, kLongestWait), something);
  } else {
    wake_.wait(lock, something);
  }
  size_t bytes = 0;
  while (!pending_.empty() && batch.size() < options_.batch_count_limit && bytes < options_.batch_bytes_limit) {
    bytes += pending_.front().bytes;
    batch.push_back(std::move(pending_.front()));
    pending_.pop_front();
  }
  pending_bytes_ -= bytes;
  return batch;
}

void BatchWriter::write_loop() {
  while (true) {
    auto batch = take();
    if (!batch.empty()) {
      commit(batch);
      continue;
    }
    const std::lock_guard lock(mutex_);
    if (stopping_ && pending_.empty()) return;
  }
}

Status BatchWriter::transact(std::vector<Operation>& batch, std::vector<Status>& outcomes) {
  options_.began();
  SUNDOG_CHECK(database_.run("BEGIN IMMEDIATE"));
  for (auto& operation : batch) SUNDOG_CHECK(operation.work(outcomes.emplace_back(done)));
  return database_.run("COMMIT");
}

void BatchWriter::commit(std::vector<Operation>& batch) {
  std::vector<Status> outcomes;
  outcomes.reserve(batch.size());
  const auto transacted = transact(batch, outcomes);
  if (!transacted.ok()) {
    database_.rollback();
    outcomes.assign(batch.size(), transacted);
  }
  for (size_t i = 0; i < batch.size(); ++i) {
    if (outcomes[i].ok() && batch[i].committed) batch[i].committed();
  }
  for (size_t i = 0; i < batch.size(); ++i) {
    if (batch[i].how == Reply::at_once) {
      batch[i].reply(outcomes[i]);
    } else {
      defer([reply = std::move(batch[i].reply), outcome = std::move(outcomes[i])] { reply(outcome); });
    }
  }
}

}  // namespace sundog::store
