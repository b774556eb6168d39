#include "net/exchange.h"

#include "net/connection.h"

namespace sundog::net {
namespace {

constexpr size_t kStreamLimit = 256 << 10;
constexpr size_t kStreamHardLimit = 64 * kStreamLimit;
constexpr size_t kBodyLimit = 256 << 10;

// On the loop thread at once, else posted. The connection is only ever locked on the loop thread, so that the last
// reference to it is never dropped elsewhere.
template <class F>
void with_connection(Loop& loop, const std::weak_ptr<Connection>& weak, F f) {
  if (loop.on_loop_thread()) {
    if (const auto connection = weak.lock()) f(*connection);
    return;
  }
  loop.post([weak, f = std::move(f)]() mutable {
    if (const auto connection = weak.lock()) f(*connection);
  });
}

}  // namespace

StreamBuffer::StreamBuffer(Loop& loop, std::weak_ptr<Connection> connection, Millis write_timeout)
    : loop_(loop), connection_(std::move(connection)), write_timeout_(write_timeout), limit_(kStreamLimit) {}

bool StreamBuffer::write(std::string piece, ResponseStream::Wait wait) {
  {
    std::unique_lock lock(mutex_);
    if (wait == ResponseStream::Wait::may_block) {
      if (!room_.wait_for(lock, write_timeout_, [this] { return has_room(); })) return false;
    }
    if (!open_ || ended_ || unsent_ >= kStreamHardLimit) return false;
    if (piece.empty()) return true;
    unsent_ += piece.size();
    pieces_.push_back(std::move(piece));
    if (std::exchange(scheduled_, true)) return true;
  }
  wake_connection();
  return true;
}

bool StreamBuffer::open() const {
  const std::lock_guard lock(mutex_);
  return open_;
}

bool StreamBuffer::full() const {
  const std::lock_guard lock(mutex_);
  return !has_room();
}

void StreamBuffer::when_room(std::function<void()> callback) {
  const std::lock_guard lock(mutex_);
  when_room_ = std::move(callback);
  if (has_room()) tell_room();
}

void StreamBuffer::tell_room() {
  room_.notify_all();
  if (when_room_) loop_.post(std::exchange(when_room_, nullptr));
}

void StreamBuffer::end(bool whole) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(ended_, true)) return;
    whole_ = whole;
    if (!open_ || std::exchange(scheduled_, true)) return;
  }
  wake_connection();
}

std::vector<std::string> StreamBuffer::take(bool& ended, bool& whole) {
  const std::lock_guard lock(mutex_);
  scheduled_ = false;
  ended = ended_;
  whole = whole_;
  return std::exchange(pieces_, {});
}

void StreamBuffer::sent(size_t bytes) {
  const std::lock_guard lock(mutex_);
  unsent_ -= bytes;
  if (has_room()) tell_room();
}

void StreamBuffer::close() {
  const std::lock_guard lock(mutex_);
  open_ = false;
  tell_room();
}

// Always posted: a handler that writes on the loop thread must not find itself inside the connection.
void StreamBuffer::wake_connection() {
  loop_.post([weak = connection_] {
    if (const auto connection = weak.lock()) connection->wake();
  });
}

BodyBuffer::BodyBuffer(Loop& loop, std::weak_ptr<Connection> connection, Millis read_timeout)
    : loop_(loop), connection_(std::move(connection)), read_timeout_(read_timeout) {}

Result<size_t> BodyBuffer::read(Bytes& out, size_t limit) {
  size_t count = 0;
  bool wake = false;
  {
    std::unique_lock lock(mutex_);
    const bool ready =
        arrived_.wait_for(lock, read_timeout_, [this] { return read_ < bytes_.size() || finished_ || error_; });
    if (!ready) return fail(Code::deadline_exceeded, "The rest of the request's body did not arrive in time.");
    if (read_ == bytes_.size()) {
      if (error_) return *error_;
      return size_t{0};
    }
    const size_t before = bytes_.size() - read_;
    count = std::min(limit, before);
    out.append(bytes_, read_, count);
    read_ += count;
    if (read_ == bytes_.size()) {
      bytes_.clear();
      read_ = 0;
    }
    // Half empty again: time to ask for more.
    wake = before >= kBodyLimit / 2 && before - count < kBodyLimit / 2 && !finished_;
  }
  if (wake) wake_connection();
  return count;
}

void BodyBuffer::abandon() {
  {
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
    if (finished_ || error_) return;
  }
  wake_connection();
}

bool BodyBuffer::has_room() const {
  const std::lock_guard lock(mutex_);
  return bytes_.size() - read_ < kBodyLimit;
}

void BodyBuffer::push(std::string_view piece) {
  const std::lock_guard lock(mutex_);
  if (read_ > kBodyLimit) {
    bytes_.erase(0, read_);
    read_ = 0;
  }
  bytes_.append(piece);
  arrived_.notify_all();
}

void BodyBuffer::finish() {
  const std::lock_guard lock(mutex_);
  finished_ = true;
  arrived_.notify_all();
}

void BodyBuffer::fail_with(Error error) {
  const std::lock_guard lock(mutex_);
  if (finished_ || error_) return;
  error_ = std::move(error);
  arrived_.notify_all();
}

bool BodyBuffer::abandoned() const {
  const std::lock_guard lock(mutex_);
  return abandoned_;
}

void BodyBuffer::wake_connection() {
  loop_.post([weak = connection_] {
    if (const auto connection = weak.lock()) connection->wake();
  });
}

Exchange::~Exchange() {
  if (!claim()) return;
  with_connection(loop_, connection_, [](Connection& connection) {
    connection.answer_error(500, fail(Code::internal, "The request was dropped without an answer."));
  });
}

void Exchange::send(Response response) {
  if (!claim()) return;
  with_connection(loop_, connection_, [response = std::move(response)](Connection& connection) mutable {
    connection.answer(std::move(response));
  });
}

std::shared_ptr<ResponseStream> Exchange::stream(int status, Pairs headers) {
  auto buffer = std::make_shared<StreamBuffer>(loop_, connection_, write_timeout_);
  if (!claim()) {
    buffer->close();
    return std::make_shared<StreamHandle>(std::move(buffer));
  }
  auto begin = [weak = connection_, response = Response{status, std::move(headers), {}}, buffer]() mutable {
    if (const auto connection = weak.lock()) {
      connection->answer(std::move(response), std::move(buffer));
    } else {
      buffer->close();
    }
  };
  if (loop_.on_loop_thread()) {
    begin();
  } else {
    loop_.post(std::move(begin));
  }
  return std::make_shared<StreamHandle>(std::move(buffer));
}

void Exchange::on_disconnect(std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (answered_) return;
    if (!gone_) {
      on_disconnect_ = std::move(callback);
      return;
    }
  }
  loop_.post(std::move(callback));
}

void Exchange::disconnected() {
  std::function<void()> callback;
  {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    if (!answered_) callback = std::exchange(on_disconnect_, nullptr);
  }
  if (callback) callback();
}

bool Exchange::claim() {
  if (answered_.exchange(true)) return false;
  std::function<void()> dropped;  // what it captured may own this exchange: let go of it outside the lock
  const std::lock_guard lock(mutex_);
  dropped = std::exchange(on_disconnect_, nullptr);
  return true;
}

}  // namespace sundog::net
