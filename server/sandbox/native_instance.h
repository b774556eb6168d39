// NativeInstance: the inside of the instance protocol for programs in C++ (sundog-data, …), which the sandbox starts by
// exec with their socket on descriptor 3. Blocking, one thread.
//
//   int main() { return sandbox::serve_native([](NativeInstance& host, const NativeInvocation& work) { … }); }
//
// Ownership   owns its socket.
// Threads     one.
// Failure     cancelled when the server let the instance go; a host call's Error is the server's own.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"
#include "sandbox/frames.h"
#include "sandbox/sandbox.h"

namespace sundog::sandbox {

struct NativeInvocation {
  uint32_t id = 0;
  std::string request_id, function_arn, client_context;
  WallTime deadline;
  int memory_mb = 0;
  Json meta;
  std::string payload;
};

class NativeInstance {
 public:
  explicit NativeInstance(UniqueFd socket = UniqueFd(3)) : socket_(std::move(socket)) {}

  int socket() const { return socket_.get(); }  // for who waits for more than the server
  Status ready();
  // Before ready(), and before anything of the user's runs, in an instance whose network is "egress": the listener on
  // its loopback through which it is let out. No copy stays here.
  Status hand_over_way_out(UniqueFd listener);
  // Instead of ready(), and its last word.
  Status init_failed(const InitFailure& failure);
  // The next invocation; nullopt once the server is done with this instance.
  Result<std::optional<NativeInvocation>> next();
  // Only while an invocation runs. The descriptors go along (at most 4) and are closed here.
  Result<HostReply> call(std::string name, Json arguments, std::vector<UniqueFd> fds = {});
  // A blob that the invocation was granted, for reading.
  Result<UniqueFd> open_blob(const std::string& blob);
  // A new file of the host, and the handle to commit it by; commit() gives {"blob","bytes"}.
  struct HostFile {
    Json handle;
    UniqueFd fd;
  };
  Result<HostFile> create_file();
  Result<Json> commit(const HostFile& file);
  // A piece of a streamed answer.
  Status stream(std::string_view piece);
  // Ends the invocation: the answer, or Lambda's error object made of the Error.
  Status answer(Result<std::string> answer);
  // The same with the bytes that the caller is to get, for work that other processes of this tree did: what CPU time
  // they took, the server reads from the cgroup.
  Status answer_as_is(bool ok, std::string_view payload);

 private:
  Status send(FrameType type, uint32_t id, std::string head, std::string_view raw, std::vector<UniqueFd> fds = {});
  Result<std::optional<Frame>> receive();

  UniqueFd socket_;
  FrameParser parser_;
  uint32_t next_call_ = 1;
  NativeInvocation running_;
  bool streamed_ = false;
  int64_t started_ns_ = 0, cpu_ns_ = 0;
};

// Serves invocations until the server closes the socket; the exit status of the program.
int serve_native(const std::function<Result<std::string>(NativeInstance&, const NativeInvocation&)>& handler);

}  // namespace sundog::sandbox
