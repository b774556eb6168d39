#include "data/worker/serve.h"

#include <arrow/memory_pool.h>
#include <malloc.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "data/worker/task.h"
#include "sandbox/frames.h"

namespace sundog::data::worker {
namespace {

using sandbox::Frame;
using sandbox::FrameType;

// The instance's end of the socket, blocking.
class Line {
 public:
  explicit Line(int socket) : socket_(socket) {}

  Status send(const Frame& frame) {
    std::string bytes = sandbox::encode_frame_header(frame) + frame.json + frame.raw;
    std::string_view rest = bytes;
    while (!rest.empty()) {
      const ssize_t count = ::send(socket_, rest.data(), rest.size(), MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return fail_errno("send to the server", errno);
      rest.remove_prefix(static_cast<size_t>(count));
    }
    return done;
  }

  // The next frame; `unavailable` when the server is gone.
  Result<Frame> receive() {
    for (;;) {
      SUNDOG_TRY(frame, parser_.next());
      if (frame) return std::move(*frame);
      SUNDOG_CHECK(read_more());
    }
  }

 private:
  Status read_more() {
    std::array<char, 65536> bytes;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 4)> control{};
    iovec piece{bytes.data(), bytes.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t count = ::recvmsg(socket_, &message, MSG_CMSG_CLOEXEC);
    if (count < 0 && errno == EINTR) return done;
    if (count < 0) return fail_errno("receive from the server", errno);
    if (count == 0) return fail(Code::unavailable, "The server is gone.");
    std::vector<UniqueFd> fds;
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      const size_t fd_count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < fd_count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
        fds.emplace_back(fd);
      }
    }
    parser_.feed(std::string_view(bytes.data(), static_cast<size_t>(count)), std::move(fds));
    return done;
  }

  int socket_;
  sandbox::FrameParser parser_;
};

class LineHost final : public Host {
 public:
  explicit LineHost(Line& line) : line_(line) {}

  Result<UniqueFd> open_blob(const std::string& id) override {
    SUNDOG_TRY(reply, call("blob.open", {{"blob", id}}));
    if (reply.fds.empty()) return fail(Code::internal, "The server sent no descriptor for the blob.");
    return std::move(reply.fds[0]);
  }
  Result<NewFile> create_file() override {
    SUNDOG_TRY(reply, call("file.create", Json::object()));
    if (reply.fds.empty() || !reply.result.is_object())
      return fail(Code::internal, "The server sent no descriptor for a new file.");
    NewFile file;
    const auto& handle = reply.result["handle"];
    file.handle = handle.is_string() ? handle.get<std::string>() : dump(handle);
    handle_is_text_ = handle.is_string();
    file.fd = std::move(reply.fds[0]);
    return file;
  }
  Result<StoredBlob> commit_file(const std::string& handle) override {
    Json argument = handle;
    if (!handle_is_text_) {
      SUNDOG_TRY(number, parse_json(handle, "the handle"));
      argument = number;
    }
    SUNDOG_TRY(reply, call("file.commit", {{"handle", argument}}));
    SUNDOG_TRY(blob, get_string(reply.result, "blob"));
    SUNDOG_TRY(bytes, get_int(reply.result, "bytes"));
    return StoredBlob{blob, bytes};
  }

 private:
  struct Reply {
    Json result;
    std::vector<UniqueFd> fds;
  };

  Result<Reply> call(const std::string& name, Json arguments) {
    const uint32_t id = ++last_call_;
    SUNDOG_CHECK(line_.send(
        Frame{FrameType::host_call, id, dump({{"call", name}, {"arguments", std::move(arguments)}}), {}, {}}));
    for (;;) {
      SUNDOG_TRY(frame, line_.receive());
      if (frame.type != FrameType::host_reply || frame.id != id) continue;
      SUNDOG_TRY(json, parse_json(frame.json, "the server's reply"));
      if (json.value("ok", false)) return Reply{json.value("result", Json()), std::move(frame.fds)};
      const Json error = json.value("error", Json::object());
      return fail(code_from(error.value("code", "internal")), error.value("message", name + " failed."),
                  error.value("hint", ""));
    }
  }

  static Code code_from(const std::string& text) {
    for (int code = 0; code <= static_cast<int>(Code::internal); ++code) {
      if (text == sundog::name(static_cast<Code>(code))) return static_cast<Code>(code);
    }
    return Code::internal;
  }

  Line& line_;
  uint32_t last_call_ = 0;
  bool handle_is_text_ = true;
};

int64_t cpu_now() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

Frame answer(const Frame& invoke, Host& host) {
  const auto began = std::chrono::steady_clock::now();
  const int64_t cpu = cpu_now();
  auto result = run_payload(invoke.raw, host);
  std::string raw = result.ok() ? dump(*result) : std::string();
  if (raw.size() > (6U << 20)) result = fail(Code::too_large, "The answer of the data task is larger than 6 MB.");
  if (!result.ok()) {
    std::string request_id;
    if (const auto request = parse_json(invoke.json, "the invocation"); request.ok() && request->is_object()) {
      request_id = request->value("request_id", "");
    }
    raw = dump(error_object(result.error(), request_id));
  }
  const auto took = std::chrono::steady_clock::now() - began;
  const Json json{{"ok", result.ok()},
                  {"handler_ns", std::chrono::duration_cast<std::chrono::nanoseconds>(took).count()},
                  {"cpu_ns", cpu_now() - cpu},
                  {"streamed", false}};
  return Frame{FrameType::result, invoke.id, dump(json), std::move(raw), {}};
}

}  // namespace

Json error_object(const Error& error, const std::string& request_id) {
  return {{"errorMessage", error.message},
          {"errorType", "Sundog." + std::string(name(error.code))},
          {"hint", error.hint},
          {"requestId", request_id},
          {"stackTrace", Json::array()}};
}

int serve(int socket) {
  Line line(socket);
  LineHost host(line);
  if (!line.send(Frame{FrameType::ready, 0, dump({{"pid", ::getpid()}}), {}, {}}).ok()) return 1;
  for (;;) {
    auto frame = line.receive();
    if (!frame.ok()) {
      if (frame.error().code == Code::unavailable) return 0;  // the server closed the socket: our normal end
      std::fprintf(stderr, "%s\n", frame.error().text().c_str());
      return 1;
    }
    if (frame->type != FrameType::invoke) continue;
    if (!line.send(answer(*frame, host)).ok()) return 1;
    // What the task took goes back, so that an idle instance is small.
    arrow::default_memory_pool()->ReleaseUnused();
    ::malloc_trim(0);
  }
}

}  // namespace sundog::data::worker
