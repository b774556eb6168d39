// FakeResponder: keeps what a handler answered, for tests of handlers without a socket.
//
//   auto responder = std::make_shared<FakeResponder>();
//   handler(request, responder);
//   ASSERT_TRUE(responder->wait());
//   EXPECT_EQ(responder->status(), 200);
//
// Threads     every function may be called from any thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "net/http.h"

namespace sundog::net {

class FakeResponder final : public Responder, public std::enable_shared_from_this<FakeResponder> {
  template <class F>
  auto locked(F f) const {
    const std::lock_guard lock(mutex_);
    return f();
  }

 public:
  void send(Response response) override {
    const std::lock_guard lock(mutex_);
    if (answered_) return;
    response_ = std::move(response);
    answered_ = finished_ = true;
    changed_.notify_all();
  }

  // Use make_shared: the stream keeps its responder.
  std::shared_ptr<ResponseStream> stream(int status, Pairs headers) override {
    const std::lock_guard lock(mutex_);
    response_.status = status;
    response_.headers = std::move(headers);
    answered_ = true;
    changed_.notify_all();
    return std::make_shared<Stream>(shared_from_this());
  }

  void on_disconnect(std::function<void()> callback) override {
    const std::lock_guard lock(mutex_);
    on_disconnect_ = std::move(callback);
  }

  // The client goes away.
  void disconnect() {
    std::function<void()> callback;
    {
      const std::lock_guard lock(mutex_);
      gone_ = true;
      if (!answered_) callback = std::move(on_disconnect_);
      on_disconnect_ = nullptr;
    }
    if (callback) callback();
  }

  // A client that reads nothing for now (true), and one that goes on reading.
  void hold_stream(bool full) {
    std::function<void()> callback;
    {
      const std::lock_guard lock(mutex_);
      full_ = full;
      if (!full) callback = std::exchange(when_room_, nullptr);
    }
    if (callback) callback();
  }

  // Waits until the answer is whole; false after `real_limit` of real time.
  bool wait(Millis real_limit = Millis{10'000}) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, real_limit, [this] { return finished_; });
  }

  bool answered() const {
    return locked([this] { return answered_; });
  }
  bool finished() const {
    return locked([this] { return finished_; });
  }
  Response response() const {
    return locked([this] { return response_; });
  }
  int status() const {
    return locked([this] { return response_.status; });
  }
  // Of a stream: all pieces so far.
  std::string body() const {
    return locked([this] { return response_.body; });
  }
  // Empty when absent; `name` as the handler wrote it.
  std::string header(std::string_view name) const {
    return locked([&] {
      for (const auto& [key, value] : response_.headers) {
        if (key == name) return value;
      }
      return std::string{};
    });
  }

 private:
  class Stream final : public ResponseStream {
   public:
    explicit Stream(std::shared_ptr<FakeResponder> owner) : owner_(std::move(owner)) {}
    bool write(std::string piece, Wait) override {
      const std::lock_guard lock(owner_->mutex_);
      if (owner_->gone_) return false;
      owner_->response_.body += piece;
      owner_->changed_.notify_all();
      return true;
    }
    bool open() const override {
      return owner_->locked([this] { return !owner_->gone_; });
    }
    bool full() const override {
      return owner_->locked([this] { return owner_->full_; });
    }
    void when_room(std::function<void()> callback) override {
      const std::lock_guard lock(owner_->mutex_);
      owner_->when_room_ = std::move(callback);
    }
    void finish() override {
      const std::lock_guard lock(owner_->mutex_);
      owner_->finished_ = true;
      owner_->changed_.notify_all();
    }

   private:
    std::shared_ptr<FakeResponder> owner_;
  };

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Response response_;
  std::function<void()> on_disconnect_;
  bool answered_ = false;
  bool finished_ = false;
  bool gone_ = false;
  bool full_ = false;
  std::function<void()> when_room_;
};

}  // namespace sundog::net
