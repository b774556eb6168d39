// Queue: durable at-least-once messages with pull consumers, delay, redelivery with back-off, dead letters.
//
// Ownership   one Queue per server, created in app/, passed by reference; outlives every caller.
// Threads     every function may be called from any thread and may block on the disk: never call it on the loop thread.
//             (append_async's callback comes on a thread of the queue's.)
// Durability  append returned ok (or its callback was called with ok)  =>  the message survives kill -9 and power loss.
//             Commits are grouped: concurrent appends share one fsync.
// Delivery    a message leased by pull() and not settled before its lease ends is delivered again (attempt + 1), also
//             after a restart: a lease does not outlive the process.
// Failure     unavailable (disk full) · not_found (settled already, or the lease ended and another holds it) ·
// too_large
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace sundog::store {

struct Message {
  int64_t id = 0;  // unique in the store, growing
  std::string queue;
  std::string body;  // at most 8 MB
  int attempt = 1;   // 1 at the first delivery
  WallTime appended;
  std::string receipt;  // proves the lease; passed to ack, nak, term
};

struct DeadLetter {
  int64_t id = 0;
  std::string queue;
  std::string body;
  int attempts = 0;
  std::string reason;
  WallTime appended, died;
};

class Queue {
 public:
  virtual ~Queue() = default;

  virtual Result<int64_t> append(std::string_view queue, std::string_view body, Millis delay = Millis{0}) = 0;
  virtual void append_async(std::string queue, std::string body, Millis delay, Callback<int64_t> on_durable) = 0;

  // Leases up to `limit` messages that are due, oldest first; returns at once, empty when none is due.
  virtual Result<std::vector<Message>> pull(std::string_view queue, size_t limit, Millis lease) = 0;
  // Called (any thread) whenever something of `queue` may have become due, so that a consumer need not poll.
  // Dropping the token ends it; no call happens after the drop returns.
  using Token = std::shared_ptr<void>;
  virtual Token notify(std::string queue, std::function<void()> on_due) = 0;

  virtual Status ack(std::string_view receipt) = 0;                            // done: gone for good
  virtual Status nak(std::string_view receipt, Millis delay) = 0;              // deliver again after `delay`
  virtual Status term(std::string_view receipt, std::string_view reason) = 0;  // to the dead-letter queue
  virtual Status extend(std::string_view receipt, Millis lease) = 0;           // still at it

  virtual Result<std::vector<DeadLetter>> dead_letters(std::string_view queue, int64_t after_id,
                                                       size_t limit) const = 0;
  // Puts a dead letter back with attempt 1; not_found if there is none of that id in that queue.
  virtual Status redrive(std::string_view queue, int64_t id) = 0;
  virtual Status purge(std::string_view queue) = 0;                 // messages and dead letters of a deleted function
  virtual Result<int64_t> depth(std::string_view queue) const = 0;  // messages waiting or leased
  virtual Result<std::vector<std::string>> queues(std::string_view prefix) const = 0;  // those that hold messages
};

}  // namespace sundog::store
