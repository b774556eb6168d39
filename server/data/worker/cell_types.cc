#include "data/worker/cell_types.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>

namespace sundog::data::worker {
namespace {

bool digit(char c) {
  return c >= '0' && c <= '9';
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// "007" and "+49…" are codes, not numbers: reading them as numbers would lose what makes them different.
bool is_code(std::string_view text) {
  if (!text.empty() && text.front() == '-') text.remove_prefix(1);
  return text.empty() || text.front() == '+' || (text.size() > 1 && text[0] == '0' && digit(text[1]));
}

// Takes between `least` and `most` digits off the front.
bool take_number(std::string_view& text, size_t least, size_t most, int& out) {
  size_t count = 0;
  out = 0;
  while (count < most && count < text.size() && digit(text[count])) out = out * 10 + (text[count++] - '0');
  if (count < least) return false;
  text.remove_prefix(count);
  return true;
}

bool take_char(std::string_view& text, std::string_view allowed) {
  if (text.empty() || allowed.find(text.front()) == std::string_view::npos) return false;
  text.remove_prefix(1);
  return true;
}

bool take_date(std::string_view& text, DateStyle style, int& year, int& month, int& day) {
  if (style == DateStyle::iso) {
    return take_number(text, 4, 4, year) && take_char(text, "-") && take_number(text, 2, 2, month) &&
           take_char(text, "-") && take_number(text, 2, 2, day);
  }
  int first = 0, second = 0;
  if (!take_number(text, 1, 2, first) || text.empty()) return false;
  const char separator = text.front();
  if (!take_char(text, style == DateStyle::month_first ? "/" : "/.")) return false;
  if (!take_number(text, 1, 2, second) || !take_char(text, std::string_view(&separator, 1))) return false;
  if (!take_number(text, 4, 4, year)) return false;
  month = style == DateStyle::month_first ? first : second;
  day = style == DateStyle::month_first ? second : first;
  return true;
}

// "Z", "+02:00" or "+0200" → minutes east of UTC.
bool take_zone(std::string_view& text, int& minutes) {
  minutes = 0;
  if (text.empty() || take_char(text, "Zz")) return true;
  const bool west = text.front() == '-';
  int hour = 0, minute = 0;
  if (!take_char(text, "+-") || !take_number(text, 2, 2, hour)) return false;
  (void)take_char(text, ":");
  if (!text.empty() && !take_number(text, 2, 2, minute)) return false;
  if (hour > 15 || minute > 59) return false;
  minutes = (hour * 60 + minute) * (west ? -1 : 1);
  return true;
}

bool take_time(std::string_view& text, int64_t& micros) {
  int hour = 0, minute = 0, second = 0;
  if (!take_number(text, 1, 2, hour) || !take_char(text, ":") || !take_number(text, 2, 2, minute)) return false;
  int64_t fraction = 0;
  if (take_char(text, ":")) {
    if (!take_number(text, 2, 2, second)) return false;
    if (take_char(text, ".,")) {
      int64_t scale = 100'000;
      size_t count = 0;
      for (; count < text.size() && digit(text[count]); ++count, scale /= 10) fraction += (text[count] - '0') * scale;
      if (count == 0 || count > 9) return false;
      text.remove_prefix(count);
    }
  }
  if (hour > 23 || minute > 59 || second > 59) return false;
  micros = ((hour * 60LL + minute) * 60 + second) * 1'000'000 + fraction;
  return true;
}

constexpr std::array kTypes{Type::int64, Type::float64, Type::boolean, Type::timestamp, Type::date, Type::string};

}  // namespace

std::string_view name(Type type) {
  switch (type) {
    case Type::int64:
      return "int64";
    case Type::float64:
      return "float64";
    case Type::boolean:
      return "bool";
    case Type::timestamp:
      return "timestamp";
    case Type::date:
      return "date";
    case Type::string:
      return "string";
  }
  return "string";
}

Result<Type> type_from(const std::string& text) {
  for (const Type type : kTypes) {
    if (text == name(type)) return type;
  }
  return fail(Code::invalid_argument, "There is no type \"" + text + "\".",
              "Use int64, float64, string, bool, timestamp or date.");
}

std::optional<int64_t> parse_int64(std::string_view text) {
  text = trimmed(text);
  if (text.empty() || is_code(text)) return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> parse_float64(std::string_view text) {
  text = trimmed(text);
  if (text.empty() || is_code(text)) return std::nullopt;
  const char first = text.front() == '-' && text.size() > 1 ? text[1] : text.front();
  if (!digit(first) && first != '.') return std::nullopt;  // from_chars would read "inf" and "nan"
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  // An integer beyond int64 would lose its last digits: it is an identifier.
  if (text.size() > 18 && text.find_first_not_of("-0123456789") == std::string_view::npos && !parse_int64(text)) {
    return std::nullopt;
  }
  return value;
}

std::optional<bool> parse_bool(std::string_view text) {
  text = trimmed(text);
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  return std::nullopt;
}

std::optional<Moment> parse_moment(std::string_view text, DateStyle style) {
  text = trimmed(text);
  if (text.size() < 8 || text.size() > 40) return std::nullopt;
  int year = 0, month = 0, day = 0;
  if (!take_date(text, style, year, month, day)) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok()) return std::nullopt;
  Moment moment;
  moment.micros = std::chrono::sys_days(date).time_since_epoch().count() * 86'400LL * 1'000'000;
  if (text.empty()) return moment;
  int64_t time = 0;
  int zone = 0;
  if (!take_char(text, "T ") || !take_time(text, time)) return std::nullopt;
  (void)take_char(text, " ");
  if (!take_zone(text, zone) || !text.empty()) return std::nullopt;
  moment.micros += time - zone * 60LL * 1'000'000;
  moment.has_time = true;
  return moment;
}

bool is_missing(const Cell& cell, const std::set<std::string, std::less<>>& missing) {
  return !cell.present || missing.contains(cell.text);
}

void ColumnEvidence::add(const Cell& cell, const std::set<std::string, std::less<>>& missing) {
  if (is_missing(cell, missing)) {
    ++missing_;
    return;
  }
  ++values_;
  if (!cell.is_string) {
    if (parse_int64(cell.text)) {
      ++ints_;
      ++floats_;
      return;
    }
    if (parse_float64(cell.text)) {
      ++floats_;
      return;
    }
    if (parse_bool(cell.text)) {
      ++bools_;
      return;
    }
  }
  // Dates begin with a digit; asking only then keeps text columns fast.
  const auto text = trimmed(cell.text);
  if (text.empty() || !digit(text.front())) return;
  for (const DateStyle style : {DateStyle::iso, DateStyle::month_first, DateStyle::day_first}) {
    const auto moment = parse_moment(text, style);
    if (!moment) continue;
    const auto at = static_cast<size_t>(style);
    ++moments_[at];
    if (!moment->has_time) ++dates_[at];
  }
}

ColumnType ColumnEvidence::decide() const {
  ColumnType out;
  out.nullable = missing_ > 0;
  if (values_ == 0) {
    out.type = Type::float64;  // nothing to go by: an empty number column harms no learner
    return out;
  }
  const auto enough = [&](int64_t count) { return count > 0 && count * 100 >= values_ * 99; };
  if (enough(bools_)) {
    out.type = Type::boolean;
  } else if (enough(floats_)) {
    out.type = ints_ == floats_ ? Type::int64 : Type::float64;
  } else {
    size_t best = 0;
    for (size_t style = 1; style < 3; ++style) {
      if (moments_[style] > moments_[best]) best = style;
    }
    // 1/2/2026 everywhere: nobody can say which is the month.
    const bool ambiguous = best != 0 && moments_[1] == moments_[2];
    if (enough(moments_[best]) && !ambiguous) {
      out.type = dates_[best] == moments_[best] ? Type::date : Type::timestamp;
      out.style = static_cast<DateStyle>(best);
    }
  }
  return out;
}

int64_t ColumnEvidence::misfits(const ColumnType& type) const {
  const auto style = static_cast<size_t>(type.style);
  switch (type.type) {
    case Type::int64:
      return values_ - ints_;
    case Type::float64:
      return values_ - floats_;
    case Type::boolean:
      return values_ - bools_;
    case Type::timestamp:
      return values_ - moments_[style];
    case Type::date:
      return values_ - dates_[style];
    case Type::string:
      return 0;
  }
  return 0;
}

}  // namespace sundog::data::worker
