// Frames: what the server and an instance (or a template) say to each other, docs/formats/instance.md.
//
// Ownership   a FrameChannel owns its socket; the callbacks may destroy it.
// Threads     the loop thread.
// Failure     bytes that are no frame, one of another version, or one over a limit, close the channel with the reason.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "net/loop.h"

namespace sundog::sandbox {

enum class FrameType : uint8_t {
  ready = 1,
  invoke = 2,
  result = 3,
  host_call = 4,
  host_reply = 5,
  stream = 6,
  init_failed = 7,
  way_out = 8,
  // Between server and template only.
  configure = 16,
  parked = 17,
  fork = 18,
  forked = 19,
  exited = 20,
  configured = 21,
  // Between server and an environment's template.
  configure_environment = 22,
  preload = 23,
  preloaded = 24,
  fork_template = 25,
  importing = 26,
};

struct Frame {
  FrameType type = FrameType::ready;
  uint32_t id = 0;
  std::string head, raw;  // head: call_headers.h of invoke and result, JSON of all others
  std::vector<UniqueFd> fds;
};

inline constexpr size_t kFrameHeader = 20;
inline constexpr size_t kMaxFrameHead = 1 << 20;
inline constexpr size_t kMaxFrameRaw = (6 << 20) + 1024;
inline constexpr size_t kMaxFrameFds = 16;

// Cuts a stream of bytes into frames. Any bytes are safe to feed.
class FrameParser {
 public:
  void feed(std::string_view bytes, std::vector<UniqueFd> fds);
  // The next whole frame, nullopt if more bytes are needed, or what is wrong.
  Result<std::optional<Frame>> next();

 private:
  std::string buffer_;
  size_t at_ = 0;
  std::list<UniqueFd> fds_;  // a list: a deque takes half a kilobyte while empty, and there are thousands of these
};

std::string encode_frame_header(const Frame& frame);

class FrameChannel {
 public:
  struct Events {
    std::function<void(Frame)> on_frame;
    // The peer is gone (empty reason) or broke the protocol. Called once, never after close().
    std::function<void(std::string reason)> on_closed;
  };
  FrameChannel(net::Loop& loop, UniqueFd socket);
  ~FrameChannel();
  FrameChannel(const FrameChannel&) = delete;
  FrameChannel& operator=(const FrameChannel&) = delete;

  void open(Events events);
  void send(Frame frame);
  // Delivers what has arrived already, now: for who learns by another way that the peer has ended.
  void drain();
  // Reads and delivers nothing for now, so that the peer has to wait in its own sending; its end is not noticed either.
  void pause();
  void resume();
  void close();
  bool is_open() const { return bool(socket_); }
  // Asks the kernel: false as soon as the peer has ended, before on_closed() comes.
  bool has_peer() const;
  // Once it has closed: whether the peer ended without having read all that was sent.
  bool left_unread() const { return left_unread_; }
  // On the host, of whoever sent the first frame; 0 if unknown.
  int peer_pid() const { return peer_pid_; }

 private:
  void on_readable();
  void on_writable();
  bool deliver();  // false if the channel was destroyed or closed by a callback
  void fail(std::string reason);
  struct Outgoing {
    std::string bytes;
    size_t sent = 0;
    std::vector<UniqueFd> fds;
  };

  net::Loop& loop_;
  UniqueFd socket_;
  Events events_;
  FrameParser parser_;
  std::list<Outgoing> outgoing_;
  net::Loop::Id readable_ = 0, writable_ = 0;
  int peer_pid_ = 0;
  bool paused_ = false, left_unread_ = false;
  std::shared_ptr<bool> here_ = std::make_shared<bool>(true);
};

// A connected pair of Unix stream sockets: ours non-blocking, both close-on-exec.
Result<std::pair<UniqueFd, UniqueFd>> make_socket_pair();
// A pipe: the read end non-blocking.
Result<std::pair<UniqueFd, UniqueFd>> make_output_pipe();

}  // namespace sundog::sandbox
