#include "data/worker/column_builder.h"

#include "data/worker/arrow_result.h"
#include "data/worker/shard_files.h"

namespace sundog::data::worker {

ColumnBuilder::ColumnBuilder(std::string name, ColumnType type) : name_(std::move(name)), type_(type) {
  builder_ = arrow::MakeBuilder(arrow_type(type_.type)).ValueOrDie();  // one of our six types: always there
}

bool ColumnBuilder::parse(const Cell& cell, const std::set<std::string, std::less<>>& missing) {
  null_ = is_missing(cell, missing);
  if (null_) return true;
  switch (type_.type) {
    case Type::int64: {
      const auto value = parse_int64(cell.text);
      int_ = value.value_or(0);
      return value.has_value();
    }
    case Type::float64: {
      const auto value = parse_float64(cell.text);
      float_ = value.value_or(0);
      return value.has_value();
    }
    case Type::boolean: {
      const auto value = parse_bool(cell.text);
      bool_ = value.value_or(false);
      return value.has_value();
    }
    case Type::timestamp:
    case Type::date: {
      const auto value = parse_moment(cell.text, type_.style);
      if (!value || (type_.type == Type::date && value->has_time)) return false;
      int_ = value->micros;
      return true;
    }
    case Type::string:
      text_ = cell.text;
      return true;
  }
  return false;
}

std::string ColumnBuilder::reason(const Cell& cell) const {
  std::string shown(cell.text.substr(0, 40));
  while (!is_utf8(shown)) shown.pop_back();  // cut inside a character
  return "column \"" + name_ + "\" is " + std::string(worker::name(type_.type)) + ", but holds \"" + shown +
         (cell.text.size() > 40 ? "…\"" : "\"");
}

std::string ColumnBuilder::group() const {
  return "column \"" + name_ + "\" holds something that is not " + std::string(worker::name(type_.type));
}

Status ColumnBuilder::append() {
  last_bytes_ = 8;
  if (null_) {
    SUNDOG_ARROW_OK(builder_->AppendNull());
    return done;
  }
  switch (type_.type) {
    case Type::int64:
      SUNDOG_ARROW_OK(static_cast<arrow::Int64Builder&>(*builder_).Append(int_));
      break;
    case Type::float64:
      SUNDOG_ARROW_OK(static_cast<arrow::DoubleBuilder&>(*builder_).Append(float_));
      break;
    case Type::boolean:
      SUNDOG_ARROW_OK(static_cast<arrow::BooleanBuilder&>(*builder_).Append(bool_));
      break;
    case Type::timestamp:
      SUNDOG_ARROW_OK(static_cast<arrow::TimestampBuilder&>(*builder_).Append(int_));
      break;
    case Type::date:
      SUNDOG_ARROW_OK(static_cast<arrow::Date32Builder&>(*builder_).Append(
          static_cast<int32_t>(int_ / (86'400LL * 1'000'000))));  // whole days, so that negative ones divide exactly
      break;
    case Type::string:
      SUNDOG_ARROW_OK(static_cast<arrow::StringBuilder&>(*builder_).Append(text_));
      last_bytes_ = static_cast<int64_t>(text_.size()) + 4;
      break;
  }
  return done;
}

Result<std::shared_ptr<arrow::Array>> ColumnBuilder::finish() {
  SUNDOG_ARROW(array, builder_->Finish());
  return array;
}

}  // namespace sundog::data::worker
