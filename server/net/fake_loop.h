// FakeLoop: a Loop that a test steps by hand. Nothing happens but in run_pending(), advance(), readable() and
// run_until().
//
// Ownership   made by the test over its FakeClock.
// Threads     post() from any thread; the rest on the thread that made it, which plays the loop's thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "net/loop.h"

namespace sundog::net {

class FakeLoop final : public Loop {
 public:
  explicit FakeLoop(FakeClock& clock) : clock_(clock) {}

  void post(std::function<void()> work) override {
    {
      const std::lock_guard lock(mutex_);
      posted_.push_back(std::move(work));
    }
    wake_.notify_all();
  }

  Id run_after(Duration delay, std::function<void()> work) override {
    const Id id = next_id_++;
    timers_.emplace(std::pair{clock_.mono() + delay, id}, std::move(work));
    return id;
  }

  void cancel(Id timer) override {
    std::erase_if(timers_, [timer](const auto& entry) { return entry.first.second == timer; });
  }

  Id watch_readable(int fd, std::function<void()> on_readable) override {
    return watch(fd, Direction::read, std::move(on_readable));
  }
  Id watch_writable(int fd, std::function<void()> on_writable) override {
    return watch(fd, Direction::write, std::move(on_writable));
  }
  void unwatch(Id watch) override { watches_.erase(watch); }

  bool on_loop_thread() const override { return std::this_thread::get_id() == thread_; }

  // Runs what was posted and the timers that are due, and what those post in turn, until nothing is left to do now.
  void run_pending() {
    while (run_one_posted() || run_one_due()) {
    }
  }

  // Turns the clock forward, stopping at each timer on the way.
  void advance(Duration by) {
    const MonoTime end = clock_.mono() + by;
    run_pending();
    while (!timers_.empty() && timers_.begin()->first.first <= end) {
      const MonoTime due = timers_.begin()->first.first;
      if (due > clock_.mono()) clock_.advance(due - clock_.mono());
      run_pending();
    }
    if (end > clock_.mono()) clock_.advance(end - clock_.mono());
    run_pending();
  }

  // As if `fd` had become readable (writable): calls those who watch it, then runs what is pending.
  void readable(int fd) { fire(fd, Direction::read); }
  void writable(int fd) { fire(fd, Direction::write); }

  // Runs what other threads post until `condition` holds; false when `real_limit` of real time has passed before.
  bool run_until(const std::function<bool()>& condition, Millis real_limit = Millis{10'000}) {
    const auto give_up = std::chrono::steady_clock::now() + real_limit;
    while (true) {
      run_pending();
      if (condition()) return true;
      if (std::chrono::steady_clock::now() >= give_up) return false;
      std::unique_lock lock(mutex_);
      // Woken by a post; the short limit is for conditions that change without one.
      wake_.wait_for(lock, Millis{10}, [this] { return !posted_.empty(); });
    }
  }

  size_t timers() const { return timers_.size(); }
  bool watched(int fd) const {
    for (const auto& [id, watch] : watches_) {
      if (watch.fd == fd) return true;
    }
    return false;
  }

 private:
  enum class Direction { read, write };
  struct Watch {
    int fd;
    Direction direction;
    std::function<void()> work;
  };

  Id watch(int fd, Direction direction, std::function<void()> work) {
    const Id id = next_id_++;
    watches_.emplace(id, Watch{fd, direction, std::move(work)});
    return id;
  }

  bool run_one_posted() {
    std::function<void()> work;
    {
      const std::lock_guard lock(mutex_);
      if (posted_.empty()) return false;
      work = std::move(posted_.front());
      posted_.pop_front();
    }
    work();
    return true;
  }

  bool run_one_due() {
    if (timers_.empty() || timers_.begin()->first.first > clock_.mono()) return false;
    auto work = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    work();
    return true;
  }

  void fire(int fd, Direction direction) {
    std::vector<Id> hit;
    for (const auto& [id, watch] : watches_) {
      if (watch.fd == fd && watch.direction == direction) hit.push_back(id);
    }
    for (const Id id : hit) {
      const auto found = watches_.find(id);  // an earlier callback may have ended this watch
      if (found == watches_.end()) continue;
      const auto work = found->second.work;
      work();
    }
    run_pending();
  }

  FakeClock& clock_;
  const std::thread::id thread_ = std::this_thread::get_id();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> posted_;  // guarded by mutex_
  std::map<std::pair<MonoTime, Id>, std::function<void()>> timers_;
  std::map<Id, Watch> watches_;
  Id next_id_ = 1;
};

}  // namespace sundog::net
