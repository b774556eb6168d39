// Rules: the declared part of preprocessing that looks at one row alone: columns to drop, types, ranges, rows to drop.
// The tasks index, statistics and write apply them in the same way, so that each sees the same rows.
#pragma once

#include <arrow/api.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/worker/cell_types.h"

namespace sundog::data::worker {

struct Range {
  double low = 0, high = 0;
};

struct Rules {
  std::set<std::string> drop;
  std::map<std::string, Type> types;
  std::map<std::string, Range> ranges;
  std::vector<std::string> drop_rows;  // rows with a missing value in one of these are dropped
  static Result<Rules> parse(const Json& rules);
};

enum class Fate : uint8_t { keep = 0, quarantine = 1, drop = 2 };

class RowRules {
 public:
  // invalid_argument if a rule names a column that is not there or has the wrong type.
  static Result<RowRules> make(const arrow::Schema& schema, Rules rules);

  struct Applied {
    std::shared_ptr<arrow::RecordBatch> batch;  // every row, in schema()
    std::vector<Fate> fates;                    // one a row
    std::map<int64_t, std::string> reasons;     // of those in quarantine
  };
  Result<Applied> apply(const arrow::RecordBatch& batch) const;
  const std::shared_ptr<arrow::Schema>& schema() const { return schema_; }

 private:
  Result<std::shared_ptr<arrow::Array>> retype(const arrow::Array& array, int column, Applied& out) const;
  void check_range(const arrow::Array& array, const std::string& name, const Range& range, Applied& out) const;

  Rules rules_;
  std::vector<int> kept_;  // columns of the input
  std::shared_ptr<arrow::Schema> schema_;
};

// "1,2.5,abc": the row for the quarantine.
std::string row_text(const arrow::RecordBatch& batch, int64_t row);
// The same for equal cells whatever the batch; NaN does not occur.
uint64_t cell_hash(const arrow::Array& array, int64_t row);
uint64_t row_hash(const arrow::RecordBatch& batch, int64_t row);

}  // namespace sundog::data::worker
