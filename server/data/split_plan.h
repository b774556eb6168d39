// SplitPlan: which row goes to which part, how often, and with which weight. Pure: row indices in, assignments out, the
// same for the same seed however the rows are cut into shards.
//
//   split     random and stratified: rows (of a class) in an order that seed and row number give, cut at the shares by
//   largest
//             remainder, so that each class is split exactly, ±1. time: rows in order of time, cut at the shares.
//   balance   of the training part alone. undersample: each class as large as the smallest; oversample: as the largest;
//             weights: rows / (classes × rows of the class).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "data/row_plan_format.h"

namespace sundog::data {

enum class SplitBy { random, stratified, time };
enum class Balance { none, undersample, oversample, weights };

struct SplitSettings {
  SplitBy by = SplitBy::random;
  Balance balance = Balance::none;
  std::string column;                          // of the time
  std::array<double, 3> parts{0.6, 0.2, 0.2};  // train, valid, test
  uint64_t seed = 1;
};

struct ShardIndex {
  RowIndex rows;
  std::vector<std::string> classes;  // what the class codes of this shard mean
};

struct SplitPlan {
  std::vector<RowAssignment> shards;
  std::map<std::string, double> weights;                  // by class, for Balance::weights
  std::map<std::string, std::array<int64_t, 3>> classes;  // rows by class and part, before balancing
  std::array<int64_t, 3> rows{0, 0, 0};                   // by part, as written
  int64_t duplicates = 0;
};

// `label` is named in errors only; a label is used if the indices have classes. `drop_duplicates`: if they have hashes.
Result<SplitPlan> make_split_plan(const std::vector<ShardIndex>& shards, const SplitSettings& settings,
                                  const std::string& label, bool drop_duplicates);

// The value that fills a column's missing cells, from the shards' statistics of its training rows.
Result<Json> fill_value(const std::string& column, const std::string& by, const std::vector<Json>& statistics);

// Consecutive files to be merged into one, so that few are far below `target`: groups of at least two.
std::vector<std::vector<size_t>> groups_to_pack(const std::vector<int64_t>& memory, int64_t target);

}  // namespace sundog::data
