#include "data/worker/column_profile.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "data/worker/rules.h"
#include "data/worker/shard_files.h"

namespace sundog::data::worker {
namespace {

constexpr size_t kBins = 20;
constexpr size_t kShownText = 100;

std::string shortened(std::string text) {
  if (text.size() <= kShownText) return text;
  text.resize(kShownText);
  while (!is_utf8(text)) text.pop_back();
  return text + "…";
}

// Linear interpolation between order statistics, as NumPy's default.
double quantile(const std::vector<double>& sorted, double p) {
  const double at = p * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - static_cast<double>(low));
}

Json finite(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

}  // namespace

void DistinctCounter::add(uint64_t hash) {
  if (std::countr_zero(hash) < level_) return;
  kept_.insert(hash);
  while (kept_.size() > capacity_) {
    ++level_;
    std::erase_if(kept_, [&](uint64_t kept) { return std::countr_zero(kept) < level_; });
  }
}

void TopCounter::add(uint64_t hash, const arrow::Array& array, int64_t row) {
  auto [entry, is_new] = entries_.try_emplace(hash);
  if (is_new) entry->second.text = shortened(cell_text(array, row));
  ++entry->second.count;
  while (entries_.size() > capacity_) {
    ++floor_;
    std::erase_if(entries_, [&](const auto& kept) { return kept.second.count <= floor_; });
  }
}

std::vector<TopCounter::Entry> TopCounter::top(size_t count) const {
  std::vector<Entry> ranked;
  ranked.reserve(entries_.size());
  for (const auto& [hash, entry] : entries_) ranked.push_back(entry);
  const size_t shown = std::min(count, ranked.size());
  std::partial_sort(
      ranked.begin(), ranked.begin() + static_cast<ptrdiff_t>(shown), ranked.end(),
      [](const Entry& a, const Entry& b) { return a.count != b.count ? a.count > b.count : a.text < b.text; });
  ranked.resize(shown);
  return ranked;
}

ColumnProfile::ColumnProfile(std::string name, Type type, ProfileBudget budget)
    : name_(std::move(name)), type_(type), distinct_(budget.distinct), top_(budget.top), histogram_(kBins, 0) {}

void ColumnProfile::add_number(double value) {
  min_ = std::min(min_, value);
  max_ = std::max(max_, value);
  if (!std::isfinite(value)) return;
  ++numbers_;  // Welford
  const double delta = value - mean_;
  mean_ += delta / static_cast<double>(numbers_);
  squares_ += delta * (value - mean_);
}

double ColumnProfile::sample_value(const arrow::Array& array, int64_t row, uint64_t hash) {
  if (array.IsNull(row)) return std::nan("");
  if (type_ == Type::int64) return static_cast<double>(static_cast<const arrow::Int64Array&>(array).Value(row));
  if (type_ == Type::float64) return static_cast<const arrow::DoubleArray&>(array).Value(row);
  // Beyond a thousand values a code says nothing that the label's AUC would use.
  if (codes_.size() >= 1000 && !codes_.contains(hash)) return 1000;
  return codes_.try_emplace(hash, static_cast<double>(codes_.size())).first->second;
}

void ColumnProfile::add(const arrow::Array& array, const std::vector<bool>& sampled) {
  for (int64_t row = 0; row < array.length(); ++row) {
    ++rows_;
    const uint64_t hash = cell_hash(array, row);
    fingerprint_ = std::rotl(fingerprint_, 5) * 0x9E3779B97F4A7C15ULL + hash;
    if (sampled[static_cast<size_t>(row)]) sample_.push_back(sample_value(array, row, hash));
    if (array.IsNull(row)) {
      ++missing_;
      continue;
    }
    distinct_.add(hash);
    top_.add(hash, array, row);
    switch (type_) {
      case Type::int64: {
        const int64_t value = static_cast<const arrow::Int64Array&>(array).Value(row);
        min_int_ = std::min(min_int_, value);
        max_int_ = std::max(max_int_, value);
        add_number(static_cast<double>(value));
        break;
      }
      case Type::float64:
        add_number(static_cast<const arrow::DoubleArray&>(array).Value(row));
        break;
      case Type::timestamp:
      case Type::date: {
        const int64_t value = type_ == Type::timestamp ? static_cast<const arrow::TimestampArray&>(array).Value(row)
                                                       : static_cast<const arrow::Date32Array&>(array).Value(row);
        min_int_ = std::min(min_int_, value);
        max_int_ = std::max(max_int_, value);
        break;
      }
      default:
        break;
    }
  }
}

void ColumnProfile::add_to_histogram(const arrow::Array& array) {
  if (!is_number() || !(max_ > min_) || !std::isfinite(max_ - min_)) return;
  for (int64_t row = 0; row < array.length(); ++row) {
    if (array.IsNull(row)) continue;
    const double value = type_ == Type::int64
                             ? static_cast<double>(static_cast<const arrow::Int64Array&>(array).Value(row))
                             : static_cast<const arrow::DoubleArray&>(array).Value(row);
    const auto bin = static_cast<size_t>((value - min_) / (max_ - min_) * static_cast<double>(kBins));
    ++histogram_[std::min(bin, kBins - 1)];
  }
}

Json ColumnProfile::to_json(bool sample_exact, bool detailed) const {
  Json out{{"name", name_}, {"type", worker::name(type_)}, {"missing", missing_}, {"distinct", distinct_.count()}};
  if (!distinct_.exact()) out["distinct_estimated"] = true;
  const int64_t present = rows_ - missing_;
  const auto top = top_.top(detailed ? 10 : 3);
  const bool near_constant = !top.empty() && present > 0 && !constant() && top[0].count * 1000 >= rows_ * 999;
  out["constant"] = constant();
  out["near_constant"] = near_constant;
  out["top"] = Json::array();
  for (const auto& entry : top) out["top"].push_back({{"value", entry.text}, {"rows", entry.count}});
  if (!top_.exact()) out["top_estimated"] = true;
  if (present == 0) return out;
  if (type_ == Type::timestamp || type_ == Type::date) {
    const bool day = type_ == Type::date;
    out["min"] = day ? iso_days(static_cast<int32_t>(min_int_)) : iso_micros(min_int_);
    out["max"] = day ? iso_days(static_cast<int32_t>(max_int_)) : iso_micros(max_int_);
  }
  if (!is_number()) return out;
  out["min"] = type_ == Type::int64 ? Json(min_int_) : finite(min_);
  out["max"] = type_ == Type::int64 ? Json(max_int_) : finite(max_);
  out["mean"] = finite(mean_);
  out["std"] = numbers_ > 1 ? finite(std::sqrt(squares_ / static_cast<double>(numbers_ - 1))) : Json(0.0);
  std::vector<double> sorted;
  std::copy_if(sample_.begin(), sample_.end(), std::back_inserter(sorted), [](double v) { return !std::isnan(v); });
  std::sort(sorted.begin(), sorted.end());
  if (!sorted.empty()) {
    Json& quantiles = out["quantiles"] = Json::object();
    constexpr std::array<std::pair<const char*, double>, 7> kQuantiles{
        {{"0.01", 0.01}, {"0.05", 0.05}, {"0.25", 0.25}, {"0.5", 0.5}, {"0.75", 0.75}, {"0.95", 0.95}, {"0.99", 0.99}}};
    for (const auto& [label, p] : kQuantiles) quantiles[label] = finite(quantile(sorted, p));
    if (!sample_exact) out["quantiles_estimated"] = true;
  }
  if (detailed && max_ > min_ && std::isfinite(max_ - min_)) {
    Json edges = Json::array();
    for (size_t i = 0; i <= kBins; ++i)
      edges.push_back(min_ + (max_ - min_) * static_cast<double>(i) / static_cast<double>(kBins));
    out["histogram"] = {{"edges", std::move(edges)}, {"rows", histogram_}};
  }
  return out;
}

}  // namespace sundog::data::worker
