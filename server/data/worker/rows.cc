#include <algorithm>

#include "data/worker/arrow_result.h"
#include "data/worker/shard_files.h"
#include "data/worker/task.h"

namespace sundog::data::worker {

// {"blobs":["…"],"offset":0,"limit":20} → {"columns":[…],"rows":[[…]…]}
Result<Json> rows(const Json& arguments, Host& host) {
  SUNDOG_TRY(limit_given, get_int(arguments, "limit", 20));
  SUNDOG_TRY(offset, get_int(arguments, "offset", 0));
  int64_t left = std::clamp<int64_t>(limit_given, 0, 1000);
  int64_t skip = std::max<int64_t>(0, offset);
  size_t bytes = 0;
  const auto blobs = arguments.find("blobs");
  if (blobs == arguments.end() || !blobs->is_array()) return fail(Code::invalid_argument, "\"blobs\" is not a list.");
  Json columns = Json::array(), out = Json::array();
  for (const auto& blob : *blobs) {
    if (!blob.is_string()) return fail(Code::invalid_argument, "\"blobs\" holds something that is not text.");
    if (left == 0 && !columns.empty()) break;
    SUNDOG_TRY(shard, open_shard(host, blob.get<std::string>()));
    if (columns.empty()) {
      for (const auto& field : shard.schema->fields()) columns.push_back(field->name());
    }
    if (skip >= shard.rows) {
      skip -= shard.rows;
      continue;
    }
    SUNDOG_ARROW(batches, shard.reader->GetRecordBatchReader());
    while (left > 0) {
      std::shared_ptr<arrow::RecordBatch> batch;
      SUNDOG_ARROW_OK(batches->ReadNext(&batch));
      if (batch == nullptr) break;
      const int64_t start = std::min(skip, batch->num_rows());
      skip -= start;
      for (int64_t row = start; row < batch->num_rows() && left > 0; ++row, --left) {
        Json line = Json::array();
        for (int i = 0; i < batch->num_columns(); ++i) line.push_back(cell_json(*batch->column(i), row));
        bytes += dump(line).size();
        if (bytes > (4U << 20)) return Json{{"columns", columns}, {"rows", out}, {"cut", true}};  // an answer has 6 MB
        out.push_back(std::move(line));
      }
    }
  }
  return Json{{"columns", columns}, {"rows", out}};
}

}  // namespace sundog::data::worker
