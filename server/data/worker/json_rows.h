// JsonRows: JSON lines, one object a line. Columns are the union of the objects' names, in order of first appearance.
//
// Nested values become their JSON text. A line that is not an object, is not UTF-8, holds a NUL byte or more than 4 MB
// is defective.
#pragma once

#include <deque>
#include <memory>
#include <unordered_map>

#include "base/bytes.h"
#include "data/worker/row_source.h"

namespace sundog::data::worker {

class JsonRows final : public RowSource {
 public:
  // `columns`: those known from an earlier pass; a later name that is not among them is added.
  explicit JsonRows(std::unique_ptr<ByteSource> source, std::vector<std::string> columns = {});

  Result<bool> next(Row& row) override;
  const std::vector<std::string>& columns() const override { return columns_; }
  std::vector<std::string> warnings() const override { return {}; }

 private:
  Result<bool> read_line(bool& too_long);
  Status take(Row& row);

  std::unique_ptr<ByteSource> source_;
  std::string buffer_, line_text_;
  size_t start_ = 0;
  bool at_end_ = false;
  int64_t line_ = 0;
  std::vector<std::string> columns_;
  std::unordered_map<std::string, size_t> places_;
  std::deque<std::string> texts_;
};

}  // namespace sundog::data::worker
