#include "data/worker/rules.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "data/worker/arrow_result.h"
#include "data/worker/column_builder.h"
#include "data/worker/shard_files.h"

namespace sundog::data::worker {
namespace {

Result<std::vector<std::string>> text_list(const Json& object, const char* key) {
  std::vector<std::string> out;
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return out;
  if (!found->is_array())
    return fail(Code::invalid_argument, "\"" + std::string(key) + "\" is not a list of column names.");
  for (const auto& item : *found) {
    if (!item.is_string())
      return fail(Code::invalid_argument,
                  "\"" + std::string(key) + "\" holds " + dump(item) + ", which is no column name.");
    out.push_back(item.get<std::string>());
  }
  return out;
}

Result<Range> range_from(const std::string& column, const Json& given) {
  const auto bound = [](const Json& value) { return value.is_number() || value.is_null(); };
  if (!given.is_array() || given.size() != 2 || !bound(given[0]) || !bound(given[1])) {
    return fail(Code::invalid_argument, "The range of \"" + column + "\" is " + dump(given) + ".",
                "A range is [lowest, highest]; null leaves a side open.");
  }
  Range range{-std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
  if (given[0].is_number()) range.low = given[0].get<double>();
  if (given[1].is_number()) range.high = given[1].get<double>();
  if (range.low > range.high)
    return fail(Code::invalid_argument, "The range of \"" + column + "\" is empty: " + dump(given) + ".");
  return range;
}

bool has_time_type(Type type) {
  return type == Type::timestamp || type == Type::date;
}

// A number that changes its type without losing anything needs no way through text.
std::optional<std::string> lossless_text(const arrow::Array& array, int64_t row, Type wanted) {
  if (array.type_id() == arrow::Type::DOUBLE && (wanted == Type::int64 || wanted == Type::string)) {
    const double value = static_cast<const arrow::DoubleArray&>(array).Value(row);
    if (std::isfinite(value) && value == std::floor(value) && std::fabs(value) < 9e15) {
      return std::to_string(static_cast<int64_t>(value));
    }
  }
  if (array.type_id() == arrow::Type::BOOL && (wanted == Type::int64 || wanted == Type::float64)) {
    return static_cast<const arrow::BooleanArray&>(array).Value(row) ? "1" : "0";
  }
  if (array.type_id() == arrow::Type::INT64 && wanted == Type::boolean) {
    const int64_t value = static_cast<const arrow::Int64Array&>(array).Value(row);
    if (value == 0 || value == 1) return value == 1 ? "true" : "false";
  }
  return std::nullopt;
}

}  // namespace

Result<Rules> Rules::parse(const Json& rules) {
  Rules out;
  SUNDOG_TRY(drop, text_list(rules, "drop"));
  out.drop.insert(drop.begin(), drop.end());
  if (const auto missing = rules.find("missing"); missing != rules.end() && missing->is_object()) {
    SUNDOG_TRY(drop_rows, text_list(*missing, "drop_rows"));
    out.drop_rows = std::move(drop_rows);
  }
  if (const auto types = rules.find("types"); types != rules.end() && types->is_object()) {
    for (const auto& [column, type] : types->items()) {
      if (!type.is_string()) return fail(Code::invalid_argument, "The type of column \"" + column + "\" is not text.");
      SUNDOG_TRY(parsed, type_from(type.get<std::string>()));
      out.types[column] = parsed;
    }
  }
  if (const auto ranges = rules.find("ranges"); ranges != rules.end() && ranges->is_object()) {
    for (const auto& [column, given] : ranges->items()) {
      SUNDOG_TRY(range, range_from(column, given));
      out.ranges[column] = range;
    }
  }
  return out;
}

Result<RowRules> RowRules::make(const arrow::Schema& schema, Rules rules) {
  RowRules out;
  const auto check = [&](const std::string& column, const char* rule) -> Status {
    if (schema.GetFieldIndex(column) < 0) {
      return fail(Code::invalid_argument,
                  "The rule \"" + std::string(rule) + "\" names the column \"" + column +
                      "\", which the dataset does not have.",
                  near_names(column, schema.field_names()));
    }
    if (rules.drop.contains(column) && std::string(rule) != "drop") {
      return fail(Code::invalid_argument,
                  "The rules drop the column \"" + column + "\" and also use it in \"" + rule + "\".");
    }
    return done;
  };
  for (const auto& column : rules.drop) SUNDOG_CHECK(check(column, "drop"));
  for (const auto& column : rules.drop_rows) SUNDOG_CHECK(check(column, "missing.drop_rows"));
  for (const auto& [column, type] : rules.types) SUNDOG_CHECK(check(column, "types"));
  for (const auto& [column, range] : rules.ranges) SUNDOG_CHECK(check(column, "ranges"));
  arrow::FieldVector fields;
  for (int i = 0; i < schema.num_fields(); ++i) {
    const auto& field = schema.field(i);
    if (rules.drop.contains(field->name())) continue;
    SUNDOG_TRY(type, type_of(*field->type()));
    if (const auto given = rules.types.find(field->name()); given != rules.types.end()) type = given->second;
    if (rules.ranges.contains(field->name()) && type != Type::int64 && type != Type::float64) {
      return fail(Code::invalid_argument, "The rule \"ranges\" names the column \"" + field->name() +
                                              "\", which is no number but " + std::string(name(type)) + ".");
    }
    out.kept_.push_back(i);
    fields.push_back(arrow::field(field->name(), arrow_type(type), field->nullable()));
  }
  if (fields.empty()) return fail(Code::invalid_argument, "The rules drop every column.");
  out.schema_ = arrow::schema(std::move(fields));
  out.rules_ = std::move(rules);
  return out;
}

Result<std::shared_ptr<arrow::Array>> RowRules::retype(const arrow::Array& array, int column, Applied& out) const {
  const auto& field = schema_->field(column);
  SUNDOG_TRY(type, type_of(*field->type()));
  static const std::set<std::string, std::less<>> kNoMarkers;
  ColumnBuilder builder(field->name(), {type, DateStyle::iso, true});
  // 1/31/2026: an ISO date is tried first, then month first, which text that stayed text may well be.
  ColumnBuilder other(field->name(), {type, DateStyle::month_first, true});
  for (int64_t row = 0; row < array.length(); ++row) {
    const bool null = array.IsNull(row);
    const auto quick = null ? std::nullopt : lossless_text(array, row, type);
    const std::string text = quick ? *quick : cell_text(array, row);
    Cell cell{text, !null, false};
    if (!builder.parse(cell, kNoMarkers)) {
      std::string iso;
      if (has_time_type(type) && other.parse(cell, kNoMarkers)) {
        const auto moment = parse_moment(text, DateStyle::month_first);
        iso = iso_micros(moment->micros);
        if (type == Type::date) iso.resize(10);
        cell.text = iso;
        (void)builder.parse(cell, kNoMarkers);
      } else {
        out.reasons.try_emplace(row, builder.reason(cell));
        out.fates[static_cast<size_t>(row)] = Fate::quarantine;
        (void)builder.parse(Cell{{}, false, false}, kNoMarkers);
      }
    }
    SUNDOG_CHECK(builder.append());
  }
  return builder.finish();
}

void RowRules::check_range(const arrow::Array& array, const std::string& name, const Range& range, Applied& out) const {
  for (int64_t row = 0; row < array.length(); ++row) {
    if (array.IsNull(row) || out.fates[static_cast<size_t>(row)] == Fate::quarantine) continue;
    const double value = array.type_id() == arrow::Type::INT64
                             ? static_cast<double>(static_cast<const arrow::Int64Array&>(array).Value(row))
                             : static_cast<const arrow::DoubleArray&>(array).Value(row);
    if (value >= range.low && value <= range.high) continue;
    const bool low = value < range.low;
    out.fates[static_cast<size_t>(row)] = Fate::quarantine;
    out.reasons[row] = "column \"" + name + "\" is " + cell_text(array, row) + (low ? ", below " : ", above ") +
                       Json(low ? range.low : range.high).dump();
  }
}

Result<RowRules::Applied> RowRules::apply(const arrow::RecordBatch& batch) const {
  Applied out;
  out.fates.assign(static_cast<size_t>(batch.num_rows()), Fate::keep);
  arrow::ArrayVector columns;
  for (size_t i = 0; i < kept_.size(); ++i) {
    std::shared_ptr<arrow::Array> column = batch.column(kept_[i]);
    if (!column->type()->Equals(*schema_->field(static_cast<int>(i))->type())) {
      SUNDOG_TRY(changed, retype(*column, static_cast<int>(i), out));
      column = std::move(changed);
    }
    const std::string& name = schema_->field(static_cast<int>(i))->name();
    if (const auto range = rules_.ranges.find(name); range != rules_.ranges.end())
      check_range(*column, name, range->second, out);
    columns.push_back(std::move(column));
  }
  out.batch = arrow::RecordBatch::Make(schema_, batch.num_rows(), std::move(columns));
  for (const auto& name : rules_.drop_rows) {
    const auto column = out.batch->GetColumnByName(name);
    for (int64_t row = 0; row < column->length(); ++row) {
      auto& fate = out.fates[static_cast<size_t>(row)];
      if (fate == Fate::keep && column->IsNull(row)) fate = Fate::drop;
    }
  }
  return out;
}

std::string row_text(const arrow::RecordBatch& batch, int64_t row) {
  std::string out;
  for (int i = 0; i < batch.num_columns() && out.size() < (64U << 10); ++i) {
    if (i > 0) out += ',';
    out += cell_text(*batch.column(i), row);
  }
  return out;
}

uint64_t cell_hash(const arrow::Array& array, int64_t row) {
  if (array.IsNull(row)) return 0x9E3779B97F4A7C15ULL;
  switch (array.type_id()) {
    // A whole float hashes as the integer does, so that equal columns of both types are found.
    case arrow::Type::INT64: {
      const int64_t value = static_cast<const arrow::Int64Array&>(array).Value(row);
      return XXH3_64bits_withSeed(&value, sizeof value, 1);
    }
    case arrow::Type::DOUBLE: {
      const double value = static_cast<const arrow::DoubleArray&>(array).Value(row);
      if (value == std::floor(value) && std::fabs(value) < 9e15) {
        const auto whole = static_cast<int64_t>(value);
        return XXH3_64bits_withSeed(&whole, sizeof whole, 1);
      }
      return XXH3_64bits_withSeed(&value, sizeof value, 2);
    }
    case arrow::Type::BOOL: {
      const int64_t value = static_cast<const arrow::BooleanArray&>(array).Value(row) ? 1 : 0;
      return XXH3_64bits_withSeed(&value, sizeof value, 1);
    }
    case arrow::Type::STRING: {
      const auto text = static_cast<const arrow::StringArray&>(array).GetView(row);
      return XXH3_64bits_withSeed(text.data(), text.size(), 3);
    }
    case arrow::Type::TIMESTAMP: {
      const int64_t value = static_cast<const arrow::TimestampArray&>(array).Value(row);
      return XXH3_64bits_withSeed(&value, sizeof value, 4);
    }
    case arrow::Type::DATE32: {
      const int64_t value = static_cast<const arrow::Date32Array&>(array).Value(row);
      return XXH3_64bits_withSeed(&value, sizeof value, 5);
    }
    default:
      return 0;
  }
}

uint64_t row_hash(const arrow::RecordBatch& batch, int64_t row) {
  uint64_t hash = 0;
  for (int i = 0; i < batch.num_columns(); ++i) {
    const uint64_t pair[2] = {hash, cell_hash(*batch.column(i), row)};
    hash = XXH3_64bits(pair, sizeof pair);
  }
  return hash;
}

}  // namespace sundog::data::worker
