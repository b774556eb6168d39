#include "sandbox/frames.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "net/fake_loop.h"
#include "sandbox/launcher_messages.h"

namespace sundog::sandbox {
namespace {

std::string bytes_of(FrameType type, const std::string& head, const std::string& raw) {
  Frame frame;
  frame.type = type;
  frame.id = 7;
  frame.head = head;
  frame.raw = raw;
  return encode_frame_header(frame) + head + raw;
}

TEST(FrameParser, CutsFramesHoweverTheyArrive) {
  const std::string stream = bytes_of(FrameType::invoke, "{}", "payload") + bytes_of(FrameType::result, "", "");
  for (size_t piece = 1; piece <= stream.size(); ++piece) {
    FrameParser parser;
    std::vector<Frame> frames;
    for (size_t at = 0; at < stream.size(); at += piece) {
      parser.feed(std::string_view(stream).substr(at, piece), {});
      while (true) {
        auto next = parser.next();
        ASSERT_TRUE(next.ok());
        if (!*next) break;
        frames.push_back(std::move(**next));
      }
    }
    ASSERT_EQ(frames.size(), 2U) << piece;
    EXPECT_EQ(frames[0].raw, "payload");
    EXPECT_EQ(frames[0].id, 7U);
    EXPECT_EQ(frames[1].type, FrameType::result);
  }
}

TEST(FrameParser, RefusesWhatIsNoFrame) {
  const auto refused = [](const std::string& bytes) {
    FrameParser parser;
    parser.feed(bytes, {});
    return !parser.next().ok();
  };
  std::string frame = bytes_of(FrameType::result, "{}", "x");
  EXPECT_FALSE(refused(frame));
  frame[0] = 'X';
  EXPECT_TRUE(refused(frame)) << "magic";
  frame[0] = 'S';
  frame[3] = '1';
  EXPECT_TRUE(refused(frame)) << "an earlier version";
  frame[3] = '2';
  frame[6] = 1;
  EXPECT_TRUE(refused(frame)) << "reserved bytes";
  frame[6] = 0;
  frame[5] = 1;
  EXPECT_TRUE(refused(frame)) << "a descriptor that did not come";
  frame[5] = 0;
  const uint32_t huge = kMaxFrameRaw + 1;
  std::memcpy(frame.data() + 16, &huge, sizeof(huge));
  EXPECT_TRUE(refused(frame)) << "over the limit";
}

TEST(FrameChannel, DrainDeliversWhatHasArrivedAndThenTheEnd) {
  auto pair = make_socket_pair();
  ASSERT_TRUE(pair.ok());
  FakeClock clock;
  net::FakeLoop loop(clock);
  FrameChannel channel(loop, std::move(pair->first));
  std::vector<std::string> seen;
  channel.open(
      {[&](const Frame& frame) { seen.push_back(frame.head); }, [&](const std::string&) { seen.emplace_back("end"); }});
  const auto words = bytes_of(FrameType::parked, "why", "");
  ASSERT_EQ(write(pair->second.get(), words.data(), words.size()), ssize_t(words.size()));
  channel.drain();
  EXPECT_EQ(seen, std::vector<std::string>{"why"});
  pair->second.reset();
  channel.drain();
  channel.drain();
  EXPECT_EQ(seen, (std::vector<std::string>{"why", "end"}));
}

TEST(FrameChannel, KeepsNoDescriptorOfAMessageThatCarriesTooMany) {
  const auto descriptors = [] { return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}); };
  auto pair = make_socket_pair();
  ASSERT_TRUE(pair.ok());
  const int off = 0;  // as after the first message: the credentials leave their room to more descriptors
  ASSERT_EQ(setsockopt(pair->first.get(), SOL_SOCKET, SO_PASSCRED, &off, sizeof(off)), 0);
  FakeClock clock;
  net::FakeLoop loop(clock);
  FrameChannel channel(loop, std::move(pair->first));
  std::string why;
  channel.open({[](const Frame&) {}, [&](const std::string& reason) { why = reason; }});
  const auto before = descriptors();
  constexpr size_t kTooMany = 24;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kTooMany)] = {};
  char byte = 'S';
  iovec piece{&byte, 1};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int) * kTooMany);
  const std::vector<int> fds(kTooMany, 2);
  std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * kTooMany);
  ASSERT_EQ(sendmsg(pair->second.get(), &message, 0), 1);
  channel.drain();
  EXPECT_EQ(why, "More descriptors than a message may carry.");
  EXPECT_EQ(descriptors(), before - 1) << "all but the channel's own";
}

TEST(LauncherProtocol, AcceptsWhatItEncodesAndRefusesTheRest) {
  using namespace launcher;
  RequestHeader header;
  header.command = uint16_t(Command::start);
  header.subject = 3;
  header.memory_bytes = 128 << 20;
  header.tmp_bytes = 1 << 20;
  header.cpu_millis = 100;
  header.max_pids = 10;
  const auto encode = [&](const std::vector<std::string>& argv, const std::vector<std::string>& environment,
                          const std::vector<std::array<std::string, 3>>& mounts) {
    return encode_request(header, argv, environment, mounts);
  };
  const auto why_refused = [](const std::string& message) {
    Request request;
    const char* why = parse_request(message, request);
    return std::string(why != nullptr ? why : "");
  };
  const std::vector<std::array<std::string, 3>> mount = {{"/srv/code", "/var/task", "r"}};
  EXPECT_EQ(why_refused(encode({"/bin/true"}, {"A=b"}, mount)), "");
  EXPECT_NE(why_refused(encode({"true"}, {}, {})), "") << "relative command";
  EXPECT_NE(why_refused(encode({}, {}, {})), "") << "no command";
  EXPECT_NE(why_refused(encode({"/bin/true"}, {"novalue"}, {})), "");
  for (const char* path : {"/var/../etc", "var/task", "/", "", "//x", "/a/", "/a/./b"}) {
    EXPECT_NE(why_refused(encode({"/bin/true"}, {}, {{"/srv/code", path, "r"}})), "") << path;
    EXPECT_NE(why_refused(encode({"/bin/true"}, {}, {{path, "/var/task", "r"}})), "") << path;
  }
  EXPECT_NE(why_refused(encode({"/bin/true"}, {}, {{"/srv", "/x", "x"}})), "") << "mode";
  const std::string good = encode({"/bin/true"}, {"A=b"}, mount);
  for (size_t length = 0; length < good.size(); ++length) EXPECT_NE(why_refused(good.substr(0, length)), "") << length;
  EXPECT_NE(why_refused(good + "x"), "");
  header.command = uint16_t(Command::clone_mount);
  EXPECT_EQ(why_refused(encode({}, {}, mount)), "");
  EXPECT_NE(why_refused(encode({}, {}, {})), "") << "nothing to clone";
  EXPECT_NE(why_refused(encode({}, {}, {mount[0], mount[0]})), "") << "two mounts";
  EXPECT_NE(why_refused(encode({"/bin/true"}, {}, mount)), "") << "a command";
  EXPECT_NE(why_refused(encode({}, {}, {{"/srv/code", "/var/task", "w"}})), "") << "writable";
  EXPECT_NE(why_refused(encode({}, {}, {{"/srv/../code", "/var/task", "r"}})), "") << "not a plain path";
  header.command = uint16_t(Command::start);
  header.memory_bytes = -1;
  EXPECT_NE(why_refused(encode({"/bin/true"}, {}, {})), "");
  header.memory_bytes = 128 << 20;
  header.version = 2;
  EXPECT_NE(why_refused(encode({"/bin/true"}, {}, {})), "");
}

}  // namespace
}  // namespace sundog::sandbox
