// The task "statistics": what fills need, from the shard's training rows only, so that nothing of the validation and
// test parts leaks into training.
#include <algorithm>
#include <unordered_map>

#include "data/worker/prepare.h"
#include "data/worker/task.h"

namespace sundog::data::worker {
namespace {

constexpr size_t kPoints = 1001;  // of a column's distribution, if it has more different values
constexpr size_t kFrequentValues = 2000;

struct ColumnStatistics {
  std::string wanted;  // mean, median, most_frequent
  double sum = 0;
  int64_t count = 0;
  std::vector<double> values;
  std::unordered_map<std::string, int64_t> texts;
};

double number(const arrow::Array& array, int64_t row) {
  return array.type_id() == arrow::Type::INT64
             ? static_cast<double>(static_cast<const arrow::Int64Array&>(array).Value(row))
             : static_cast<const arrow::DoubleArray&>(array).Value(row);
}

void add(ColumnStatistics& column, const arrow::Array& array, int64_t row) {
  if (array.IsNull(row)) return;
  ++column.count;
  if (column.wanted == "most_frequent") {
    ++column.texts[cell_text(array, row)];
  } else if (column.wanted == "mean") {
    column.sum += number(array, row);
  } else {
    column.values.push_back(number(array, row));
  }
}

// Values with their counts: exact up to kPoints different ones, else evenly spaced points of the distribution.
Json weighted_values(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  Json out_values = Json::array(), out_counts = Json::array();
  for (size_t i = 0; i < values.size() && out_values.size() <= kPoints;) {
    const size_t end = static_cast<size_t>(
        std::upper_bound(values.begin() + static_cast<ptrdiff_t>(i), values.end(), values[i]) - values.begin());
    out_values.push_back(values[i]);
    out_counts.push_back(end - i);
    i = end;
  }
  if (out_values.size() > kPoints) {
    out_values = out_counts = Json::array();
    for (size_t i = 0; i < kPoints; ++i) {
      const size_t begin = values.size() * i / kPoints, end = values.size() * (i + 1) / kPoints;
      if (begin == end) continue;
      out_values.push_back(values[(begin + end) / 2]);
      out_counts.push_back(end - begin);
    }
  }
  return {{"values", std::move(out_values)}, {"counts", std::move(out_counts)}};
}

Json frequent(const std::unordered_map<std::string, int64_t>& texts) {
  std::vector<std::pair<int64_t, std::string>> ranked;
  ranked.reserve(texts.size());
  for (const auto& [text, count] : texts) ranked.emplace_back(count, text);
  std::sort(ranked.begin(), ranked.end(),
            [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });
  Json values = Json::array(), counts = Json::array();
  for (size_t i = 0; i < std::min(ranked.size(), kFrequentValues); ++i) {
    values.push_back(ranked[i].second);
    counts.push_back(ranked[i].first);
  }
  return {{"values", std::move(values)}, {"counts", std::move(counts)}};
}

}  // namespace

// {"blob","rules","assignment","fill":{"c":"mean"}} → {"columns":{"c":{"count","sum"} or {"count","values","counts"}}}
Result<Json> shard_statistics(const Json& arguments, Host& host) {
  SUNDOG_TRY(prepared, open_prepared(arguments, host));
  SUNDOG_TRY(assignment, read_assignment(arguments, prepared.shard.rows, host));
  std::map<std::string, ColumnStatistics> columns;
  const Json fill = arguments.value("fill", Json::object());
  if (!fill.is_object()) return fail(Code::invalid_argument, "\"fill\" is not an object.");
  for (const auto& [name, wanted] : fill.items()) {
    if (prepared.rules.schema()->GetFieldIndex(name) < 0 || !wanted.is_string()) {
      return fail(Code::invalid_argument, "\"fill\" names the column \"" + name + "\" wrongly.");
    }
    columns[name].wanted = wanted.get<std::string>();
  }
  SUNDOG_CHECK(each_batch(prepared, [&](const RowRules::Applied& applied, int64_t first) -> Status {
    for (auto& [name, column] : columns) {
      const auto array = applied.batch->GetColumnByName(name);
      for (int64_t row = 0; row < array->length(); ++row) {
        const Part part = assignment.parts[static_cast<size_t>(first + row)];
        if (part == Part::train || part == Part::undersampled) add(column, *array, row);
      }
    }
    return done;
  }));
  Json out = Json::object();
  for (auto& [name, column] : columns) {
    Json one = column.wanted == "mean"            ? Json{{"sum", column.sum}}
               : column.wanted == "most_frequent" ? frequent(column.texts)
                                                  : weighted_values(column.values);
    one["count"] = column.count;
    out[name] = std::move(one);
  }
  return Json{{"columns", std::move(out)}};
}

}  // namespace sundog::data::worker
