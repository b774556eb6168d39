// Unsettled: the runs whose record and event are being brought together right now, so that the sweep for lost events
// does not take one that is on its way for one that is lost.
//
// Threads     any.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace sundog::learn {

class Unsettled {
 public:
  using Token = std::shared_ptr<void>;  // may outlive the Unsettled

  // Until the last copy of what it returns is gone.
  Token hold(const std::string& tenant, const std::string& run) {
    std::pair key(tenant, run);
    {
      const std::lock_guard lock(held_->mutex);
      ++held_->count[key];
    }
    return {nullptr, [held = held_, key = std::move(key)](void*) {
              const std::lock_guard lock(held->mutex);
              if (--held->count[key] == 0) held->count.erase(key);
            }};
  }
  bool holds(const std::string& tenant, const std::string& run) const {
    const std::lock_guard lock(held_->mutex);
    return held_->count.contains({tenant, run});
  }

 private:
  struct Held {
    std::mutex mutex;
    std::map<std::pair<std::string, std::string>, int> count;
  };
  std::shared_ptr<Held> held_ = std::make_shared<Held>();
};

}  // namespace sundog::learn
