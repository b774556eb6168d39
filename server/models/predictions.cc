#include "models/predictions.h"

#include <fmt/format.h>

#include "base/kill_point.h"

namespace sundog::models {
namespace {

using data::Column;
using data::DatasetVersion;
using data::Shard;

constexpr int64_t kMaxParallel = 64;

// The input's columns and the model's outputs behind them.
Result<std::vector<Column>> output_schema(const std::vector<Column>& inputs, const Json& signature) {
  auto schema = inputs;
  for (const auto& output : signature["outputs"]) {
    const std::string name = output["name"];
    for (const auto& column : inputs) {
      if (column.name == name) {
        return fail(Code::invalid_argument, "The dataset already has a column \"" + name + "\", which the model adds",
                    "Drop or rename it first.");
      }
    }
    schema.push_back({name, output["type"], true});
  }
  return schema;
}

Result<Shard> scored_shard(const Shard& input, const invoke::InvokeResult& answer, size_t outputs) {
  SUNDOG_TRY(json, parse_json(answer.payload, "the model's answer for a shard"));
  SUNDOG_TRY(blob, get_string(json, "blob"));
  SUNDOG_TRY(rows, get_int(json, "rows"));
  SUNDOG_TRY(bytes, get_int(json, "bytes"));
  if (!store::is_blob_id(blob) || rows != input.rows) {
    return fail(Code::internal, fmt::format("The model answered {} rows for a shard of {}", rows, input.rows));
  }
  // The function is the user's: it must not make another's blob part of the dataset by naming it.
  if (!answer.granted_blobs.contains(blob)) {
    return fail(Code::permission_denied, "The model answered with a blob that it did not write");
  }
  return Shard{input.split, blob, rows, bytes, input.memory_bytes + rows * 8 * static_cast<int64_t>(outputs)};
}

Json kept(const Shard& shard) {
  return {{"split", shard.split},
          {"blob", shard.blob},
          {"rows", shard.rows},
          {"bytes", shard.bytes},
          {"memory_bytes", shard.memory_bytes}};
}

Shard from_kept(const Json& json) {
  return {json["split"], json["blob"], json["rows"], json["bytes"], json["memory_bytes"]};
}

std::vector<Shard> shards_of(const DatasetVersion& dataset, const std::string& split) {
  std::vector<Shard> shards;
  for (const auto& shard : dataset.shards) {
    if (split.empty() || shard.split == split) shards.push_back(shard);
  }
  return shards;
}

class PredictionJobs final : public Predictions {
 public:
  PredictionJobs(data::Jobs& jobs, data::Datasets& datasets, Endpoints& endpoints, Clock& clock)
      : jobs_(jobs), datasets_(datasets), endpoints_(endpoints), clock_(clock) {
    jobs_.add_kind("predict", [this](data::JobContext& job) { return run(job); });
  }

  Result<data::Job> predict(const std::string& tenant, const std::string& model, const Json& request) override {
    SUNDOG_TRY(reference, get_string(request, "dataset"));
    SUNDOG_TRY(split, get_string(request, "split", ""));
    SUNDOG_TRY(alias, get_string(request, "alias", ""));
    SUNDOG_TRY(dataset, datasets_.find(tenant, reference));
    SUNDOG_TRY(as, get_string(request, "as", dataset.dataset + "-scored"));
    SUNDOG_TRY(parallel, get_int(request, "parallel", 2));
    if (parallel < 1 || parallel > kMaxParallel) {
      return fail(Code::invalid_argument, fmt::format("\"parallel\" is 1 to {}, not {}", kMaxParallel, parallel));
    }
    SUNDOG_TRY(serving, endpoints_.serving(tenant, model, "", alias));
    SUNDOG_CHECK(output_schema(dataset.schema, *serving.signature));
    if (shards_of(dataset, split).empty()) {
      return fail(Code::invalid_argument,
                  fmt::format("Dataset {} has no rows in split \"{}\"", dataset.reference(), split));
    }
    return jobs_.submit(tenant, "predict",
                        {{"model", model},
                         {"model_version", serving.version},
                         {"alias", alias.empty() ? serving.qualifier : alias},
                         {"dataset", dataset.reference()},
                         {"split", split},
                         {"as", as},
                         {"parallel", parallel}});
  }

