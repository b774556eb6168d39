// The job "preprocess": index every shard, plan the split here, gather fills from training rows, write every shard,
// pack small ones. Steps over shards run as instances side by side; what each answered is saved, so that a restart goes
// on behind it.
#include <algorithm>
#include <cmath>

#include "base/kill_point.h"
#include "data/data_jobs.h"
#include "data/preprocess_settings.h"

namespace sundog::data {
namespace {

constexpr int kParallel = 4;

class PreprocessJob {
 public:
  PreprocessJob(JobContext& context, Datasets& datasets, store::Blobs& blobs)
      : context_(context), datasets_(datasets), blobs_(blobs), state_(context.saved()) {
    if (!state_.is_object()) state_ = Json::object();
  }

  Result<Json> run() {
    SUNDOG_CHECK(open());
    SUNDOG_CHECK(index());
    SUNDOG_CHECK(plan());
    SUNDOG_CHECK(fill());
    SUNDOG_CHECK(write());
    return finish();
  }

 private:
  Status open();
  Status index();
  Status plan();
  Status fill();
  Status write();
  Result<Json> finish();
  Result<Json> pack(const std::string& split, const std::vector<Json>& files, int64_t target);
  Result<Json> pack_quarantine();
  // One invocation a shard; the answers in order, kept under `name`.
  Result<Json> over_shards(const std::string& name, const std::string& task,
                           const std::function<Json(size_t)>& arguments, int first_step);

