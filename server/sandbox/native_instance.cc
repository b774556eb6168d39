#include "sandbox/native_instance.h"

#include <poll.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstdio>
#include <ctime>

#include "sandbox/call_headers.h"
#include "sandbox/launcher/fd_message.h"

namespace sundog::sandbox {
namespace {

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

int64_t used_ns() {
  int64_t sum = 0;
  for (const auto who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage usage{};
    getrusage(who, &usage);
    for (const auto& part : {usage.ru_utime, usage.ru_stime}) {
      sum += int64_t{part.tv_sec} * 1'000'000'000 + part.tv_usec * 1000;
    }
  }
  return sum;
}

Status wait_for(int fd, short events) {
  pollfd wait{fd, events, 0};
  while (poll(&wait, 1, -1) < 0) {
    if (errno != EINTR) return fail_errno("wait for the server", errno);
  }
  return done;
}

Error let_go() {
  return fail(Code::cancelled, "The server has let this instance go.");
}

}  // namespace

Status NativeInstance::send(FrameType type, uint32_t id, std::string head, std::string_view raw,
                            std::vector<UniqueFd> fds) {
  Frame frame;
  frame.type = type;
  frame.id = id;
  frame.head = std::move(head);
  frame.raw = raw;
  frame.fds = std::move(fds);
  if (frame.head.size() > kMaxFrameHead || frame.raw.size() > kMaxFrameRaw) {
    return fail(Code::too_large, "An answer of " + std::to_string(frame.raw.size()) + " bytes; the limit is 6 MB.");
  }
  const std::string bytes = encode_frame_header(frame) + frame.head + frame.raw;
  std::vector<int> numbers;
  for (const auto& fd : frame.fds) numbers.push_back(fd.get());
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t sent = launcher::send_with_fds(socket_.get(), std::string_view(bytes).substr(at), numbers.data(),
                                                 at == 0 ? numbers.size() : 0);
    if (sent >= 0) {
      at += size_t(sent);
    } else if (errno == EAGAIN) {
      SUNDOG_CHECK(wait_for(socket_.get(), POLLOUT));
    } else {
      return let_go();
    }
  }
  return done;
}

Result<std::optional<Frame>> NativeInstance::receive() {
  std::string buffer(256 << 10, '\0');
  while (true) {
    SUNDOG_TRY(frame, parser_.next());
    if (frame) return frame;
    auto received = launcher::receive_with_fds(socket_.get(), buffer.data(), buffer.size());
    std::vector<UniqueFd> fds;
    for (const int fd : received.fds) fds.emplace_back(fd);
    if (received.bytes == 0 || (received.bytes < 0 && errno == ECONNRESET)) return std::optional<Frame>{};
    if (received.bytes < 0 && errno != EAGAIN) return fail_errno("read from the server", errno);
    if (received.bytes < 0) {
      SUNDOG_CHECK(wait_for(socket_.get(), POLLIN));
      continue;
    }
    parser_.feed({buffer.data(), size_t(received.bytes)}, std::move(fds));
  }
}

Status NativeInstance::ready() {
  return send(FrameType::ready, 0, dump({{"pid", getpid()}}), {});
}

Status NativeInstance::hand_over_way_out(UniqueFd listener) {
  std::vector<UniqueFd> fds;
  fds.push_back(std::move(listener));
  return send(FrameType::way_out, 0, "{}", {}, std::move(fds));
}

Status NativeInstance::init_failed(const InitFailure& failure) {
  return send(FrameType::init_failed, 0,
              dump({{"type", failure.type}, {"message", failure.message}, {"stack", failure.stack}}), {});
}

Result<std::optional<NativeInvocation>> NativeInstance::next() {
  SUNDOG_TRY(frame, receive());
  if (!frame) return std::optional<NativeInvocation>{};
  if (frame->type != FrameType::invoke)
    return fail(Code::internal, "The server sent no invocation to an idle instance.");
  SUNDOG_TRY(header, parse_invoke_header(frame->head));
  running_ = {};
  running_.id = frame->id;
  running_.request_id = header.request_id;
  running_.function_arn = header.arn;
  running_.client_context = header.client_context;
  running_.deadline = from_epoch_millis(header.deadline_ms);
  running_.memory_mb = static_cast<int>(header.memory_mb);
  if (!header.meta.empty()) {
    SUNDOG_TRY(meta, parse_json(header.meta, "an invocation's meta"));
    running_.meta = std::move(meta);
  }
  running_.payload = std::move(frame->raw);
  streamed_ = false;
  started_ns_ = now_ns();
  cpu_ns_ = used_ns();
  return std::optional<NativeInvocation>(running_);
}

