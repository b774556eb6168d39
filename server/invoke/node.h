// Node: what the pools of one server share: memory, running counts, and each other's idle instances.
//
// Ownership   implemented by the fleet, which owns the pools.
// Threads     loop thread.
#pragma once

#include <memory>

#include "invoke/rhythm.h"
#include "invoke/run.h"
#include "meter/held_memory.h"

namespace sundog::invoke {

class FunctionPool;
class Slot;

class Node {
 public:
  explicit Node(const Clock& clock)
      : memory_reserved(clock),
        memory_parked(clock),
        memory_of_templates(clock),
        memory_of_environments(clock),
        memory_busy(clock) {}
  virtual ~Node() = default;
  // What other pools than `asking` keep idle.
  virtual std::vector<Evictable> evictable(const FunctionPool& asking) const = 0;
  virtual void evict(const Evictable& victim) = 0;
  // Of the memory, for each tenant that holds or wants some.
  virtual int64_t fair_share() const = 0;
  // How much room on the node is due to another pool's invocation before this one's: goes_first().
  virtual int64_t owed(const FunctionPool& asking) const = 0;
  // Memory or concurrency became free: pools that are hungry look again, in a later turn of the loop.
  virtual void freed() = 0;
  // Whether invocations of the pool wait, provisioned instances are missing, or it waits to be removed: only then
  // freed() has anything to do.
  virtual void set_hungry(FunctionPool& pool, bool hungry) = 0;
  // Whether invocations of any pool wait for something of the node.
  virtual bool callers_wait() const = 0;
  virtual void bury(std::shared_ptr<Slot> slot) = 0;
  virtual void host_call(const RunPtr& run, sandbox::HostCall call, Callback<sandbox::HostReply> reply) = 0;

  int64_t memory_budget = 0;
  meter::HeldMemory memory_reserved;
  // Parts of it: of the parked instances, of functions' templates, of environments', and of instances that run
  // something.
  meter::HeldMemory memory_parked, memory_of_templates, memory_of_environments, memory_busy;
  int starting = 0;
  int building_ahead = 0;  // templates on their way that nobody waited for when they were started
};

// What the pools of one tenant have together.
struct TenantUse {
  int running = 0;         // busy and starting instances
  int64_t held_bytes = 0;  // reserved for instances that are not parked
};

// What the versions of one function have together.
struct FunctionUse {
  int running = 0;
  Rhythm rhythm;
};

}  // namespace sundog::invoke
