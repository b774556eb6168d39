#include "data/worker/serve.h"

#include <arrow/memory_pool.h>
#include <malloc.h>

#include "data/worker/task.h"
#include "sandbox/native_instance.h"

namespace sundog::data::worker {
namespace {

constexpr size_t kAnswerLimit = 6 << 20;

class ServerHost final : public Host {
 public:
  explicit ServerHost(sandbox::NativeInstance& instance) : instance_(instance) {}

  Result<UniqueFd> open_blob(const std::string& id) override { return instance_.open_blob(id); }

  Result<NewFile> create_file() override {
    SUNDOG_TRY(file, instance_.create_file());
    return NewFile{std::move(file.fd), dump(file.handle)};
  }

  Result<StoredBlob> commit_file(const std::string& handle) override {
    SUNDOG_TRY(parsed, parse_json(handle, "the file's handle"));
    SUNDOG_TRY(committed, instance_.commit({std::move(parsed), UniqueFd()}));
    SUNDOG_TRY(blob, get_string(committed, "blob"));
    SUNDOG_TRY(bytes, get_int(committed, "bytes"));
    return StoredBlob{blob, bytes};
  }

 private:
  sandbox::NativeInstance& instance_;
};

Result<std::string> answer(sandbox::NativeInstance& instance, const sandbox::NativeInvocation& work) {
  ServerHost host(instance);
  const auto result = run_payload(work.payload, host);
  // What the task took goes back, so that an idle instance is small.
  arrow::default_memory_pool()->ReleaseUnused();
  ::malloc_trim(0);
  if (!result.ok()) return result.error();
  std::string text = dump(*result);
  if (text.size() > kAnswerLimit) return fail(Code::too_large, "The answer of the data task is larger than 6 MB.");
  return text;
}

}  // namespace

int serve() {
  return sandbox::serve_native(answer);
}

}  // namespace sundog::data::worker