  JobContext& context_;
  Datasets& datasets_;
  store::Blobs& blobs_;
  Json state_;
  DatasetVersion parent_;
  PreprocessSettings settings_;
  Json indices_, written_;
  SplitPlan plan_;
  Json assignments_ = Json::array(), fills_ = Json::object();
  std::string class_label_;  // settings_.label if it is one of classes
};

Status PreprocessJob::open() {
  const auto& job = context_.job();
  SUNDOG_TRY(dataset, get_string(job.arguments, "dataset"));
  SUNDOG_TRY(number, get_int(job.arguments, "version"));
  SUNDOG_TRY(parent, datasets_.get(job.tenant, dataset, number));
  SUNDOG_TRY(settings, PreprocessSettings::parse(job.arguments.value("rules", Json::object()), parent));
  parent_ = std::move(parent);
  settings_ = std::move(settings);
  return done;
}

Result<Json> PreprocessJob::over_shards(const std::string& name, const std::string& task,
                                        const std::function<Json(size_t)>& arguments, int first_step) {
  if (state_.contains(name)) return state_[name];
  const auto total = static_cast<int64_t>(parent_.shards.size());
  Json answers = Json::array();
  // In groups, so that progress moves and a cancel is seen between them.
  for (size_t at = 0; at < parent_.shards.size(); at += kParallel) {
    context_.progress(first_step * total + static_cast<int64_t>(at), 4 * total, name);
    std::vector<invoke::Invocation> invocations;
    for (size_t i = at; i < std::min(parent_.shards.size(), at + kParallel); ++i) {
      Json one = arguments(i);
      one["blob"] = parent_.shards[i].blob;
      one["rules"] = settings_.rules;
      std::set<std::string> granted{parent_.shards[i].blob};
      if (one.contains("assignment")) granted.insert(one["assignment"].get<std::string>());
      invocations.push_back(data_invocation(context_.job().tenant, task, std::move(one), std::move(granted)));
    }
    SUNDOG_TRY(results, context_.invoke_all(std::move(invocations), kParallel));
    for (const auto& result : results) {
      SUNDOG_TRY(answer, data_answer(result));
      if (!answers.empty()) answer.erase("schema");  // all have the same
      answers.push_back(std::move(answer));
    }
  }
  state_[name] = answers;
  // A version of very many shards may not fit a record; then a restart does the step again.
  if (const auto saved = context_.save(state_); !saved.ok() && saved.error().code == Code::unavailable)
    return saved.error();
  kill_point("preprocess.saved");
  return answers;
}

Status PreprocessJob::index() {
  const std::string time = settings_.split.by == SplitBy::time ? settings_.split.column : "";
  SUNDOG_TRY(
      indices,
      over_shards(
          "indexing rows", "index",
          [&](size_t) { return Json{{"hash", settings_.drop_duplicates}, {"label", settings_.label}, {"time", time}}; },
          0));
  indices_ = std::move(indices);
  return done;
}

// Reads the indices and decides; the assignments become blobs, one a shard.
Status PreprocessJob::plan() {
  if (indices_.size() != parent_.shards.size())
    return fail(Code::internal, "The saved indices do not fit the version's shards.");
  class_label_ = settings_.label;
  for (const auto& answer : indices_) {
    if (answer.value("classes", Json()).is_null()) class_label_.clear();  // more different values than classes
  }
  if (class_label_.empty() && !settings_.label.empty()) {
    const bool needed = settings_.split.balance != Balance::none ||
                        (settings_.split.by == SplitBy::stratified && settings_.split_was_chosen);
    if (needed) {
      return fail(Code::invalid_argument,
                  "The label \"" + settings_.label + "\" has more than " + std::to_string(kMaxClasses) +
                      " different values: it is no class.",
                  "Split by random or time, without balancing.");
    }
    if (settings_.split.by == SplitBy::stratified) settings_.split.by = SplitBy::random;
  }
  std::vector<ShardIndex> shards;
  for (size_t i = 0; i < indices_.size(); ++i) {
    SUNDOG_TRY(id, get_string(indices_[i], "blob"));
    SUNDOG_TRY(bytes, blobs_.get(id));
    SUNDOG_TRY(index, decode_index(bytes, static_cast<size_t>(parent_.shards[i].rows), settings_.drop_duplicates,
                                   !settings_.label.empty(), settings_.split.by == SplitBy::time));
    ShardIndex shard{std::move(index), {}};
    if (class_label_.empty()) {
      shard.rows.classes.clear();
    } else {
      for (const auto& name : indices_[i]["classes"])
        shard.classes.push_back(name.is_string() ? name.get<std::string>() : dump(name));
    }
    shards.push_back(std::move(shard));
  }
  SUNDOG_TRY(plan, make_split_plan(shards, settings_.split, settings_.label, settings_.drop_duplicates));
  plan_ = std::move(plan);
  for (const auto& shard : plan_.shards) {
    SUNDOG_TRY(blob, blobs_.put(encode(shard)));
    assignments_.push_back(blob.id);
  }
  return done;
}

Status PreprocessJob::fill() {
  for (const auto& [column, value] : settings_.fill_with) fills_[column] = value;
  if (settings_.fill_by.empty()) return done;
  const Json wanted = settings_.fill_by;
  SUNDOG_TRY(answers, over_shards(
                          "gathering statistics of the training part", "statistics",
                          [&](size_t i) { return Json{{"assignment", assignments_[i]}, {"fill", wanted}}; }, 1));
  for (const auto& [column, by] : settings_.fill_by) {
    std::vector<Json> statistics;
    for (const auto& answer : answers)
      statistics.push_back(answer.value("columns", Json::object()).value(column, Json::object()));
    SUNDOG_TRY(value, fill_value(column, by, statistics));
    if (settings_.types.at(column) == "int64" && value.is_number_float()) {
      // A mean between two integers makes the column a float64, rather than a wrong integer.
      if (const double number = value.get<double>(); number == std::floor(number)) {
        value = static_cast<int64_t>(number);
      } else {
        settings_.rules["types"][column] = "float64";
      }
    }
    fills_[column] = std::move(value);
  }
  return done;
}

Status PreprocessJob::write() {
  std::vector<int64_t> first_rows;
  int64_t row = 0;
  for (const auto& shard : parent_.shards) {
    first_rows.push_back(row);
    row += shard.rows;
  }
  SUNDOG_TRY(written, over_shards(
                          "writing rows", "write",
                          [&](size_t i) {
                            Json one{{"assignment", assignments_[i]},
                                     {"first_row", first_rows[i]},
                                     {"fills", fills_},
                                     {"complete", settings_.drop_rows},
                                     {"target_memory", settings_.shard_memory()}};
                            if (!plan_.weights.empty()) {
                              one["weights"] = plan_.weights;
                              one["label"] = settings_.label;
                            }
                            return one;
                          },
                          2));
  written_ = std::move(written);
  return done;
}

Result<Json> PreprocessJob::pack(const std::string& split, const std::vector<Json>& files, int64_t target) {
  std::vector<int64_t> memory;
  memory.reserve(files.size());
  for (const auto& file : files) memory.push_back(file.value("memory_bytes", int64_t{0}));
  const auto groups = groups_to_pack(memory, target);
  std::vector<invoke::Invocation> invocations;
  for (const auto& group : groups) {
    Json blobs = Json::array();
    std::set<std::string> granted;
    for (const size_t i : group) {
      blobs.push_back(files[i]["blob"]);
      granted.insert(files[i]["blob"].get<std::string>());
    }
    invocations.push_back(data_invocation(context_.job().tenant, "pack",
                                          {{"blobs", blobs}, {"split", split}, {"target_memory", target}},
                                          std::move(granted)));
  }
  SUNDOG_TRY(results, context_.invoke_all(std::move(invocations), kParallel));
  Json out = Json::array();
  size_t next_group = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    if (next_group < groups.size() && groups[next_group].front() == i) {
      SUNDOG_TRY(answer, data_answer(results[next_group]));
      for (auto& shard : answer["shards"]) out.push_back(shard);
      i = groups[next_group].back();
      ++next_group;
    } else {
      out.push_back(files[i]);
    }
  }
  return out;
}

Result<Json> PreprocessJob::pack_quarantine() {
  std::vector<Json> files;
  int64_t rows = 0;
  for (const auto& answer : written_) {
    const Json one = answer.value("quarantine", Json::object());
    if (one.value("blob", "").empty()) continue;
    files.push_back({{"blob", one["blob"]}, {"memory_bytes", 0}});
    rows += one.value("rows", int64_t{0});
  }
  SUNDOG_TRY(packed, pack("quarantine", files, int64_t{1} << 50));
  return Json{{"blob", packed.empty() ? Json("") : packed[0]["blob"]}, {"rows", rows}};
}

Result<Json> PreprocessJob::finish() {
  const auto total = static_cast<int64_t>(parent_.shards.size());
  context_.progress(3 * total, 4 * total, "packing shards");
  Json draft{{"dataset", settings_.as}, {"label", settings_.label}, {"shards", Json::array()}};
  draft["schema"] = written_.empty() ? Json::array() : written_[0]["schema"];
  for (const std::string split : {"train", "valid", "test"}) {
    std::vector<Json> files;
    for (const auto& answer : written_) {
      for (const auto& shard : answer.value("shards", Json::array())) {
        if (shard.value("split", "") == split) files.push_back(shard);
      }
    }
    SUNDOG_TRY(packed, pack(split, files, settings_.shard_memory()));
    for (auto& shard : packed) draft["shards"].push_back(std::move(shard));
  }
  SUNDOG_TRY(quarantine, pack_quarantine());
  draft["quarantine"] = quarantine;
  SUNDOG_TRY(version, DatasetVersion::from_json(draft));
  int64_t dropped = 0;
  for (const auto& answer : indices_) dropped += answer.value("fates", Json::object()).value("drop", int64_t{0});
  const int64_t planned = plan_.rows[0] + plan_.rows[1] + plan_.rows[2];
  if (version.rows() != planned) {
    return fail(Code::internal,
                std::to_string(planned) + " rows were planned and " + std::to_string(version.rows()) + " written.");
  }
  Json counts{{"train", plan_.rows[0]},
              {"valid", plan_.rows[1]},
              {"test", plan_.rows[2]},
              {"in", parent_.rows()},
              {"dropped_missing", dropped},
              {"dropped_duplicates", plan_.duplicates},
              {"quarantined", version.quarantined}};
  version.lineage = {{"kind", "preprocess"},
                     {"parents", {parent_.reference()}},
                     {"settings", context_.job().arguments.value("rules", Json::object())},
                     {"code", "sundog-data 0.1.0"},
                     {"rows", std::move(counts)},
                     {"classes", plan_.classes},
                     {"fills", fills_}};
  if (!plan_.weights.empty()) version.lineage["weights"] = plan_.weights;
  SUNDOG_TRY(stored, datasets_.add_version(context_.job().tenant, std::move(version), context_.job().id));
  context_.progress(4 * total, 4 * total, std::to_string(stored.rows()) + " rows");
  return stored.to_json();
}

}  // namespace

// {"dataset","version","rules":{…}}
Result<Json> run_preprocess(JobContext& context, Datasets& datasets, store::Blobs& blobs) {
  return PreprocessJob(context, datasets, blobs).run();
}

}  // namespace sundog::data
