// RowSource: a text table read row by row, with every defect said rather than skipped.
//
// Threads     one reader, one thread. A Row's views are good until the next next().
// Failure     invalid_argument (not such a file at all, broken compression) · defects of single rows are no errors:
// they
//             come as a Row whose `defect` says what is wrong, and go to the quarantine.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sundog::data::worker {

struct Cell {
  std::string_view text;
  bool present = true;     // false: the row has no such field, or it is null
  bool is_string = false;  // the format says that it is text: JSON's "12"
};

struct Row {
  int64_t line = 0;  // of the row's first character, from 1
  std::vector<Cell> cells;
  std::string_view text;  // the row as it stands in the file
  std::string defect;     // empty: a good row
  bool bad_encoding = false;
};

class RowSource {
 public:
  virtual ~RowSource() = default;
  // False at the end. Sets `row.defect` for a row that cannot be read.
  virtual Result<bool> next(Row& row) = 0;
  // Known from the start (CSV) or grown while reading (JSON lines).
  virtual const std::vector<std::string>& columns() const = 0;
  virtual std::vector<std::string> warnings() const = 0;
};

bool is_utf8(std::string_view text);

// "column \"Incme\" … Near it: \"Income\"": up to three names of `known` that are close to `name`.
std::string near_names(std::string_view name, const std::vector<std::string>& known);

}  // namespace sundog::data::worker
