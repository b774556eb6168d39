#include "api/data_routes.h"

#include <algorithm>
#include <atomic>
#include <set>
#include <utility>

#include "data/data_jobs.h"
#include "data/preprocess_settings.h"

namespace sundog::api {
namespace {

using CallPtr = std::shared_ptr<Call>;

constexpr int kMaxWaiters = 4;  // a wait holds a thread of the api pool; further ones are answered soon
constexpr Millis kLongestWait{30'000}, kCrowdedWait{500};

Result<data::DatasetVersion> version_of(const data::Datasets& datasets, const Call& call) {
  return datasets.find(call.principal.tenant, call.param("name") + "@" + call.param("version"));
}

Result<Json> create_dataset(data::Jobs& jobs, const store::Blobs& blobs, const MayUseBlob& may_use, const Call& call) {
  SUNDOG_TRY(body, call.json());
  SUNDOG_TRY(name, get_string(body, "name"));
  SUNDOG_TRY(blob, get_string(body, "blob"));
  if (!data::is_dataset_name(name)) {
    return fail(Code::invalid_argument, "\"" + name + "\" is no name for a dataset.",
                "Letters, digits, . _ and -, at most 64.");
  }
  static const std::set<std::string> known{"name",    "blob",     "filename",  "format", "compression", "label",
                                           "missing", "encoding", "delimiter", "types",  "memory_mb"};
  for (const auto& [key, value] : body.items()) {
    if (!known.contains(key))
      return fail(Code::invalid_argument, "A dataset has no setting \"" + key + "\".",
                  "docs/formats/dataset.md lists them.");
  }
  SUNDOG_TRY(memory_mb, get_int(body, "memory_mb", 512));
  if (memory_mb < 128 || memory_mb > 10'240) {
    return fail(Code::invalid_argument, "memory_mb is " + std::to_string(memory_mb) + ".", "Between 128 and 10240.");
  }
  if (!store::is_blob_id(blob)) {
    return fail(Code::invalid_argument, "\"" + blob + "\" is no blob: it is not 64 hexadecimal digits.",
                "PUT /v1/blobs answers with one.");
  }
  // A blob of others is as absent as one that is nowhere.
  if (may_use && !may_use(call.principal.tenant, blob)) {
    return fail(Code::not_found, "No blob \"" + blob + "\".", "PUT /v1/blobs the file first.");
  }
  SUNDOG_TRY(info, blobs.info(blob));
  if (info.bytes == 0) return fail(Code::invalid_argument, "The file is empty.");
  SUNDOG_TRY(job, jobs.submit(call.principal.tenant, "ingest", body));
  return job.to_json();
}

// Runs one data task and answers with what `shape` makes of its answer.
void answer_by_task(const CallPtr& call, invoke::Invoker& invoker, net::Loop& loop, invoke::Invocation invocation,
                    std::function<Json(Json)> shape) {
  loop.post([call, &invoker, invocation = std::move(invocation), shape = std::move(shape)]() mutable {
    invoker.invoke(std::move(invocation), [call, shape = std::move(shape)](Result<invoke::InvokeResult> result) {
      if (!result.ok()) return reply_error(*call->responder, result.error(), ErrorShape::sundog);
      if (!result->function_error.empty()) {
        return reply_error(*call->responder, data::error_from_function(*result), ErrorShape::sundog);
      }
      auto answer = data::data_answer(*result);
      if (!answer.ok()) return reply_error(*call->responder, answer.error(), ErrorShape::sundog);
      reply(*call->responder, 200, shape(std::move(*answer)));
    });
  });
}

Result<invoke::Invocation> rows_invocation(const data::Datasets& datasets, const Call& call) {
  SUNDOG_TRY(version, version_of(datasets, call));
  SUNDOG_TRY(limit, call.query_limit(20));
  const std::string split(call.query("split"));
  Json blobs = Json::array();
  std::set<std::string> granted, splits;
  int64_t rows = 0;
  for (const auto& shard : version.shards) {
    splits.insert(shard.split);
    if (!split.empty() && shard.split != split) continue;
    if (std::cmp_greater_equal(rows, limit)) break;
    rows += shard.rows;
    blobs.push_back(shard.blob);
    granted.insert(shard.blob);
  }
  if (blobs.empty()) {
    std::string known;
    for (const auto& one : splits) known += (known.empty() ? "" : ", ") + one;
    return fail(Code::not_found, version.reference() + " has no rows of the split \"" + split + "\".",
                "Its splits are: " + known + ".");
  }
  return data::data_invocation(call.principal.tenant, "rows", {{"blobs", blobs}, {"limit", limit}}, std::move(granted));
}

void quarantine_rows(const data::Datasets& datasets, invoke::Invoker& invoker, net::Loop& loop, const CallPtr& call) {
  const auto version = version_of(datasets, *call);
  if (!version.ok()) return reply_error(*call->responder, version.error(), ErrorShape::sundog);
  const auto limit = call->query_limit();
  const auto after = call->query_int("after", 0);
  if (!limit.ok()) return reply_error(*call->responder, limit.error(), ErrorShape::sundog);
  if (!after.ok()) return reply_error(*call->responder, after.error(), ErrorShape::sundog);
  if (version->quarantine_blob.empty()) return reply(*call->responder, 200, {{"items", Json::array()}, {"next", ""}});
  auto invocation = data::data_invocation(
      call->principal.tenant, "rows",
      {{"blobs", {version->quarantine_blob}}, {"limit", *limit}, {"offset", std::max<int64_t>(0, *after)}},
      {version->quarantine_blob});
  const int64_t total = version->quarantined, start = std::max<int64_t>(0, *after);
  answer_by_task(call, invoker, loop, std::move(invocation), [total, start](const Json& answer) {
    Json items = Json::array();
    for (const auto& row : answer.value("rows", Json::array())) {
      if (row.is_array() && row.size() == 3) items.push_back({{"line", row[0]}, {"reason", row[1]}, {"text", row[2]}});
    }
    const int64_t end = start + static_cast<int64_t>(items.size());
    const bool more = end < total && !items.empty();
    return Json{{"items", std::move(items)}, {"next", more ? std::to_string(end) : ""}};
  });
}

Result<Json> submit_preprocess(const data::Datasets& datasets, data::Jobs& jobs, const Call& call) {
  SUNDOG_TRY(version, version_of(datasets, call));
  SUNDOG_TRY(body, call.json());
  // Here too, so that a wrong rule is a 400 at once and not a failed job.
  SUNDOG_CHECK(data::PreprocessSettings::parse(body, version));
  SUNDOG_TRY(job, jobs.submit(call.principal.tenant, "preprocess",
                              {{"dataset", version.dataset}, {"version", version.version}, {"rules", body}}));
  return job.to_json();
}

Result<Json> submit_profile(const data::Datasets& datasets, data::Jobs& jobs, const Call& call) {
  SUNDOG_TRY(version, version_of(datasets, call));
  SUNDOG_TRY(body, call.json());
  SUNDOG_TRY(label, get_string(body, "label", version.label));
  const bool known = std::any_of(version.schema.begin(), version.schema.end(),
                                 [&](const auto& column) { return column.name == label; });
  if (!label.empty() && !known) {
    return fail(Code::invalid_argument, version.reference() + " has no column \"" + label + "\" for the label.");
  }
  SUNDOG_TRY(job, jobs.submit(call.principal.tenant, "profile",
                              {{"dataset", version.dataset}, {"version", version.version}, {"label", label}}));
  return job.to_json();
}

Result<Json> get_job(const data::Jobs& jobs, std::atomic<int>& waiters, const Call& call) {
  const std::string id = call.param("id");
  SUNDOG_TRY(seconds, call.query_int("wait", 0));
  if (seconds <= 0) {
    SUNDOG_TRY(job, jobs.get(call.principal.tenant, id));
    return job.to_json();
  }
  const bool crowded = waiters.fetch_add(1) >= kMaxWaiters;
  const Millis longest = crowded ? kCrowdedWait : kLongestWait;
  auto job = jobs.wait(call.principal.tenant, id, std::min(longest, Millis{std::min<int64_t>(seconds, 30) * 1000}));
  waiters.fetch_sub(1);
  if (!job.ok()) return std::move(job).error();
  return job->to_json();
}

void add_job_routes(Router& router, data::Jobs& jobs) {
  const auto waiters = std::make_shared<std::atomic<int>>(0);
  router.json("GET", "/v1/jobs", Role::viewer, [&jobs](const CallPtr& call) -> Result<Json> {
    SUNDOG_TRY(asked, call->list_query());
    SUNDOG_TRY(page, jobs.list(call->principal.tenant, asked.after, asked.limit));
    Json items = Json::array();
    for (const auto& job : page.items) {
      Json one = job.to_json();
      one.erase("result");  // GET /v1/jobs/{id} has it
      items.push_back(std::move(one));
    }
    return Json{{"items", std::move(items)}, {"next", page.next}};
  });
  router.json("GET", "/v1/jobs/{id}", Role::viewer,
              [&jobs, waiters](const CallPtr& call) { return get_job(jobs, *waiters, *call); });
  router.json("DELETE", "/v1/jobs/{id}", Role::deployer, [&jobs](const CallPtr& call) -> Result<Json> {
    SUNDOG_CHECK(jobs.cancel(call->principal.tenant, call->param("id")));
    SUNDOG_TRY(job, jobs.get(call->principal.tenant, call->param("id")));
    return job.to_json();
  });
}

}  // namespace

void add_data_routes(Router& router, data::Datasets& datasets, data::Jobs& jobs, store::Blobs& blobs,
                     invoke::Invoker& invoker, net::Loop& loop, MayUseBlob may_use) {
  const std::string one = "/v1/datasets/{name}", version = one + "/versions/{version}";
  router.json(
      "POST", "/v1/datasets", Role::deployer,
      [&, may_use = std::move(may_use)](const CallPtr& call) { return create_dataset(jobs, blobs, may_use, *call); },
      {}, 202);
  router.json("GET", "/v1/datasets", Role::viewer, [&](const CallPtr& call) -> Result<Json> {
    SUNDOG_TRY(asked, call->list_query());
    return datasets.list(call->principal.tenant, asked.after, asked.limit);
  });
  router.json("GET", one, Role::viewer,
              [&](const CallPtr& call) { return datasets.describe(call->principal.tenant, call->param("name")); });
  router.json("DELETE", one, Role::deployer, [&](const CallPtr& call) -> Result<Json> {
    SUNDOG_CHECK(datasets.remove(call->principal.tenant, call->param("name")));
    return Json::object();
  });
  router.json("GET", version, Role::viewer, [&](const CallPtr& call) -> Result<Json> {
    SUNDOG_TRY(found, version_of(datasets, *call));
    return found.to_json();
  });
  router.add("GET", version + "/rows", Role::viewer, [&](const CallPtr& call) {
    auto invocation = rows_invocation(datasets, *call);
    if (!invocation.ok()) return reply_error(*call->responder, invocation.error(), ErrorShape::sundog);
    answer_by_task(call, invoker, loop, std::move(*invocation), [](Json answer) { return answer; });
  });
  router.add("GET", version + "/quarantine", Role::viewer,
             [&](const CallPtr& call) { quarantine_rows(datasets, invoker, loop, call); });
  router.json(
      "POST", version + "/profile", Role::deployer,
      [&](const CallPtr& call) { return submit_profile(datasets, jobs, *call); }, {}, 202);
  router.json(
      "POST", version + "/preprocess", Role::deployer,
      [&](const CallPtr& call) { return submit_preprocess(datasets, jobs, *call); }, {}, 202);
  add_job_routes(router, jobs);
}

}  // namespace sundog::api
