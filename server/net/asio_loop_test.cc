#include "net/asio_loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <thread>

#include "base/fd.h"
#include "net/fake_loop.h"

namespace sundog::net {
namespace {

using namespace std::chrono_literals;

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) std::abort();
    read = UniqueFd(ends[0]);
    write = UniqueFd(ends[1]);
  }
  void put(std::string_view text) const { ASSERT_EQ(::write(write.get(), text.data(), text.size()), std::ssize(text)); }
  char take() const {
    char c = 0;
    return ::read(read.get(), &c, 1) == 1 ? c : '\0';
  }
  UniqueFd read, write;
};

TEST(AsioLoop, RunsWhatOtherThreadsPostInOrder) {
  AsioLoop loop;
  std::string order;
  std::thread other([&] {
    loop.post([&] { order += 'a'; });
    loop.post([&] {
      EXPECT_TRUE(loop.on_loop_thread());
      order += 'b';
    });
    loop.post([&] { loop.stop(); });
  });
  loop.run();
  other.join();
  EXPECT_EQ(order, "ab");
}

TEST(AsioLoop, TimersFireOnceInOrderUnlessCancelled) {
  AsioLoop loop;
  std::string order;
  loop.run_after(4ms, [&] { order += 'c'; });
  const auto cancelled = loop.run_after(2ms, [&] { order += 'x'; });
  loop.run_after(1ms, [&] {
    order += 'a';
    loop.cancel(cancelled);
    loop.cancel(cancelled);
  });
  loop.run_after(8ms, [&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(order, "ac");
}

TEST(AsioLoop, AWatchReportsAgainWhatIsLeftUnread) {
  AsioLoop loop;
  const Pipe pipe;
  pipe.put("abc");
  std::string got;
  Loop::Id watch = 0;
  watch = loop.watch_readable(pipe.read.get(), [&] {
    got += pipe.take();  // one at a time, though three wait
    if (got.size() == 3) {
      loop.unwatch(watch);
      loop.run_after(5ms, [&] { loop.stop(); });
      pipe.put("d");  // not seen any more
    }
  });
  loop.run();
  EXPECT_EQ(got, "abc");
}

TEST(AsioLoop, AWatchSeesItsPeerClose) {
  AsioLoop loop;
  Pipe pipe;
  Loop::Id watch = 0;
  bool closed = false;
  watch = loop.watch_readable(pipe.read.get(), [&] {
    char c = 0;
    closed = ::read(pipe.read.get(), &c, 1) == 0;
    loop.unwatch(watch);
    loop.stop();
  });
  pipe.write.reset();
  loop.run();
  EXPECT_TRUE(closed);
}

TEST(AsioLoop, OneDescriptorIsWatchedBothWaysAndReusedAfter) {
  AsioLoop loop;
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()), 0);
  const UniqueFd mine(ends[0]);
  const UniqueFd theirs(ends[1]);
  std::string order;
  Loop::Id reading = 0;
  Loop::Id writing = 0;
  reading = loop.watch_readable(mine.get(), [&] {
    order += 'r';
    loop.unwatch(reading);
    reading = loop.watch_readable(mine.get(), [&] {  // registered anew
      order += 'R';
      loop.unwatch(reading);
      loop.stop();
    });
  });
  writing = loop.watch_writable(mine.get(), [&] {
    order += 'w';
    loop.unwatch(writing);
    ASSERT_EQ(::write(theirs.get(), "x", 1), 1);
  });
  loop.run();
  EXPECT_EQ(order, "wrR");
}

TEST(AsioLoop, HearsSignals) {
  AsioLoop loop;
  int heard = 0;
  loop.on_signal([&](int signal) {
    heard = signal;
    loop.stop();
  });
  loop.post([] { ::raise(SIGHUP); });
  loop.run();
  EXPECT_EQ(heard, SIGHUP);
}

TEST(AsioLoop, LetsGoOfWhatItHolds) {
  AsioLoop loop;
  const auto held = std::make_shared<int>(0);
  loop.run_after(1h, [held] { ++*held; });
  loop.run_after(0ms, [&loop] { loop.stop(); });
  loop.run();
  loop.post([held, &loop] {
    ++*held;
    loop.run_after(1h, [held] { ++*held; });
  });
  loop.let_go();
  EXPECT_EQ(*held, 1);
  EXPECT_EQ(held.use_count(), 1);
}

TEST(FakeLoop, StepsThroughTimersInOrderOfTime) {
  FakeClock clock;
  FakeLoop loop(clock);
  std::string order;
  const auto start = clock.mono();
  loop.run_after(10ms, [&] {
    order += 'b';
    EXPECT_EQ(clock.mono() - start, 10ms);
  });
  loop.run_after(5ms, [&] {
    order += 'a';
    loop.run_after(1ms, [&] { order += '+'; });
  });
  const auto never = loop.run_after(7ms, [&] { order += 'x'; });
  loop.cancel(never);
  loop.post([&] { order += 'p'; });
  loop.advance(20ms);
  EXPECT_EQ(order, "pa+b");
  EXPECT_EQ(clock.mono() - start, 20ms);
  EXPECT_EQ(loop.timers(), 0U);
}

TEST(FakeLoop, FiresWatchesByHand) {
  FakeClock clock;
  FakeLoop loop(clock);
  int calls = 0;
  const auto watch = loop.watch_readable(3, [&] { ++calls; });
  loop.readable(3);
  loop.writable(3);
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(loop.watched(3));
  loop.unwatch(watch);
  loop.readable(3);
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace sundog::net
