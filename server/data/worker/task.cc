#include "data/worker/task.h"

#include <arrow/compute/initialize.h>
#include <arrow/util/thread_pool.h>

#include <new>

#include "data/worker/arrow_result.h"

namespace sundog::data::worker {
namespace {

using Task = Result<Json> (*)(const Json&, Host&);

Task find_task(const std::string& name) {
  static const std::map<std::string, Task> tasks{
      {"ingest", ingest},     {"profile", profile}, {"index", index_shard}, {"statistics", shard_statistics},
      {"write", write_shard}, {"pack", pack},       {"rows", rows}};
  const auto found = tasks.find(name);
  return found == tasks.end() ? nullptr : found->second;
}

}  // namespace

Status start_arrow(int threads) {
  SUNDOG_ARROW_OK(arrow::compute::Initialize());
  SUNDOG_ARROW_OK(arrow::SetCpuThreadPoolCapacity(threads));
  return done;
}

Result<Json> run(const std::string& task, const Json& arguments, Host& host) {
  const Task found = find_task(task);
  if (found == nullptr) return fail(Code::invalid_argument, "There is no data task \"" + task + "\".");
  if (!arguments.is_object())
    return fail(Code::invalid_argument, "The arguments of \"" + task + "\" are not a JSON object.");
  try {
    return found(arguments, host);
  } catch (const std::bad_alloc&) {
    return fail(Code::resource_exhausted, "The task \"" + task + "\" ran out of memory.",
                "Give it a larger memory_mb.");
  } catch (const std::exception& error) {
    return fail(Code::invalid_argument, "The data cannot be read: " + std::string(error.what()) + ".");
  }
}

Result<Json> run_payload(std::string_view payload, Host& host) {
  SUNDOG_TRY(request, parse_json(payload, "the payload"));
  if (!request.is_object()) return fail(Code::invalid_argument, "The payload is not a JSON object.");
  SUNDOG_TRY(task, get_string(request, "task"));
  return run(task, request.value("arguments", Json::object()), host);
}

}  // namespace sundog::data::worker
