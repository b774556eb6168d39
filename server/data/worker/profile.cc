// The task "profile": two passes over the shards. The first counts; the second fills histograms, whose edges the first
// found. Memory is bounded by sharing a budget among the columns; what is then estimated says so ("…_estimated").
#include "data/worker/column_profile.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "data/worker/arrow_result.h"
#include "data/worker/rules.h"
#include "data/worker/shard_files.h"
#include "data/worker/task.h"

namespace sundog::data::worker {
namespace {

constexpr double kLeakAuc = 0.98;
constexpr size_t kClassLimit = 100;

uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31U);
}

// The area under the ROC curve of `scores` for `positive`; ties count half; missing scores are left out.
double auc_of(const std::vector<double>& scores, const std::vector<bool>& positive) {
  std::vector<size_t> order;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!std::isnan(scores[i])) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] < scores[b]; });
  double rank_sum = 0, positives = 0;
  for (size_t i = 0; i < order.size();) {
    size_t end = i;
    while (end < order.size() && scores[order[end]] == scores[order[i]]) ++end;
    const double rank = (static_cast<double>(i + end) + 1) / 2;
    for (size_t j = i; j < end; ++j) {
      if (!positive[order[j]]) continue;
      rank_sum += rank;
      ++positives;
    }
    i = end;
  }
  const double negatives = static_cast<double>(order.size()) - positives;
  if (positives == 0 || negatives == 0) return std::nan("");
  return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives);
}

// Each category's share of positives, as its score.
std::vector<double> target_encoded(const std::vector<double>& codes, const std::vector<bool>& positive) {
  std::map<double, std::pair<double, double>> shares;
  for (size_t i = 0; i < codes.size(); ++i) {
    if (std::isnan(codes[i])) continue;
    auto& [sum, count] = shares[codes[i]];
    sum += positive[i] ? 1 : 0;
    ++count;
  }
  std::vector<double> out;
  out.reserve(codes.size());
  for (const double code : codes) out.push_back(std::isnan(code) ? code : shares[code].first / shares[code].second);
  return out;
}

class Profiler {
 public:
  Profiler(Host& host, std::string label) : host_(host), label_(std::move(label)) {}

  Result<Json> run(const std::vector<std::string>& blobs) {
    SUNDOG_CHECK(open(blobs));
    SUNDOG_CHECK(first_pass());
    SUNDOG_CHECK(second_pass());
    return answer();
  }

 private:
  Status open(const std::vector<std::string>& blobs);
  Status first_pass();
  Status second_pass();
  Result<Json> answer();
  void describe_label(Json& out);
  void suspect(size_t i, Json& column) const;

  Host& host_;
  std::string label_;
  std::vector<std::string> blobs_;
  std::shared_ptr<arrow::Schema> schema_;
  int64_t rows_ = 0;
  uint64_t sample_limit_ = UINT64_MAX;  // a row is in the sample if mix(row) <= it
  uint64_t duplicate_mask_ = 0;         // only row hashes with these bits zero are looked at
  int64_t sampled_duplicates_ = 0;
  std::unordered_set<uint64_t> row_hashes_;
  std::vector<ColumnProfile> columns_;
  int label_at_ = -1;
  std::vector<bool> positive_;  // of the sample, for a label with two values
  Json warnings_ = Json::array();
};

