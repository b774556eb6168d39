// Cell types: what a text cell can be read as, and which type a whole column is.
// Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/worker/row_source.h"

namespace sundog::data::worker {

enum class Type { int64, float64, boolean, timestamp, date, string };
std::string_view name(Type type);
Result<Type> type_from(const std::string& text);

// How dates are written: 2026-01-31, 1/31/2026, 31/1/2026 or 31.1.2026.
enum class DateStyle { iso, month_first, day_first };

std::optional<int64_t> parse_int64(std::string_view text);
std::optional<double> parse_float64(std::string_view text);  // finite
std::optional<bool> parse_bool(std::string_view text);
struct Moment {
  int64_t micros = 0;  // since 1970, UTC
  bool has_time = false;
};
std::optional<Moment> parse_moment(std::string_view text, DateStyle style);

struct ColumnType {
  Type type = Type::string;
  DateStyle style = DateStyle::iso;
  bool nullable = false;
};

// Counts what a column's cells can be read as.
class ColumnEvidence {
 public:
  void add(const Cell& cell, const std::set<std::string, std::less<>>& missing);
  // Rows that came before the column was first seen (JSON lines).
  void add_missing(int64_t rows) { missing_ += rows; }
  // The narrowest type that at least 99 % of the values fit; those that do not go to the quarantine.
  ColumnType decide() const;
  int64_t values() const { return values_; }
  // How many of the values do not fit `type`.
  int64_t misfits(const ColumnType& type) const;

 private:
  int64_t missing_ = 0, values_ = 0;
  int64_t ints_ = 0, floats_ = 0, bools_ = 0;
  int64_t dates_[3] = {0, 0, 0}, moments_[3] = {0, 0, 0};  // by style; dates_ are those without a time
};

bool is_missing(const Cell& cell, const std::set<std::string, std::less<>>& missing);

}  // namespace sundog::data::worker
