// AsioLoop: the Loop of the running server, over one Boost.Asio io_context that one thread runs.
//
// Ownership   created in app/; outlives everything that was given it.
// Threads     run() makes its thread the loop's thread; stop() and post() from any thread; the rest on the loop's
// thread, or
//             before run().
#pragma once

#include <functional>
#include <memory>

#include "net/loop.h"

// io_context is only named here, so that http_server.cc can open sockets on it.
namespace boost::asio {
class io_context;
}

namespace sundog::net {

class AsioLoop final : public Loop {
 public:
  AsioLoop();
  ~AsioLoop() override;
  AsioLoop(const AsioLoop&) = delete;
  AsioLoop& operator=(const AsioLoop&) = delete;

  // Until stop(). What is posted after stop() runs at the next run(), or never.
  void run();
  void stop();

  // After run(): runs what was posted and drops every timer, so that what those own ends while what it uses still
  // stands.
  void let_go();

  // Calls `on_signal` on the loop's thread for SIGTERM, SIGINT and SIGHUP, each time.
  void on_signal(std::function<void(int signal)> on_signal);

  void post(std::function<void()> work) override;
  Id run_after(Duration delay, std::function<void()> work) override;
  void cancel(Id timer) override;
  Id watch_readable(int fd, std::function<void()> on_readable) override;
  Id watch_writable(int fd, std::function<void()> on_writable) override;
  void unwatch(Id watch) override;
  // Before the first run(), true on every thread: nothing else can be on it.
  bool on_loop_thread() const override;

  boost::asio::io_context& context();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sundog::net
