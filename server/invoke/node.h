// Node: what the pools of one server share: memory, running counts, and each other's idle instances.
//
// Ownership   implemented by the fleet, which owns the pools.
// Threads     loop thread.
#pragma once

#include <memory>

#include "invoke/run.h"

namespace sundog::invoke {

class FunctionPool;
class Slot;

class Node {
 public:
  virtual ~Node() = default;
  // What other pools than `asking` keep idle.
  virtual std::vector<Evictable> evictable(const FunctionPool& asking) const = 0;
  virtual void evict(const Evictable& victim) = 0;
  // Memory or concurrency became free: pools whose invocations wait look again, in a later turn of the loop.
  virtual void freed() = 0;
  // Whether invocations of the pool wait, or it waits to be removed: only then freed() has anything to do.
  virtual void set_hungry(FunctionPool& pool, bool hungry) = 0;
  virtual void bury(std::shared_ptr<Slot> slot) = 0;
  virtual void host_call(const RunPtr& run, sandbox::HostCall call, Callback<sandbox::HostReply> reply) = 0;

  int64_t memory_budget = 0;
  int64_t memory_reserved = 0;
  int starting = 0;
};

// Busy and starting instances, counted for a tenant or for all versions of a function.
using RunningCount = std::shared_ptr<int>;

}  // namespace sundog::invoke
