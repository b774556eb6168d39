// PreprocessSettings: the body of POST …/preprocess, checked against the version it is for. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "data/datasets.h"
#include "data/split_plan.h"

namespace sundog::data {

struct PreprocessSettings {
  std::string as;     // the dataset that gets the version
  std::string label;  // "" if there is none
  Json rules;         // for the data worker: drop, types, ranges, missing.drop_rows
  std::vector<std::string> drop_rows;
  std::map<std::string, std::string> fill_by;  // column → mean, median, most_frequent
  std::map<std::string, Json> fill_with;       // column → the value
  std::map<std::string, std::string> types;    // of the columns that are left, after the rules
  bool drop_duplicates = false;
  bool split_was_chosen = false;  // by the caller, rather than the default
  SplitSettings split;
  int64_t fit_in_mb = 512;

  // A shard takes at most a quarter of the memory: the learner's own copies need the rest.
  int64_t shard_memory() const { return fit_in_mb * (1 << 20) / 4; }

  static Result<PreprocessSettings> parse(const Json& body, const DatasetVersion& parent);
};

bool is_dataset_name(const std::string& name);  // [A-Za-z0-9][A-Za-z0-9._-]{0,63}

}  // namespace sundog::data
