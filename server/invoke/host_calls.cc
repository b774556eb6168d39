#include "invoke/host_calls.h"

#include <fcntl.h>

#include <cerrno>
#include <charconv>

namespace sundog::invoke {
namespace {

constexpr size_t kMostFiles = 64;  // that one invocation may hold open
constexpr int kDeepest = 8;        // functions that call functions
constexpr const char* kDepthTag = "invoke-depth";

struct OpenBlob {
  UniqueFd fd;
  int64_t bytes = 0;
};

int depth_of(const Invocation& who) {
  const auto tag = who.tags.find(kDepthTag);
  int depth = 0;
  if (tag != who.tags.end()) std::from_chars(tag->second.data(), tag->second.data() + tag->second.size(), depth);
  return depth;
}

sandbox::HostReply with_fd(Json result, UniqueFd fd) {
  sandbox::HostReply reply;
  reply.result = std::move(result);
  reply.fds.push_back(std::move(fd));
  return reply;
}

}  // namespace

// Runs `work` on the pool and `then` on the loop. A shared state carries the result: std::function wants copies.
template <class T>
void HostCalls::on_pool(std::function<Result<T>()> work, std::function<void(Result<T>)> then) {
  auto shared_then = std::make_shared<std::function<void(Result<T>)>>(std::move(then));
  auto& loop = context_.loop;
  const auto queued = context_.pool.submit([&loop, work = std::move(work), shared_then] {
    auto result = std::make_shared<Result<T>>(work());
    loop.post([result, shared_then] { (*shared_then)(std::move(*result)); });
  });
  if (!queued.ok()) loop.post([shared_then, error = queued.error()] { (*shared_then)(error); });
}

void HostCalls::call(const RunPtr& run, sandbox::HostCall call, Callback<sandbox::HostReply> reply) {
  if (call.name == "blob.open") return open_blob(run, call, std::move(reply));
  if (call.name == "file.create") return create_file(run, std::move(reply));
  if (call.name == "file.commit") return commit_file(run, call, std::move(reply));
  if (call.name == "invoke") return invoke_function(run, call, reply);
  const auto handler = handlers_.find(call.name);
  if (handler == handlers_.end()) {
    return reply(fail(Code::not_found, "There is no host call \"" + call.name + "\"."));
  }
  // An answer that comes after the invocation's end has nobody to go to.
  handler->second(run->invocation, std::move(call),
                  [weak = std::weak_ptr(run), reply = std::move(reply)](Result<sandbox::HostReply> result) {
                    const auto still = weak.lock();
                    if (still && !still->ended) reply(std::move(result));
                  });
}

void HostCalls::open_blob(const RunPtr& run, const sandbox::HostCall& call, Reply reply) {
  auto id = get_string(call.arguments, "blob");
  if (!id.ok()) return reply(id.error());
  if (!run->invocation.granted_blobs.contains(*id)) {
    return reply(
        fail(Code::permission_denied, "This invocation was not given the blob \"" + id->substr(0, 64) + "\"."));
  }
  auto& blobs = context_.blobs;
  on_pool<OpenBlob>(
      [&blobs, id = *id]() -> Result<OpenBlob> {
        SUNDOG_TRY(info, blobs.info(id));
        SUNDOG_TRY(fd, blobs.open(id));
        return OpenBlob{std::move(fd), info.bytes};
      },
      [weak = std::weak_ptr(run), reply = std::move(reply)](Result<OpenBlob> opened) {
        const auto still = weak.lock();
        if (!still || still->ended) return;
        if (!opened.ok()) return reply(opened.error());
        reply(with_fd({{"bytes", opened->bytes}}, std::move(opened->fd)));
      });
}

void HostCalls::create_file(const RunPtr& run, Reply reply) {
  if (run->files.size() >= kMostFiles) {
    return reply(fail(Code::resource_exhausted,
                      "This invocation has " + std::to_string(kMostFiles) + " files open, which is the limit.",
                      "Commit some of them first."));
  }
  auto& blobs = context_.blobs;
  on_pool<UniqueFd>([&blobs] { return blobs.scratch(); },
                    [weak = std::weak_ptr(run), reply = std::move(reply)](Result<UniqueFd> file) {
                      const auto still = weak.lock();
                      if (!still || still->ended) return;
                      if (!file.ok()) return reply(file.error());
                      UniqueFd theirs(::fcntl(file->get(), F_DUPFD_CLOEXEC, 3));
                      if (!theirs) return reply(fail_errno("hand over a file", errno));
                      const int handle = still->next_file++;
                      still->files.emplace(handle, *std::move(file));
                      reply(with_fd({{"handle", handle}}, std::move(theirs)));
                    });
}

void HostCalls::commit_file(const RunPtr& run, const sandbox::HostCall& call, Reply reply) {
  const auto handle = get_int(call.arguments, "handle");
  if (!handle.ok()) return reply(handle.error());
  const auto found =
      *handle > 0 && *handle < run->next_file ? run->files.find(static_cast<int>(*handle)) : run->files.end();
  if (found == run->files.end()) {
    return reply(fail(Code::not_found, "This invocation has no open file " + std::to_string(*handle) + "."));
  }
  const auto file = std::make_shared<UniqueFd>(std::move(found->second));
  run->files.erase(found);
  auto& blobs = context_.blobs;
  on_pool<store::BlobInfo>([&blobs, file] { return blobs.put_file(file->get()); },
                           [weak = std::weak_ptr(run), reply = std::move(reply)](Result<store::BlobInfo> stored) {
                             const auto still = weak.lock();
                             if (!still || still->ended) return;
                             if (!stored.ok()) return reply(stored.error());
                             still->invocation.granted_blobs.insert(stored->id);
                             sandbox::HostReply answer;
                             answer.result = {{"blob", stored->id}, {"bytes", stored->bytes}};
                             reply(std::move(answer));
                           });
}

void HostCalls::invoke_function(const RunPtr& run, const sandbox::HostCall& call, const Reply& reply) {
  auto function = get_string(call.arguments, "function");
  auto qualifier = get_string(call.arguments, "qualifier", "");
  if (!function.ok()) return reply(function.error());
  if (!qualifier.ok()) return reply(qualifier.error());
  const int depth = depth_of(run->invocation) + 1;
  if (depth > kDeepest) {
    return reply(fail(Code::invalid_argument,
                      "Functions call each other " + std::to_string(kDeepest) + " deep, which is the limit.",
                      "Look for a function that calls itself."));
  }
  Invocation invocation;
  invocation.tenant = run->invocation.tenant;
  invocation.function = *function;
  invocation.qualifier = *qualifier;
  const auto payload = call.arguments.find("payload");
  invocation.payload = payload == call.arguments.end() ? "null" : dump(*payload);
  invocation.tags[kDepthTag] = std::to_string(depth);
  invoke_(std::move(invocation), [weak = std::weak_ptr(run), reply](Result<InvokeResult> result) {
    const auto still = weak.lock();
    if (!still || still->ended) return;
    if (!result.ok()) return reply(result.error());
    auto answer = parse_json(result->payload, "the called function's answer");
    if (!answer.ok()) return reply(answer.error());
    sandbox::HostReply out;
    out.result = {{"payload", *std::move(answer)}, {"function_error", result->function_error}};
    reply(std::move(out));
  });
}

}  // namespace sundog::invoke