 private:
  Result<Json> run(data::JobContext& job) {
    const auto& tenant = job.job().tenant;
    const Json& arguments = job.job().arguments;
    SUNDOG_TRY(dataset, datasets_.find(tenant, arguments["dataset"]));
    SUNDOG_TRY(serving, endpoints_.serving(tenant, arguments["model"], arguments["model_version"], ""));
    const auto inputs = shards_of(dataset, arguments["split"]);
    SUNDOG_TRY(scored, score_all(job, inputs, serving));
    DatasetVersion draft;
    draft.dataset = arguments["as"];
    draft.label = dataset.label;
    draft.created = clock_.wall();
    SUNDOG_TRY(schema, output_schema(dataset.schema, *serving.signature));
    draft.schema = std::move(schema);
    draft.shards = std::move(scored);
    draft.lineage = {{"kind", "prediction"},
                     {"parents", {dataset.reference()}},
                     {"settings",
                      {{"model", arguments["model"]},
                       {"version", arguments["model_version"]},
                       {"alias", arguments["alias"]},
                       {"split", arguments["split"]}}},
                     {"code", "sundog-models 0.1.0"}};
    SUNDOG_TRY(made, datasets_.add_version(tenant, std::move(draft), job.job().id));
    return made.to_json();
  }

  // In groups, each kept when it is done: a restart repeats one group at most.
  Result<std::vector<Shard>> score_all(data::JobContext& job, const std::vector<Shard>& inputs,
                                       const Serving& serving) {
    std::vector<Shard> scored;
    if (const auto saved = job.saved(); saved.is_object()) {
      for (const auto& shard : saved["shards"]) scored.push_back(from_kept(shard));
    }
    const auto parallel = static_cast<int>(job.job().arguments["parallel"].get<int64_t>());
    const auto total = static_cast<int64_t>(inputs.size());
    while (scored.size() < inputs.size()) {
      job.progress(static_cast<int64_t>(scored.size()), total, "shards scored");
      if (job.cancelled()) return fail(Code::cancelled, "The prediction was cancelled");
      const auto first = scored.size();
      const auto last = std::min(inputs.size(), first + static_cast<size_t>(parallel) * 2);
      std::vector<invoke::Invocation> group;
      for (auto i = first; i < last; ++i) group.push_back(call_for(job, inputs[i], serving));
      SUNDOG_TRY(answers, job.invoke_all(std::move(group), parallel));
      for (size_t i = 0; i < answers.size(); ++i) {
        SUNDOG_TRY(shard, scored_shard(inputs[first + i], answers[i], (*serving.signature)["outputs"].size()));
        scored.push_back(std::move(shard));
      }
      Json keep = Json::array();
      for (const auto& shard : scored) keep.push_back(kept(shard));
      SUNDOG_CHECK(job.save({{"shards", std::move(keep)}}));
      kill_point("predictions.group_scored");
    }
    job.progress(total, total, "shards scored");
    return scored;
  }

  static invoke::Invocation call_for(const data::JobContext& job, const Shard& shard, const Serving& serving) {
    invoke::Invocation call;
    call.tenant = job.job().tenant;
    call.function = serving.function;
    call.qualifier = serving.qualifier;
    call.payload = dump({{"blob", shard.blob}, {"columns_out", nullptr}});
    call.meta = {{"content", "shard"}, {"model", serving.model}, {"version", serving.version}};
    call.granted_blobs = {shard.blob};
    call.kind = functions::Kind::prediction;
    call.tags = {{"job", job.job().id}};
    return call;
  }

  data::Jobs& jobs_;
  data::Datasets& datasets_;
  Endpoints& endpoints_;
  Clock& clock_;
};

}  // namespace

std::unique_ptr<Predictions> make_predictions(data::Jobs& jobs, data::Datasets& datasets, Endpoints& endpoints,
                                              Clock& clock) {
  return std::make_unique<PredictionJobs>(jobs, datasets, endpoints, clock);
}

}  // namespace sundog::models
