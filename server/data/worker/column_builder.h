// ColumnBuilder: text cells in, one typed Arrow column out. Two steps, so that a row is taken whole or not at all:
// parse() every cell of the row, then append() what was parsed.
#pragma once

#include <arrow/api.h>

#include <memory>
#include <string>

#include "data/worker/cell_types.h"

namespace sundog::data::worker {

class ColumnBuilder {
 public:
  ColumnBuilder(std::string name, ColumnType type);

  // False if the cell is not of the column's type; reason() says so.
  bool parse(const Cell& cell, const std::set<std::string, std::less<>>& missing);
  std::string reason(const Cell& cell) const;
  std::string group() const;
  Status append();
  int64_t bytes_of_last() const { return last_bytes_; }
  Result<std::shared_ptr<arrow::Array>> finish();
  const ColumnType& type() const { return type_; }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  ColumnType type_;
  std::unique_ptr<arrow::ArrayBuilder> builder_;
  bool null_ = false, bool_ = false;
  int64_t int_ = 0;
  double float_ = 0;
  std::string_view text_;
  int64_t last_bytes_ = 0;
};

}  // namespace sundog::data::worker
