#include "sandbox/frames.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "sandbox/launcher/fd_message.h"

namespace sundog::sandbox {
namespace {

constexpr char kMagic[4] = {'S', 'D', 'G', '2'};  // its end is the version

uint32_t word(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

}  // namespace

void FrameParser::feed(std::string_view bytes, std::vector<UniqueFd> fds) {
  if (at_ > 0 && at_ == buffer_.size()) {
    buffer_.clear();
    at_ = 0;
  }
  buffer_.append(bytes);
  for (auto& fd : fds) fds_.push_back(std::move(fd));
}

Result<std::optional<Frame>> FrameParser::next() {
  const auto rest = std::string_view(buffer_).substr(at_);
  if (fds_.size() > kMaxFrameFds * 2) return fail(Code::invalid_argument, "More descriptors than frames name.");
  if (rest.size() < kFrameHeader) return std::optional<Frame>{};
  if (std::memcmp(rest.data(), kMagic, sizeof(kMagic) - 1) != 0 || rest[6] != 0 || rest[7] != 0) {
    return fail(Code::invalid_argument, "Bytes that are no frame.");
  }
  if (rest[3] != kMagic[3]) return fail(Code::unsupported, "A frame of another version than this server's.");
  const size_t head = word(rest, 12), raw = word(rest, 16);
  const auto count = uint8_t(rest[5]);
  if (head > kMaxFrameHead || raw > kMaxFrameRaw || count > kMaxFrameFds) {
    return fail(Code::too_large, "A frame of " + std::to_string(head) + " + " + std::to_string(raw) +
                                     " bytes; the limits are 1 MB + 6 MB.");
  }
  if (rest.size() < kFrameHeader + head + raw) {
    if (at_ > 0) {
      buffer_.erase(0, at_);
      at_ = 0;
    }
    buffer_.reserve(kFrameHeader + head + raw);
    return std::optional<Frame>{};
  }
  Frame frame;
  frame.type = FrameType(uint8_t(rest[4]));
  frame.id = word(rest, 8);
  frame.head = rest.substr(kFrameHeader, head);
  frame.raw = rest.substr(kFrameHeader + head, raw);
  if (fds_.size() < count) return fail(Code::invalid_argument, "A frame without the descriptors that it names.");
  for (int i = 0; i < count; ++i) {
    frame.fds.push_back(std::move(fds_.front()));
    fds_.pop_front();
  }
  at_ += kFrameHeader + head + raw;
  return std::optional<Frame>(std::move(frame));
}

std::string encode_frame_header(const Frame& frame) {
  std::string header(kFrameHeader, '\0');
  std::memcpy(header.data(), kMagic, sizeof(kMagic));
  header[4] = char(frame.type);
  header[5] = char(frame.fds.size());
  const uint32_t words[3] = {frame.id, uint32_t(frame.head.size()), uint32_t(frame.raw.size())};
  std::memcpy(header.data() + 8, words, sizeof(words));
  return header;
}

FrameChannel::FrameChannel(net::Loop& loop, UniqueFd socket) : loop_(loop), socket_(std::move(socket)) {}

FrameChannel::~FrameChannel() {
  close();
  *here_ = false;
}

void FrameChannel::open(Events events) {
  events_ = std::move(events);
  readable_ = loop_.watch_readable(socket_.get(), [this] { on_readable(); });
}

void FrameChannel::drain() {
  if (is_open()) on_readable();
}

void FrameChannel::pause() {
  paused_ = true;
  if (readable_ != 0) loop_.unwatch(std::exchange(readable_, 0));
}

void FrameChannel::resume() {
  if (!std::exchange(paused_, false) || !is_open()) return;
  readable_ = loop_.watch_readable(socket_.get(), [this] { on_readable(); });
  deliver();  // what was read before the pause
}

void FrameChannel::close() {
  if (readable_ != 0) loop_.unwatch(readable_);
  if (writable_ != 0) loop_.unwatch(writable_);
  readable_ = writable_ = 0;
  outgoing_.clear();
  socket_.reset();
}

void FrameChannel::fail(std::string reason) {
  close();
  if (auto callback = std::exchange(events_.on_closed, nullptr)) callback(std::move(reason));
}

bool FrameChannel::has_peer() const {
  pollfd asked{socket_.get(), 0, 0};
  return is_open() && ::poll(&asked, 1, 0) <= 0;  // POLLHUP and POLLERR are always told
}

bool FrameChannel::deliver() {
  const auto here = here_;
  while (!paused_) {
    auto next = parser_.next();
    if (!next.ok()) {
      fail(next.error().message);
      return false;
    }
    if (!*next) return true;
    events_.on_frame(std::move(**next));
    if (!*here || !is_open()) return false;
  }
  return false;
}

void FrameChannel::on_readable() {
  thread_local std::string buffer(256 << 10, '\0');
  // A few reads a turn, so that one loud instance does not keep the loop from the others.
  for (int turn = 0; turn < 8; ++turn) {
    auto received = launcher::receive_with_fds(socket_.get(), buffer.data(), buffer.size());
    std::vector<UniqueFd> fds(received.fds.begin(), received.fds.end());
    if (received.bytes < 0 && errno == EAGAIN) return;
    if (received.bytes <= 0) {
      const bool reset = received.bytes < 0 && errno == ECONNRESET;  // a Unix socket's word for it
      left_unread_ = left_unread_ || reset || !outgoing_.empty();
      return fail(received.bytes == 0 || reset ? "" : std::strerror(errno));
    }
    if (received.truncated) return fail("More descriptors than a message may carry.");
    if (peer_pid_ == 0 && received.sender_pid > 0) {
      peer_pid_ = received.sender_pid;
      const int off = 0;
      setsockopt(socket_.get(), SOL_SOCKET, SO_PASSCRED, &off, sizeof(off));
    }
    parser_.feed({buffer.data(), size_t(received.bytes)}, std::move(fds));
    if (!deliver()) return;
    if (size_t(received.bytes) < buffer.size() && received.fds.empty()) return;
  }
}

void FrameChannel::send(Frame frame) {
  if (!is_open()) return;
  Outgoing out;
  out.bytes = encode_frame_header(frame);
  out.bytes.reserve(kFrameHeader + frame.head.size() + frame.raw.size());
  out.bytes += frame.head;
  out.bytes += frame.raw;
  out.fds = std::move(frame.fds);
  outgoing_.push_back(std::move(out));
  if (writable_ == 0) on_writable();
}

void FrameChannel::on_writable() {
  while (!outgoing_.empty()) {
    auto& out = outgoing_.front();
    std::vector<int> fds;
    fds.reserve(out.fds.size());
    for (const auto& fd : out.fds) fds.push_back(fd.get());
    const ssize_t sent =
        launcher::send_with_fds(socket_.get(), std::string_view(out.bytes).substr(out.sent), fds.data(), fds.size());
    if (sent < 0 && errno == EAGAIN) {
      if (writable_ == 0) writable_ = loop_.watch_writable(socket_.get(), [this] { on_writable(); });
      return;
    }
    if (sent < 0) {
      outgoing_.clear();  // the peer is gone: on_readable() sees its end and says so
      left_unread_ = true;
      break;
    }
    out.fds.clear();  // they went with the first byte
    out.sent += size_t(sent);
    if (out.sent == out.bytes.size()) outgoing_.pop_front();
  }
  if (writable_ != 0) loop_.unwatch(writable_);
  writable_ = 0;
}

Result<std::pair<UniqueFd, UniqueFd>> make_socket_pair() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return fail_errno("make a socket pair", errno);
  std::pair<UniqueFd, UniqueFd> both{UniqueFd(pair[0]), UniqueFd(pair[1])};
  const int on = 1;
  setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
  fcntl(pair[0], F_SETFL, O_NONBLOCK);
  return both;
}

Result<std::pair<UniqueFd, UniqueFd>> make_output_pipe() {
  int pair[2];
  if (pipe2(pair, O_CLOEXEC) != 0) return fail_errno("make a pipe", errno);
  std::pair<UniqueFd, UniqueFd> both{UniqueFd(pair[0]), UniqueFd(pair[1])};
  fcntl(pair[0], F_SETFL, O_NONBLOCK);
  return both;
}

}  // namespace sundog::sandbox
