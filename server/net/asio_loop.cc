#include "net/asio_loop.h"

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <thread>
#include <unordered_map>

namespace sundog::net {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {

// All watches of one descriptor share its registration: epoll takes each descriptor once.
struct Descriptor {
  Descriptor(asio::io_context& context, int fd) : stream(context), fd(fd) {}
  ~Descriptor() {
    if (stream.is_open()) stream.release();  // the caller owns it: never close
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  asio::posix::stream_descriptor stream;
  int fd;
  int watches = 0;
};

struct Watch {
  std::shared_ptr<Descriptor> descriptor;
  asio::posix::stream_descriptor::wait_type direction;
  std::function<void()> work;
  bool ended = false;
};

// Waits once and asks for the next: a new wait re-arms epoll, which reports at once what is still unread.
void arm(const std::shared_ptr<Watch>& watch) {
  watch->descriptor->stream.async_wait(watch->direction, [watch](error_code error) {
    if (watch->ended || error == asio::error::operation_aborted) return;
    watch->work();
    // A descriptor that epoll does not take (a plain file) is reported once; its owner's read tells the rest.
    if (!watch->ended && !error) arm(watch);
  });
}

}  // namespace

struct AsioLoop::State {
  // One thread runs it; others may post.
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(context);
  asio::signal_set signals{context};
  std::function<void(int)> on_signal;
  std::unordered_map<Id, asio::steady_timer> timers;
  std::unordered_map<Id, std::shared_ptr<Watch>> watches;
  std::unordered_map<int, std::weak_ptr<Descriptor>> descriptors;
  Id next_id = 1;
  std::atomic<std::thread::id> thread{};

  void wait_for_signal() {
    signals.async_wait([this](error_code error, int signal) {
      if (error) return;
      on_signal(signal);
      wait_for_signal();
    });
  }

  Id watch(int fd, asio::posix::stream_descriptor::wait_type direction, std::function<void()> work_on_event) {
    auto descriptor = descriptors[fd].lock();
    if (!descriptor) {
      descriptor = std::make_shared<Descriptor>(context, fd);
      error_code error;
      descriptor->stream.assign(fd, error);
      descriptors[fd] = descriptor;
    }
    ++descriptor->watches;
    const Id id = next_id++;
    auto entry = std::make_shared<Watch>(Watch{std::move(descriptor), direction, std::move(work_on_event)});
    watches.emplace(id, entry);
    if (entry->descriptor->stream.is_open()) {
      arm(entry);
    } else {  // not a descriptor at all: let the owner's read say so
      asio::post(context, [entry] {
        if (!entry->ended) entry->work();
      });
    }
    return id;
  }

  void end(Id id) {
    const auto found = watches.find(id);
    if (found == watches.end()) return;
    const auto entry = std::move(found->second);
    watches.erase(found);
    entry->ended = true;
    if (--entry->descriptor->watches > 0) return;
    descriptors.erase(entry->descriptor->fd);
    if (entry->descriptor->stream.is_open()) entry->descriptor->stream.release();
  }
};

AsioLoop::AsioLoop() : state_(std::make_unique<State>()) {}

AsioLoop::~AsioLoop() {
  // Callbacks may own what uses this loop: let them go while it still stands.
  state_->timers.clear();
  state_->watches.clear();
}

void AsioLoop::run() {
  state_->thread = std::this_thread::get_id();
  state_->context.restart();
  state_->context.run();
}

void AsioLoop::stop() {
  state_->context.stop();
}

void AsioLoop::let_go() {
  state_->context.restart();
  // What runs may ask for one more timer; nothing that ends asks for ever more.
  for (int round = 0; round < 3; ++round) {
    state_->timers.clear();
    state_->context.poll();
  }
}

void AsioLoop::on_signal(std::function<void(int)> on_signal) {
  state_->on_signal = std::move(on_signal);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) state_->signals.add(signal);
  state_->wait_for_signal();
}

void AsioLoop::post(std::function<void()> work) {
  asio::post(state_->context, std::move(work));
}

Loop::Id AsioLoop::run_after(Duration delay, std::function<void()> work) {
  const Id id = state_->next_id++;
  const auto [entry, added] = state_->timers.try_emplace(id, state_->context);
  entry->second.expires_after(delay);
  entry->second.async_wait([this, id, work = std::move(work)](error_code error) {
    // cancel() may come after the timer fired and before this runs: the table decides.
    if (error || state_->timers.erase(id) == 0) return;
    work();
  });
  return id;
}

void AsioLoop::cancel(Id timer) {
  state_->timers.erase(timer);
}

Loop::Id AsioLoop::watch_readable(int fd, std::function<void()> on_readable) {
  return state_->watch(fd, asio::posix::stream_descriptor::wait_read, std::move(on_readable));
}

Loop::Id AsioLoop::watch_writable(int fd, std::function<void()> on_writable) {
  return state_->watch(fd, asio::posix::stream_descriptor::wait_write, std::move(on_writable));
}

void AsioLoop::unwatch(Id watch) {
  state_->end(watch);
}

bool AsioLoop::on_loop_thread() const {
  const auto thread = state_->thread.load(std::memory_order_relaxed);
  return thread == std::thread::id{} || thread == std::this_thread::get_id();
}

asio::io_context& AsioLoop::context() {
  return state_->context;
}

}  // namespace sundog::net
