// Any bytes as CSV and as JSON lines: every row is either whole or defective, and lines only grow.
#include <cstdlib>

#include "data/worker/cell_types.h"
#include "data/worker/csv_rows.h"
#include "data/worker/json_rows.h"

namespace {

using sundog::data::worker::RowSource;

void read_all(RowSource& source) {
  sundog::data::worker::Row row;
  int64_t line = 0;
  std::vector<sundog::data::worker::ColumnEvidence> evidence;
  for (;;) {
    const auto any = source.next(row);
    if (!any.ok() || !*any) break;
    if (row.line <= line) std::abort();
    line = row.line;
    if (!row.defect.empty()) continue;
    if (row.cells.size() > source.columns().size()) std::abort();
    evidence.resize(source.columns().size());
    for (size_t i = 0; i < row.cells.size(); ++i) evidence[i].add(row.cells[i], {"", "NA"});
  }
  for (const auto& column : evidence) {
    if (column.misfits(column.decide()) > column.values()) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 4 == 0) {
    sundog::data::worker::JsonRows rows(std::make_unique<sundog::StringSource>(text));
    read_all(rows);
    return 0;
  }
  sundog::data::worker::CsvOptions options;
  options.row_limit = 4096;
  options.delimiter = data[0] % 4 == 1 ? ',' : data[0] % 4 == 2 ? ';' : '\t';
  auto rows = sundog::data::worker::CsvRows::open(std::make_unique<sundog::StringSource>(text), options);
  if (rows.ok()) read_all(**rows);
  return 0;
}
