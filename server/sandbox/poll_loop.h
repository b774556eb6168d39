// PollLoop: a Loop over poll(2) that a test turns until something has happened. For tests with real processes.
#pragma once

#include <poll.h>

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "net/loop.h"

namespace sundog::sandbox {

class PollLoop final : public net::Loop {
 public:
  void post(std::function<void()> work) override {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
  }
  Id run_after(Duration delay, std::function<void()> work) override {
    timers_[next_] = {clock_.mono() + delay, std::move(work)};
    return next_++;
  }
  void cancel(Id timer) override { timers_.erase(timer); }
  Id watch_readable(int fd, std::function<void()> on_readable) override {
    return watch(fd, POLLIN, std::move(on_readable));
  }
  Id watch_writable(int fd, std::function<void()> on_writable) override {
    return watch(fd, POLLOUT, std::move(on_writable));
  }
  void unwatch(Id watch) override { watches_.erase(watch); }
  bool on_loop_thread() const override { return std::this_thread::get_id() == thread_; }

  // Turns until `happened`, at most `limit`; whether it did.
  template <class Condition>
  bool run_until(Condition happened, Duration limit = std::chrono::seconds(30)) {
    const auto deadline = clock_.mono() + limit;
    while (!happened()) {
      if (clock_.mono() >= deadline) return false;
      turn();
    }
    return true;
  }

 private:
  struct Timer {
    MonoTime at;
    std::function<void()> work;
  };
  struct Watch {
    int fd;
    short events;
    std::function<void()> work;
  };
  Id watch(int fd, short events, std::function<void()> work) {
    watches_[next_] = {fd, events, std::move(work)};
    return next_++;
  }
  void run_posted() {
    std::deque<std::function<void()>> posted;
    {
      const std::lock_guard lock(mutex_);
      posted.swap(posted_);
    }
    for (auto& work : posted) work();
  }
  void run_timers() {
    std::vector<Id> due;
    for (const auto& [id, timer] : timers_) {
      if (timer.at <= clock_.mono()) due.push_back(id);
    }
    for (const Id id : due) {
      const auto found = timers_.find(id);
      if (found == timers_.end()) continue;
      auto work = std::move(found->second.work);
      timers_.erase(found);
      work();
    }
  }
  void turn() {
    std::vector<pollfd> fds;
    std::vector<Id> ids;
    for (const auto& [id, watch] : watches_) {
      fds.push_back({watch.fd, watch.events, 0});
      ids.push_back(id);
    }
    bool waiting = false;
    {
      const std::lock_guard lock(mutex_);
      waiting = !posted_.empty();
    }
    poll(fds.data(), fds.size(), waiting ? 0 : 5);
    for (size_t i = 0; i < fds.size(); ++i) {
      if (fds[i].revents == 0) continue;
      const auto found = watches_.find(ids[i]);
      if (found == watches_.end()) continue;
      const auto work = found->second.work;  // it may unwatch itself
      work();
    }
    run_timers();
    run_posted();
  }

  SystemClock clock_;
  std::thread::id thread_ = std::this_thread::get_id();
  std::mutex mutex_;
  std::deque<std::function<void()>> posted_;
  Id next_ = 1;
  std::map<Id, Timer> timers_;
  std::map<Id, Watch> watches_;
};

}  // namespace sundog::sandbox
