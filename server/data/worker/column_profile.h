// ColumnProfile: what one pass over a column's cells finds, in bounded memory.
//
// Threads     plain values, one thread.
#pragma once

#include <arrow/api.h>

#include <cstdint>
#include <limits>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/json.h"
#include "data/worker/cell_types.h"

namespace sundog::data::worker {

// Counts distinct hashes: exactly up to `capacity`, then by keeping only hashes that end in enough zero bits (adaptive
// sampling; the error is about 1.2 / sqrt(capacity / 2)).
class DistinctCounter {
 public:
  explicit DistinctCounter(size_t capacity) : capacity_(capacity) {}
  void add(uint64_t hash);
  int64_t count() const { return static_cast<int64_t>(kept_.size()) << level_; }
  bool exact() const { return level_ == 0; }

 private:
  size_t capacity_;
  int level_ = 0;
  std::unordered_set<uint64_t> kept_;
};

// The most frequent values: exact while there are at most `capacity` different ones, then rare ones are forgotten.
class TopCounter {
 public:
  explicit TopCounter(size_t capacity) : capacity_(capacity) {}
  void add(uint64_t hash, const arrow::Array& array, int64_t row);
  struct Entry {
    std::string text;
    int64_t count = 0;
  };
  std::vector<Entry> top(size_t count) const;
  bool exact() const { return floor_ == 0; }

 private:
  size_t capacity_;
  int64_t floor_ = 0;
  std::unordered_map<uint64_t, Entry> entries_;
};

struct ProfileBudget {
  size_t distinct = 1'000'000;  // hashes kept a column
  size_t top = 20'000;          // values counted a column
};

class ColumnProfile {
 public:
  ColumnProfile(std::string name, Type type, ProfileBudget budget);

  // `sampled`: for each row of the batch, whether it belongs to the sample that quantiles and the label's AUC come
  // from.
  void add(const arrow::Array& array, const std::vector<bool>& sampled);
  // Second pass, numbers only.
  void add_to_histogram(const arrow::Array& array);

  // Distinct, quantiles, top values, histogram… as protocol/api.md has them. `sample_exact`: the sample is all rows.
  Json to_json(bool sample_exact, bool detailed) const;

  const std::string& name() const { return name_; }
  Type type() const { return type_; }
  bool is_number() const { return type_ == Type::int64 || type_ == Type::float64; }
  int64_t rows() const { return rows_; }
  int64_t missing() const { return missing_; }
  int64_t distinct() const { return distinct_.count(); }
  // Equal columns have equal ones: over every cell, in order.
  uint64_t fingerprint() const { return fingerprint_; }
  bool constant() const { return rows_ > missing_ && distinct_.count() == 1 && missing_ == 0; }
  // One number a sampled row: the value, or for other types a code of the value; NaN if missing.
  const std::vector<double>& sample() const { return sample_; }
  const TopCounter& top() const { return top_; }

 private:
  void add_number(double value);
  double sample_value(const arrow::Array& array, int64_t row, uint64_t hash);

  std::string name_;
  Type type_;
  DistinctCounter distinct_;
  TopCounter top_;
  int64_t rows_ = 0, missing_ = 0, numbers_ = 0;
  double mean_ = 0, squares_ = 0;
  double min_ = std::numeric_limits<double>::infinity(), max_ = -std::numeric_limits<double>::infinity();
  int64_t min_int_ = INT64_MAX, max_int_ = INT64_MIN;  // of integers and times
  uint64_t fingerprint_ = 0;
  std::vector<double> sample_;
  std::unordered_map<uint64_t, double> codes_;
  std::vector<int64_t> histogram_;
};

}  // namespace sundog::data::worker
