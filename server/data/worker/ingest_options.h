// IngestOptions: the arguments of the task "ingest", checked.
#pragma once

#include <map>
#include <set>
#include <string>

#include "base/json.h"
#include "data/worker/cell_types.h"

namespace sundog::data::worker {

struct IngestOptions {
  std::string blob, filename;
  std::string format = "auto", compression = "auto", encoding = "utf-8";
  std::string label;
  char delimiter = 0;  // 0: by the first line
  std::set<std::string, std::less<>> missing;
  std::map<std::string, Type> types;
  int64_t shard_memory = 64LL << 20;

  static Result<IngestOptions> parse(const Json& arguments);
};

// Refuses a label or a type override for a column that is not there, naming near ones.
Status check_columns(const IngestOptions& options, const std::vector<std::string>& columns);

}  // namespace sundog::data::worker
