#include "base/pool.h"

#include <pthread.h>

namespace sundog {

Pool::Pool(std::string name, Options options) : name_(std::move(name)), options_(options) {
  for (int i = 0; i < options_.threads; ++i) {
    threads_.emplace_back([this] { run(); });
    pthread_setname_np(threads_.back().native_handle(), name_.substr(0, 15).c_str());
  }
}

Pool::~Pool() {
  stop();
}

void Pool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

Status Pool::submit(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return fail(Code::unavailable, "The server is shutting down.");
    if (queue_.size() >= options_.queue_limit) {
      return fail(Code::resource_exhausted, "Too much work is waiting on the \"" + name_ + "\" threads.",
                  "Try again in a moment.");
    }
    queue_.push_back(std::move(work));
  }
  wake_.notify_one();
  return done;
}

void Pool::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    auto work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    work();
    work = nullptr;
    lock.lock();
  }
}

}  // namespace sundog