Status Profiler::open(const std::vector<std::string>& blobs) {
  blobs_ = blobs;
  for (const auto& blob : blobs_) {
    SUNDOG_TRY(shard, open_shard(host_, blob));
    // The parts of a prepared version may differ in the weights that only training has.
    if (schema_ == nullptr || shard.schema->num_fields() < schema_->num_fields()) schema_ = shard.schema;
    rows_ += shard.rows;
  }
  if (rows_ == 0) return fail(Code::invalid_argument, "The version has no rows.");
  if (!label_.empty()) {
    label_at_ = schema_->GetFieldIndex(label_);
    if (label_at_ < 0) {
      return fail(Code::invalid_argument, "The dataset has no column \"" + label_ + "\" for the label.",
                  near_names(label_, schema_->field_names()));
    }
  }
  const auto width = static_cast<size_t>(schema_->num_fields());
  ProfileBudget budget;
  budget.distinct = std::clamp<size_t>(2'500'000 / width, 1000, 1'000'000);
  budget.top = std::clamp<size_t>(600'000 / width, 100, 20'000);
  for (const auto& field : schema_->fields()) {
    SUNDOG_TRY(type, type_of(*field->type()));
    columns_.emplace_back(field->name(), type, budget);
  }
  // The sample takes at most 8 million cells; a few more or less do not matter.
  const double share = 8e6 / static_cast<double>(width) / static_cast<double>(rows_);
  if (share < 1) sample_limit_ = static_cast<uint64_t>(share * 18446744073709549568.0);
  while ((rows_ / static_cast<int64_t>(duplicate_mask_ + 1)) > 3'000'000) duplicate_mask_ = duplicate_mask_ * 2 + 1;
  return done;
}

Status Profiler::first_pass() {
  int64_t at = 0;
  for (const auto& blob : blobs_) {
    SUNDOG_TRY(shard, open_shard(host_, blob));
    SUNDOG_CHECK(read_batches(shard, [&](const std::shared_ptr<arrow::RecordBatch>& batch) -> Status {
      std::vector<bool> sampled(static_cast<size_t>(batch->num_rows()));
      for (int64_t row = 0; row < batch->num_rows(); ++row) {
        sampled[static_cast<size_t>(row)] = mix(static_cast<uint64_t>(at + row)) <= sample_limit_;
        const uint64_t hash = row_hash(*batch, row);
        if ((hash & duplicate_mask_) == 0 && !row_hashes_.insert(hash).second) ++sampled_duplicates_;
      }
      at += batch->num_rows();
      for (auto& column : columns_) {
        const auto array = batch->GetColumnByName(column.name());
        if (array == nullptr || type_of(*array->type()).ok() == false) {
          return fail(Code::data_loss, "The shards of the version differ in the column \"" + column.name() + "\".");
        }
        column.add(*array, sampled);
      }
      return done;
    }));
  }
  return done;
}

Status Profiler::second_pass() {
  row_hashes_.clear();
  for (const auto& blob : blobs_) {
    SUNDOG_TRY(shard, open_shard(host_, blob));
    SUNDOG_CHECK(read_batches(shard, [&](const std::shared_ptr<arrow::RecordBatch>& batch) -> Status {
      for (auto& column : columns_) column.add_to_histogram(*batch->GetColumnByName(column.name()));
      return done;
    }));
  }
  return done;
}

// Classes, imbalance, and the sample's positives if the label has two values.
void Profiler::describe_label(Json& out) {
  if (label_at_ < 0) return;
  const ColumnProfile& label = columns_[static_cast<size_t>(label_at_)];
  if (label.missing() > 0) {
    warnings_.push_back(std::to_string(label.missing()) + " of " + std::to_string(rows_) +
                        " rows have no label. Preprocess with missing.drop_rows [\"" + label_ + "\"], or label them.");
  }
  if (label.distinct() > static_cast<int64_t>(kClassLimit)) return;  // a number to be predicted, not a class
  auto classes = label.top().top(kClassLimit);
  std::sort(classes.begin(), classes.end(), [](const auto& a, const auto& b) { return a.text < b.text; });
  out["classes"] = Json::array();
  int64_t most = 0, least = INT64_MAX;
  for (const auto& one : classes) {
    out["classes"].push_back({{"value", one.text}, {"rows", one.count}});
    most = std::max(most, one.count);
    least = std::min(least, one.count);
  }
  if (classes.size() == 1)
    warnings_.push_back("Every row has the same label, \"" + classes[0].text + "\": there is nothing to learn.");
  if (classes.size() > 1 && most * 2 > least * 3) {  // more than 1.5 to 1
    char ratio[32];
    std::snprintf(ratio, sizeof ratio, "%.1f", static_cast<double>(most) / static_cast<double>(least));
    warnings_.push_back("The classes are imbalanced: " + std::string(ratio) + " to 1.");
  }
  if (classes.size() != 2) return;
  const auto& sample = label.sample();
  double high = -std::numeric_limits<double>::infinity();
  for (const double value : sample) {
    if (!std::isnan(value)) high = std::max(high, value);
  }
  for (const double value : sample) positive_.push_back(value == high);
}

