// What index, statistics and write share: one shard, its rules, and the plan's assignment.
#pragma once

#include <functional>

#include "data/row_plan_format.h"
#include "data/worker/rules.h"
#include "data/worker/shard_files.h"

namespace sundog::data::worker {

struct PreparedShard {
  OpenShard shard;
  RowRules rules;
};
// {"blob":"<shard>","rules":{…}}
Result<PreparedShard> open_prepared(const Json& arguments, Host& host);
// Calls `each` with consecutive batches after the rules, and the number of the batch's first row in the shard.
Status each_batch(PreparedShard& prepared,
                  const std::function<Status(const RowRules::Applied&, int64_t first_row)>& each);
// {"assignment":"<blob>"}
Result<RowAssignment> read_assignment(const Json& arguments, int64_t rows, Host& host);

}  // namespace sundog::data::worker
