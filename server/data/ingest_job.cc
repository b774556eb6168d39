#include <algorithm>

#include "data/data_jobs.h"

namespace sundog::data {

invoke::Invocation data_invocation(const std::string& tenant, const std::string& task, Json arguments,
                                   std::set<std::string> blobs) {
  invoke::Invocation out;
  out.tenant = tenant;
  out.function = kDataFunction;
  out.kind = functions::Kind::data;
  out.payload = dump({{"task", task}, {"arguments", std::move(arguments)}});
  out.granted_blobs = std::move(blobs);
  return out;
}

namespace {

// Whether every blob that the answer names was given to the invocation or written by it.
bool names_only(const Json& answer, const std::set<std::string>& granted) {
  if (!answer.is_structured()) return true;
  for (auto item = answer.begin(); item != answer.end(); ++item) {
    if (answer.is_object() && item.key() == "blob" && item->is_string()) {
      const auto& blob = item->get_ref<const std::string&>();
      if (!blob.empty() && !granted.contains(blob)) return false;
    } else if (!names_only(*item, granted)) {
      return false;
    }
  }
  return true;
}

}  // namespace

Result<Json> data_answer(const invoke::InvokeResult& result) {
  SUNDOG_TRY(json, parse_json(result.payload, "the data worker's answer"));
  if (!json.is_object()) return fail(Code::internal, "The data worker's answer is not a JSON object.");
  // The worker reads hostile bytes: what it says after that is not believed further than what it was given.
  if (!names_only(json, result.granted_blobs)) {
    return fail(Code::permission_denied, "The data worker's answer names a blob that it neither got nor wrote.");
  }
  return json;
}

// {"name","blob",…} as in POST /v1/datasets.
Result<Json> run_ingest(JobContext& context, Datasets& datasets) {
  Json arguments = context.job().arguments;
  SUNDOG_TRY(name, get_string(arguments, "name"));
  SUNDOG_TRY(blob, get_string(arguments, "blob"));
  SUNDOG_TRY(label, get_string(arguments, "label", ""));
  SUNDOG_TRY(memory_mb, get_int(arguments, "memory_mb", 512));
  context.progress(0, 1, "reading the file");
  // An eighth: a learner of that memory has room for the shard, its own copy and itself.
  arguments["shard_memory_bytes"] = std::max<int64_t>(memory_mb, 128) * (1 << 20) / 8;
  SUNDOG_TRY(result, context.invoke(data_invocation(context.job().tenant, "ingest", arguments, {blob})));
  SUNDOG_TRY(answer, data_answer(result));
  answer["dataset"] = name;
  answer["label"] = label;
  SUNDOG_TRY(draft, DatasetVersion::from_json(answer));
  Json settings = context.job().arguments;
  settings.erase("name");
  draft.lineage = {{"kind", "ingest"},
                   {"parents", Json::array()},
                   {"settings", std::move(settings)},
                   {"code", "sundog-data 0.1.0"},
                   {"warnings", answer.value("warnings", Json::array())}};
  SUNDOG_TRY(version, datasets.add_version(context.job().tenant, std::move(draft), context.job().id));
  context.progress(1, 1, std::to_string(version.rows()) + " rows");
  Json out = version.to_json();
  out["warnings"] = version.lineage.value("warnings", Json::array());
  return out;
}

// {"dataset","version","label"?}
Result<Json> run_profile(JobContext& context, Datasets& datasets) {
  const auto& job = context.job();
  SUNDOG_TRY(dataset, get_string(job.arguments, "dataset"));
  SUNDOG_TRY(number, get_int(job.arguments, "version"));
  SUNDOG_TRY(version, datasets.get(job.tenant, dataset, number));
  SUNDOG_TRY(label, get_string(job.arguments, "label", version.label));
  context.progress(0, 1, "reading " + std::to_string(version.rows()) + " rows");
  Json blobs = Json::array();
  std::set<std::string> granted;
  for (const auto& shard : version.shards) {
    blobs.push_back(shard.blob);
    granted.insert(shard.blob);
  }
  SUNDOG_TRY(result, context.invoke(data_invocation(job.tenant, "profile", {{"blobs", blobs}, {"label", label}},
                                                    std::move(granted))));
  SUNDOG_TRY(answer, data_answer(result));
  answer["dataset"] = dataset;
  answer["version"] = number;
  context.progress(1, 1, "done");
  return answer;
}

void add_data_jobs(Jobs& jobs, Datasets& datasets, store::Blobs& blobs, Clock&) {
  jobs.add_kind("ingest", [&datasets](JobContext& context) { return run_ingest(context, datasets); });
  jobs.add_kind("profile", [&datasets](JobContext& context) { return run_profile(context, datasets); });
  jobs.add_kind("preprocess",
                [&datasets, &blobs](JobContext& context) { return run_preprocess(context, datasets, blobs); });
}

}  // namespace sundog::data