void Profiler::suspect(size_t i, Json& column) const {
  Json suspicious = Json::array();
  const ColumnProfile& self = columns_[i];
  for (size_t other = 0; other < columns_.size(); ++other) {
    if (other == i || self.constant() || self.rows() == self.missing()) continue;
    if (columns_[other].fingerprint() != self.fingerprint()) continue;
    if (static_cast<int>(i) == label_at_) continue;
    // Of two equal columns the later one is the copy; a copy of the label is one wherever it stands.
    if (static_cast<int>(other) == label_at_) {
      suspicious.push_back("equals the label");
    } else if (other < i) {
      suspicious.push_back("duplicates column \"" + columns_[other].name() + "\"");
    }
  }
  if (!positive_.empty() && static_cast<int>(i) != label_at_) {
    const bool category = !self.is_number();
    if (!category || self.distinct() <= 50) {
      const double auc = auc_of(category ? target_encoded(self.sample(), positive_) : self.sample(), positive_);
      if (!std::isnan(auc)) {
        if (!category) column["label_auc"] = auc;
        if (std::max(auc, 1 - auc) > kLeakAuc) suspicious.push_back("leaks the label");
      }
    }
  }
  if (self.rows() == self.missing()) suspicious.push_back("has no values");
  if (self.constant()) suspicious.push_back("is constant");
  if (column["near_constant"] == true) suspicious.push_back("is nearly constant");
  // Text alone: numbers that are all different are common and useful.
  if (self.type() == Type::string && self.distinct() == self.rows() && self.rows() > 20)
    suspicious.push_back("is different in every row");
  column["suspicious"] = std::move(suspicious);
}

Result<Json> Profiler::answer() {
  Json out{{"rows", rows_},
           {"duplicate_rows", sampled_duplicates_ * static_cast<int64_t>(duplicate_mask_ + 1)},
           {"label", label_},
           {"classes", Json::array()}};
  if (duplicate_mask_ != 0) out["duplicate_rows_estimated"] = true;
  describe_label(out);
  out["columns"] = Json::array();
  const bool detailed = columns_.size() <= 300;  // the answer has 6 MB, and a job's record 1 MB
  for (size_t i = 0; i < columns_.size() && i < 1000; ++i) {
    Json column = columns_[i].to_json(sample_limit_ == UINT64_MAX, detailed);
    suspect(i, column);
    for (const auto& finding : column["suspicious"]) {
      const auto text = finding.get<std::string>();
      if (text.starts_with("leaks") || text.starts_with("equals") || text.starts_with("duplicates")) {
        warnings_.push_back("Column \"" + columns_[i].name() + "\" " + text + ".");
      }
    }
    out["columns"].push_back(std::move(column));
  }
  if (columns_.size() > 1000)
    warnings_.push_back("Only the first 1,000 of " + std::to_string(columns_.size()) + " columns are shown.");
  if (!detailed) warnings_.push_back("There are more than 300 columns: histograms are left out.");
  if (sampled_duplicates_ > 0)
    warnings_.push_back(out["duplicate_rows"].dump() + " rows are copies of an earlier row.");
  out["warnings"] = std::move(warnings_);
  return out;
}

}  // namespace

// {"blobs":["…"],"label":""} → Profile without "dataset" and "version"
Result<Json> profile(const Json& arguments, Host& host) {
  SUNDOG_TRY(label, get_string(arguments, "label", ""));
  const auto given = arguments.find("blobs");
  if (given == arguments.end() || !given->is_array() || given->empty()) {
    return fail(Code::invalid_argument, "\"blobs\" is not a list of shards.");
  }
  std::vector<std::string> blobs;
  for (const auto& blob : *given) {
    if (!blob.is_string()) return fail(Code::invalid_argument, "\"blobs\" holds something that is not text.");
    blobs.push_back(blob.get<std::string>());
  }
  return Profiler(host, std::move(label)).run(blobs);
}

}  // namespace sundog::data::worker
