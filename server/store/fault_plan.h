// FaultPlan: which of the writing calls goes wrong, and how. For tests only.
//
//   for (int n = 0;; ++n) { plan.fail(n); …; if (plan.disarm() == 0) break; }   // until every call had its turn
#pragma once

#include <unistd.h>

#include <atomic>
#include <csignal>

namespace sundog::store {

class FaultPlan {
 public:
  // The call number `n` from now fails, once or from there on.
  void fail(int n) { arm(n, Act::fail_once); }
  void fail_from(int n) { arm(n, Act::fail_on); }
  // The process ends at the call number `n` from now, before it is made, as by kill -9.
  void die(int n) { arm(n, Act::die); }
  // Every call works again. Returns how many went wrong since the plan was armed.
  int disarm() {
    act_ = Act::none;
    return hits_.exchange(0);
  }

  // Asked at each call: whether it has to fail.
  bool hit() {
    const Act act = act_;
    if (act == Act::none) return false;
    const int call = calls_++;
    if (call < at_ || (call > at_ && act != Act::fail_on)) return false;
    if (act == Act::die) ::kill(::getpid(), SIGKILL);
    ++hits_;
    return true;
  }

 private:
  enum class Act { none, fail_once, fail_on, die };
  void arm(int n, Act act) {
    act_ = Act::none;
    at_ = n;
    calls_ = 0;
    hits_ = 0;
    act_ = act;
  }

  std::atomic<Act> act_ = Act::none;
  std::atomic<int> at_ = 0;
  std::atomic<int> calls_ = 0;
  std::atomic<int> hits_ = 0;
};

}  // namespace sundog::store
