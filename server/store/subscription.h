// Subscription: a callback that can be ended from any thread. Internal to store/: behind the tokens of watch() and
// notify().
//
// Ownership   shared by the store (until ended) and by the token; either may go first.
// Threads     call() from the store's thread; end() from any thread, the callback itself included.
// Promise     after end() returned no call happens: it waits for one that is under way (unless that is the caller's
// own).
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

namespace sundog::store {

template <class... Arguments>
class Subscription {
 public:
  explicit Subscription(std::function<void(Arguments...)> callback) : callback_(std::move(callback)) {}

  void call(Arguments... arguments) {
    const std::lock_guard lock(mutex_);
    if (!ended_) callback_(arguments...);
  }

  void end() {
    ended_ = true;  // the callback itself is kept: it may be what calls us
    const std::lock_guard wait_for_it(mutex_);
  }

  // Never waits for a callback that is under way.
  bool ended() const { return ended_; }

  // What a caller holds; dropping it ends the subscription.
  static std::shared_ptr<void> token(std::shared_ptr<Subscription> subscription) {
    auto* bare = subscription.get();
    return {static_cast<void*>(bare), [kept = std::move(subscription)](void*) { kept->end(); }};
  }

 private:
  std::recursive_mutex mutex_;  // held during a call
  std::function<void(Arguments...)> callback_;
  std::atomic<bool> ended_ = false;
};

}  // namespace sundog::store