Result<HostReply> NativeInstance::call(std::string name, Json arguments, std::vector<UniqueFd> fds) {
  const uint32_t id = next_call_++;
  SUNDOG_CHECK(send(FrameType::host_call, id, dump({{"call", std::move(name)}, {"arguments", std::move(arguments)}}),
                    {}, std::move(fds)));
  SUNDOG_TRY(frame, receive());
  if (!frame) return let_go();
  if (frame->type != FrameType::host_reply || frame->id != id) {
    return fail(Code::internal, "The server sent something else than the reply.");
  }
  SUNDOG_TRY(reply, parse_json(frame->head, "a host reply"));
  SUNDOG_TRY(ok, get_bool(reply, "ok", false));
  if (ok) return HostReply{reply.value("result", Json()), std::move(frame->fds)};
  const auto error = reply.value("error", Json::object());
  SUNDOG_TRY(code, get_string(error, "code", "internal"));
  SUNDOG_TRY(message, get_string(error, "message", "The host call failed."));
  SUNDOG_TRY(hint, get_string(error, "hint", ""));
  for (int value = 0; value <= int(Code::internal); ++value) {
    if (sundog::name(Code(value)) == code) return fail(Code(value), message, hint);
  }
  return fail(Code::internal, message, hint);
}

Result<UniqueFd> NativeInstance::open_blob(const std::string& blob) {
  SUNDOG_TRY(reply, call("blob.open", {{"blob", blob}}));
  if (reply.fds.size() != 1) return fail(Code::internal, "The server sent no descriptor for blob " + blob + ".");
  return std::move(reply.fds.front());
}

Result<NativeInstance::HostFile> NativeInstance::create_file() {
  SUNDOG_TRY(reply, call("file.create", Json::object()));
  if (reply.fds.size() != 1 || !reply.result.contains("handle")) {
    return fail(Code::internal, "The server sent no descriptor for a new file.");
  }
  return HostFile{reply.result["handle"], std::move(reply.fds.front())};
}

Result<Json> NativeInstance::commit(const HostFile& file) {
  SUNDOG_TRY(reply, call("file.commit", {{"handle", file.handle}}));
  return std::move(reply.result);
}

Status NativeInstance::stream(std::string_view piece) {
  streamed_ = true;
  return send(FrameType::stream, running_.id, "{}", piece);
}

Status NativeInstance::answer(Result<std::string> answer) {
  if (answer.ok() && answer->size() > kMaxFrameRaw) {
    answer = fail(Code::too_large, "Response payload size (" + std::to_string(answer->size()) +
                                       " bytes) exceeded the maximum allowed payload size (6 MB).");
  }
  const std::string head =
      encode(ResultHeader{answer.ok(), streamed_, Duration{now_ns() - started_ns_}, Duration{used_ns() - cpu_ns_}});
  if (answer.ok()) return send(FrameType::result, running_.id, head, *answer);
  const auto& error = answer.error();
  const Json shape = {{"errorMessage", error.text()},
                      {"errorType", name(error.code)},
                      {"requestId", running_.request_id},
                      {"stackTrace", Json::array()}};
  return send(FrameType::result, running_.id, head, dump(shape));
}

Status NativeInstance::answer_as_is(bool ok, std::string_view payload) {
  const Duration taken{now_ns() - started_ns_};
  return send(FrameType::result, running_.id, encode(ResultHeader{ok, streamed_, taken, std::nullopt}), payload);
}

int serve_native(const std::function<Result<std::string>(NativeInstance&, const NativeInvocation&)>& handler) {
  NativeInstance host;
  if (!host.ready().ok()) return 1;
  while (true) {
    auto work = host.next();
    if (!work.ok()) {
      fprintf(stderr, "%s\n", work.error().text().c_str());
      return 1;
    }
    if (!*work) return 0;
    if (!host.answer(handler(host, **work)).ok()) return 1;
  }
}

}  // namespace sundog::sandbox
