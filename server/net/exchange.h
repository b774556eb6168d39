// One request's answer and body on their way between the connection (loop thread) and whoever handles it (any thread).
// Internal to net/.
//
// Ownership   Exchange and StreamHandle belong to the handler; BodyBuffer and StreamBuffer are shared with the
// connection. None
//             keeps the connection alive.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "net/http.h"
#include "net/loop.h"

namespace sundog::net {

class Connection;

// Pieces of a streamed answer that the connection has not sent yet.
class StreamBuffer {
 public:
  StreamBuffer(Loop& loop, std::weak_ptr<Connection> connection, Millis write_timeout);

  // The handler's side, any thread.
  bool write(std::string piece, ResponseStream::Wait wait);
  bool open() const;
  bool full() const;
  void when_room(std::function<void()> callback);
  void end(bool whole);  // finish(), or dropped without

  // The connection's side, loop thread.
  std::vector<std::string> take(bool& ended, bool& whole);
  void sent(size_t bytes);
  void close();

 private:
  void wake_connection();
  bool has_room() const { return !open_ || ended_ || unsent_ < limit_; }
  void tell_room();  // with the lock held

  Loop& loop_;
  std::weak_ptr<Connection> connection_;
  const Millis write_timeout_;
  const size_t limit_;
  mutable std::mutex mutex_;
  std::condition_variable room_;
  std::function<void()> when_room_;
  std::vector<std::string> pieces_;
  size_t unsent_ = 0;  // in pieces_ and taken
  bool scheduled_ = false;
  bool open_ = true;
  bool ended_ = false;
  bool whole_ = false;
};

class StreamHandle final : public ResponseStream {
 public:
  explicit StreamHandle(std::shared_ptr<StreamBuffer> buffer) : buffer_(std::move(buffer)) {}
  ~StreamHandle() override { buffer_->end(false); }
  bool write(std::string piece, Wait wait) override { return buffer_->write(std::move(piece), wait); }
  bool open() const override { return buffer_->open(); }
  bool full() const override { return buffer_->full(); }
  void when_room(std::function<void()> callback) override { buffer_->when_room(std::move(callback)); }
  void finish() override { buffer_->end(true); }

 private:
  std::shared_ptr<StreamBuffer> buffer_;
};

// A streamed request body between the connection and the reader.
class BodyBuffer {
 public:
  BodyBuffer(Loop& loop, std::weak_ptr<Connection> connection, Millis read_timeout);

  // The reader's side, any thread but the loop's.
  Result<size_t> read(Bytes& out, size_t limit);
  void abandon();  // nobody will read the rest

  // The connection's side, loop thread.
  bool has_room() const;
  void push(std::string_view piece);
  void finish();
  void fail_with(Error error);
  bool abandoned() const;

 private:
  void wake_connection();

  Loop& loop_;
  std::weak_ptr<Connection> connection_;
  const Millis read_timeout_;
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::string bytes_;
  size_t read_ = 0;  // of bytes_
  bool finished_ = false;
  bool abandoned_ = false;
  std::optional<Error> error_;
};

class BodySource final : public ByteSource {
 public:
  explicit BodySource(std::shared_ptr<BodyBuffer> buffer) : buffer_(std::move(buffer)) {}
  ~BodySource() override { buffer_->abandon(); }
  Result<size_t> read(Bytes& out, size_t limit) override { return buffer_->read(out, limit); }

 private:
  std::shared_ptr<BodyBuffer> buffer_;
};

class Exchange final : public Responder {
 public:
  Exchange(Loop& loop, std::weak_ptr<Connection> connection, Millis write_timeout)
      : loop_(loop), connection_(std::move(connection)), write_timeout_(write_timeout) {}
  ~Exchange() override;

  void send(Response response) override;
  std::shared_ptr<ResponseStream> stream(int status, Pairs headers) override;
  void on_disconnect(std::function<void()> callback) override;

  void disconnected();  // the connection's side, loop thread

 private:
  bool claim();  // true for the first answer

  Loop& loop_;
  std::weak_ptr<Connection> connection_;
  const Millis write_timeout_;
  std::atomic<bool> answered_{false};
  std::mutex mutex_;
  std::function<void()> on_disconnect_;
  bool gone_ = false;
};

}  // namespace sundog::net
