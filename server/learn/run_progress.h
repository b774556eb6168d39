// RunProgress: what runs log while they run, who waits for it, and which of them are to stop.
//
// Ownership   a part of Runs.
// Threads     log() and stop() on the loop thread; everything else on any thread but the loop's where it says it
// blocks. Durability  log()'s reply with ok  =>  the point is on disk. Points of all runs that come in while one commit
// is under
//             way share the next one.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/pool.h"
#include "base/result.h"
#include "net/loop.h"
#include "sandbox/sandbox.h"
#include "store/catalog.h"

namespace sundog::learn {

class RunProgress {
 public:
  RunProgress(net::Loop& loop, Pool& pool, store::Catalog& catalog) : loop_(loop), pool_(pool), catalog_(catalog) {}

  // An attempt begins: its points are numbered on from those that are stored. Blocks.
  Status begin(const std::string& tenant, const std::string& run, int64_t attempt);
  void end(const std::string& tenant, const std::string& run);
  bool running(const std::string& tenant, const std::string& run) const;
  void ask_to_stop(const std::string& tenant, const std::string& run);
  // The last value of each metric logged by this server's attempts; empty if there is none.
  Json latest(const std::string& tenant, const std::string& run) const;

  void log(const std::string& tenant, const std::string& run, const Json& arguments, WallTime now, int64_t max_points,
           Callback<sandbox::HostReply> reply);

  // How often the run changed so far, and a call once that is no longer `seen`, or after `wait`: on the loop thread.
  uint64_t changes(const std::string& tenant, const std::string& run) const;
  void wait(const std::string& tenant, const std::string& run, uint64_t seen, Millis wait, std::function<void()> call);
  void changed(const std::string& tenant, const std::string& run);
  void stop();  // answers every waiter

 private:
  using Key = std::pair<std::string, std::string>;  // tenant, run
  struct Live {
    int64_t attempt = 0;
    int64_t last_n = 0;
    bool stop = false;
    Json latest = Json::object();
  };
  struct Waiter {
    Key key;
    net::Loop::Id timer = 0;
    std::function<void()> call;
  };
  struct Pending {
    Key key;
    Json point;
    Callback<sandbox::HostReply> reply;
  };

  void flush();
  void flushed(const std::vector<Pending>& batch, const Status& outcome);
  void wake(const Key& key);
  void fire(uint64_t waiter);

  net::Loop& loop_;
  Pool& pool_;
  store::Catalog& catalog_;

  mutable std::mutex mutex_;
  std::map<Key, Live> live_;
  std::map<Key, uint64_t> changes_;

  // Loop thread only.
  std::vector<Pending> pending_;
  bool flushing_ = false;
  std::map<uint64_t, Waiter> waiters_;
  uint64_t next_waiter_ = 1;
};

}  // namespace sundog::learn
