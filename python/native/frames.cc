#include "frames.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace sundog::native {
namespace {

constexpr size_t kHeader = 20, kMaxHead = 1 << 20, kMaxRaw = (6 << 20) + 1024, kMaxFds = 16;
constexpr char kMagic[4] = {'S', 'D', 'G', '2'};  // its end is the version

// One recvmsg(2), again where a signal came between; descriptors that come along are appended.
ssize_t receive_some(int socket, iovec* pieces, size_t count, std::vector<int>& fds) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFds)];
  msghdr message{};
  ssize_t got = 0;
  do {
    message.msg_iov = pieces;
    message.msg_iovlen = count;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return got;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t came = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    const size_t before = fds.size();
    fds.resize(before + came);
    memcpy(fds.data() + before, CMSG_DATA(header), came * sizeof(int));
  }
  return got;
}

// Fills `pieces`, in one call where all is there. 1: all, 0: the end before the first byte, -1: errno.
int fill(int socket, iovec* pieces, size_t count, std::vector<int>& fds) {
  bool begun = false;
  while (count > 0) {
    if (pieces->iov_len == 0) {
      ++pieces;
      --count;
      continue;
    }
    const ssize_t got = receive_some(socket, pieces, count, fds);
    if (got < 0) return -1;
    if (got == 0) {
      errno = EPROTO;
      return begun ? -1 : 0;
    }
    begun = true;
    for (auto left = size_t(got); left > 0;) {
      const size_t step = std::min(left, pieces->iov_len);
      pieces->iov_base = static_cast<char*>(pieces->iov_base) + step;
      pieces->iov_len -= step;
      left -= step;
      if (pieces->iov_len == 0) {
        ++pieces;
        --count;
      }
    }
  }
  return 1;
}

uint32_t word(const char* from) {
  uint32_t value = 0;
  memcpy(&value, from, sizeof(value));
  return value;
}

// Head and raw part: what has come of them already, and the rest from the socket.
Read read_parts(int socket, const char* header, std::string_view came, Frame& out) {
  const uint32_t head = word(header + 12), raw = word(header + 16);
  errno = EPROTO;
  if (memcmp(header, kMagic, 4) != 0 || head > kMaxHead || raw > kMaxRaw) return Read::failed;
  if (came.size() > size_t{head} + raw) return Read::failed;
  out.type = uint8_t(header[4]);
  out.id = word(header + 8);
  out.head = came.substr(0, head);
  out.raw = came.substr(out.head.size());
  const size_t of_head = out.head.size(), of_raw = out.raw.size();
  out.head.resize(head);
  out.raw.resize(raw);
  iovec rest[2] = {{out.head.data() + of_head, head - of_head}, {out.raw.data() + of_raw, raw - of_raw}};
  return fill(socket, rest, 2, out.fds) > 0 ? Read::frame : Read::failed;
}

}  // namespace

Read read_frame(int socket, Frame& out) {
  char header[kHeader];
  iovec first{header, kHeader};
  const int got = fill(socket, &first, 1, out.fds);
  if (got <= 0) return got == 0 ? Read::end : Read::failed;
  return read_parts(socket, header, {}, out);
}

Read read_lone_frame(int socket, Frame& out) {
  // Not in recvmsg(2): who sleeps there is woken once more for nothing, when the peer takes what we have sent last.
  pollfd wait{socket, POLLIN, 0};
  while (poll(&wait, 1, -1) < 0) {
    if (errno != EINTR) return Read::failed;
  }
  char bytes[4096];
  size_t have = 0;
  while (have < kHeader) {
    iovec rest{bytes + have, sizeof(bytes) - have};
    const ssize_t got = receive_some(socket, &rest, 1, out.fds);
    if (got == 0) errno = EPROTO;
    if (got <= 0) return got == 0 && have == 0 ? Read::end : Read::failed;
    have += size_t(got);
  }
  return read_parts(socket, bytes, {bytes + kHeader, have - kHeader}, out);
}

int write_frame(int socket, uint8_t type, uint32_t id, std::string_view head, std::string_view raw,
                const std::vector<int>& fds) {
  if (head.size() > kMaxHead || raw.size() > kMaxRaw || fds.size() > kMaxFds) return EMSGSIZE;
  char header[kHeader] = {};
  memcpy(header, kMagic, 4);
  header[4] = char(type);
  header[5] = char(fds.size());
  const uint32_t words[3] = {id, uint32_t(head.size()), uint32_t(raw.size())};
  memcpy(header + 8, words, sizeof(words));
  iovec pieces[3] = {
      {header, kHeader}, {const_cast<char*>(head.data()), head.size()}, {const_cast<char*>(raw.data()), raw.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFds)] = {};
  msghdr message{};
  message.msg_iov = pieces;
  message.msg_iovlen = 3;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    memcpy(CMSG_DATA(rights), fds.data(), sizeof(int) * fds.size());
  }
  size_t left = kHeader + head.size() + raw.size();
  while (left > 0) {
    const ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno;
    message.msg_control = nullptr;  // the descriptors went with the first byte
    message.msg_controllen = 0;
    left -= size_t(sent);
    auto skip = size_t(sent);
    while (skip > 0) {
      const size_t step = std::min(skip, message.msg_iov->iov_len);
      message.msg_iov->iov_base = static_cast<char*>(message.msg_iov->iov_base) + step;
      message.msg_iov->iov_len -= step;
      skip -= step;
      if (message.msg_iov->iov_len == 0 && message.msg_iovlen > 1) {
        ++message.msg_iov;
        --message.msg_iovlen;
      }
    }
  }
  return 0;
}

}  // namespace sundog::native
