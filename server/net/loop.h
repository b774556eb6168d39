// Loop: one thread's event loop, without a library in sight. FakeLoop (net/fake_loop.h) is stepped by hand in tests.
//
// Ownership   created in app/, passed by reference; outlives every caller.
// Threads     post() from any thread; everything else on the loop's thread only. No callback may block.
#pragma once

#include <cstdint>
#include <functional>

#include "base/clock.h"

namespace sundog::net {

class Loop {
 public:
  using Id = uint64_t;  // 0 is never used

  virtual ~Loop() = default;
  virtual void post(std::function<void()> work) = 0;

  // Once, `delay` from now. cancel() of an id that has fired or was cancelled does nothing.
  virtual Id run_after(Duration delay, std::function<void()> work) = 0;
  virtual void cancel(Id timer) = 0;

  // Calls `on_readable` whenever `fd` has something to read or was closed by its peer; level-triggered. The caller
  // keeps the descriptor open until unwatch(). No call happens after unwatch().
  virtual Id watch_readable(int fd, std::function<void()> on_readable) = 0;
  // The same once it takes bytes again; used only while a non-blocking write is incomplete.
  virtual Id watch_writable(int fd, std::function<void()> on_writable) = 0;
  virtual void unwatch(Id watch) = 0;

  virtual bool on_loop_thread() const = 0;
};

}  // namespace sundog::net
