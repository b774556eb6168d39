// Pool: a bounded set of named threads that run blocking work.
//
// Ownership   created in app/, passed by reference; the destructor finishes what was queued.
// Threads     submit() from any thread.
// Failure     resource_exhausted when the queue is full: nothing waits without limit.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"

namespace sundog {

class Pool {
 public:
  struct Options {
    int threads = 4;
    size_t queue_limit = 1024;
  };
  Pool(std::string name, Options options);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  Status submit(std::function<void()> work);
  // Finishes what was queued and ends the threads; submit() then gives `unavailable`. For an orderly end, when what the
  // work uses dies before the pool does. Any thread but the pool's own; again is harmless.
  void stop();

 private:
  void run();

  std::string name_;
  Options options_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace sundog
