#include "data/worker/csv_rows.h"

#include <algorithm>
#include <cstring>
#include <set>

namespace sundog::data::worker {
namespace {

constexpr size_t kChunk = 1 << 18;
constexpr size_t kKeptText = 64 << 10;  // of a row too long to keep

int64_t count_lines(std::string_view text) {
  int64_t lines = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') ++lines;
    if (text[i] == '\r' && (i + 1 == text.size() || text[i + 1] != '\n')) ++lines;
  }
  return lines;
}

}  // namespace

Result<std::unique_ptr<CsvRows>> CsvRows::open(std::unique_ptr<ByteSource> source, CsvOptions options) {
  std::unique_ptr<CsvRows> rows(new CsvRows(std::move(source), options));
  SUNDOG_CHECK(rows->read_header());
  return rows;
}

Result<bool> CsvRows::fill() {
  if (at_end_) return false;
  if (row_start_ > 0) {
    buffer_.erase(0, row_start_);
    row_start_ = 0;
  }
  SUNDOG_TRY(count, source_->read(buffer_, kChunk));
  if (count == 0) at_end_ = true;
  return count > 0;
}

Result<bool> CsvRows::available(size_t at) {
  while (row_start_ + at >= buffer_.size()) {
    SUNDOG_TRY(more, fill());
    if (!more) return false;
  }
  return true;
}

// From an opening quote to after its closing one. False: `problem` says why the field does not end.
Result<bool> CsvRows::scan_quoted(size_t& at, Field& field, Scan& problem) {
  field.quoted = true;
  field.start = ++at;
  for (;;) {
    SUNDOG_TRY(more, available(at));
    if (!more || at > options_.row_limit) {
      problem = Scan::unclosed;
      return false;
    }
    const char* begin = buffer_.data() + row_start_ + at;
    const size_t left = buffer_.size() - row_start_ - at;
    const auto* quote = static_cast<const char*>(std::memchr(begin, '"', left));
    if (quote == nullptr) {
      at += left;
      continue;
    }
    at += static_cast<size_t>(quote - begin);
    SUNDOG_TRY(follows, available(at + 1));
    if (follows && buffer_[row_start_ + at + 1] == '"') {
      field.escaped = true;
      at += 2;
      continue;
    }
    field.end = at++;
    return true;
  }
}

// One field and what ends it. True: the field is whole; `row_ends` if it is the row's last.
Result<bool> CsvRows::scan_field(size_t& at, bool& row_ends, Scan& problem) {
  Field field{at, at, false, false};
  SUNDOG_TRY(any, available(at));
  if (any && buffer_[row_start_ + at] == '"') {
    SUNDOG_TRY(closed, scan_quoted(at, field, problem));
    if (!closed) return false;
  }
  const size_t after_quote = at;
  for (;;) {
    SUNDOG_TRY(more, available(at));
    const char c = more ? buffer_[row_start_ + at] : '\n';
    if (!more || c == options_.delimiter || c == '\n' || c == '\r') {
      if (field.quoted) {
        if (at != after_quote) stray_ = true;
      } else {
        field.end = at;
      }
      fields_.push_back(field);
      row_ends = c != options_.delimiter || !more;
      if (row_ends) text_length_ = at;
      if (more) ++at;
      if (more && c == '\r') {
        SUNDOG_TRY(follows, available(at));
        if (follows && buffer_[row_start_ + at] == '\n') ++at;
      }
      return true;
    }
    if (++at > options_.row_limit) {
      problem = Scan::too_long;
      return false;
    }
  }
}

Result<CsvRows::Scan> CsvRows::scan_row() {
  row_start_ += row_length_;
  row_length_ = text_length_ = 0;
  line_ = next_line_;
  fields_.clear();
  stray_ = false;
  SUNDOG_TRY(any, available(0));
  if (!any) return Scan::end;
  size_t at = 0;
  bool row_ends = false;
  while (!row_ends) {
    Scan problem = Scan::row;
    SUNDOG_TRY(whole, scan_field(at, row_ends, problem));
    if (!whole) {
      SUNDOG_CHECK(skip_line());
      if (problem == Scan::unclosed && ++unclosed_ > options_.unclosed_limit) {
        return fail(Code::invalid_argument,
                    "More than " + std::to_string(options_.unclosed_limit) +
                        " quotes never close; the last one opens in line " + std::to_string(line_) + ".",
                    "Is the delimiter right, and are quotes inside fields doubled?");
      }
      return problem;
    }
  }
  row_length_ = at;
  if (text_length_ == 0) {
    next_line_ = line_ + 1;
    return Scan::blank;
  }
  next_line_ = line_ + std::max<int64_t>(1, count_lines(std::string_view(buffer_).substr(row_start_, row_length_)));
  return Scan::row;
}

// Leaves the defective physical line behind: keeps its beginning as text and goes on after its end.
Status CsvRows::skip_line() {
  cut_text_.clear();
  for (;;) {
    const auto rest = std::string_view(buffer_).substr(row_start_);
    const size_t end = rest.find_first_of("\r\n");
    const auto line = rest.substr(0, end);
    if (cut_text_.size() < kKeptText) cut_text_ += line.substr(0, kKeptText - cut_text_.size());
    if (end != std::string_view::npos && (rest[end] == '\n' || end + 1 < rest.size() || at_end_)) {
      row_length_ = end + (rest.substr(end, 2) == "\r\n" ? 2 : 1);
      next_line_ = line_ + 1;
      return done;
    }
    row_start_ += line.size();
    SUNDOG_TRY(more, fill());
    if (!more) {
      row_length_ = buffer_.size() - row_start_;
      next_line_ = line_ + 1;
      return done;
    }
  }
}

void CsvRows::materialise(Row& row) {
  const auto raw = std::string_view(buffer_).substr(row_start_, text_length_);
  row.cells.clear();
  row.cells.reserve(fields_.size());
  unescaped_.clear();
  if (std::any_of(fields_.begin(), fields_.end(), [](const Field& f) { return f.escaped; }))
    unescaped_.reserve(raw.size());
  for (const auto& field : fields_) {
    const auto text = raw.substr(field.start, field.end - field.start);
    if (!field.escaped) {
      row.cells.push_back(Cell{text});
      continue;
    }
    const size_t begin = unescaped_.size();
    for (size_t i = 0; i < text.size(); ++i) {
      unescaped_ += text[i];
      if (text[i] == '"') ++i;
    }
    row.cells.push_back(Cell{std::string_view(unescaped_).substr(begin)});
  }
}

void CsvRows::take(Row& row, Scan scan) {
  row.line = line_;
  row.defect.clear();
  row.bad_encoding = false;
  row.cells.clear();
  if (scan != Scan::row) {
    row.text = cut_text_;
    row.defect = scan == Scan::unclosed ? "a quote opens here and never closes"
                                        : "the row is longer than " + std::to_string(options_.row_limit >> 20) + " MB";
    if (!is_utf8(row.text)) row.bad_encoding = true;
    return;
  }
  row.text = std::string_view(buffer_).substr(row_start_, text_length_);
  if (row.text.find('\0') != std::string_view::npos) {
    row.defect = "contains a NUL byte";
  } else if (!is_utf8(row.text)) {
    row.defect = "is not valid UTF-8";
    row.bad_encoding = true;
  } else if (stray_) {
    row.defect = "has text after a closing quote";
  } else if (!columns_.empty() && fields_.size() != columns_.size()) {
    row.defect = "has " + std::to_string(fields_.size()) + (fields_.size() == 1 ? " field" : " fields") +
                 ", the header has " + std::to_string(columns_.size());
  } else {
    materialise(row);
  }
}

Result<bool> CsvRows::next(Row& row) {
  for (;;) {
    SUNDOG_TRY(scan, scan_row());
    if (scan == Scan::end) return false;
    if (scan == Scan::blank) {
      ++blank_lines_;
      continue;
    }
    take(row, scan);
    return true;
  }
}

Status CsvRows::read_header() {
  Row row;
  SUNDOG_TRY(any, next(row));
  if (!any) return fail(Code::invalid_argument, "The file is empty.", "A CSV file begins with a line of column names.");
  if (!row.defect.empty()) {
    return fail(Code::invalid_argument, "Line " + std::to_string(row.line) + ", the header, " + row.defect + ".",
                row.bad_encoding ? "Say how the file is encoded: encoding \"latin-1\", \"windows-1252\" or \"utf-16\"."
                                 : "Is it a CSV file, and compressed as said?");
  }
  if (row.cells.size() > 20'000) {
    return fail(Code::too_large,
                "The header has " + std::to_string(row.cells.size()) + " columns; the limit is 20,000.");
  }
  std::set<std::string> used;
  for (size_t i = 0; i < row.cells.size(); ++i) {
    std::string name(row.cells[i].text);
    const auto first = name.find_first_not_of(" \t");
    name = first == std::string::npos ? "" : name.substr(first, name.find_last_not_of(" \t") - first + 1);
    const std::string given = name;
    if (name.empty()) name = "column_" + std::to_string(i + 1);
    for (int n = 2; used.contains(name); ++n) name = (given.empty() ? "column" : given) + "_" + std::to_string(n);
    if (name != given) {
      warnings_.push_back(given.empty()
                              ? "Column " + std::to_string(i + 1) + " has no name; it is called \"" + name + "\"."
                              : "The name \"" + given + "\" comes twice; the later one is called \"" + name + "\".");
    }
    used.insert(name);
    columns_.push_back(std::move(name));
  }
  return done;
}

}  // namespace sundog::data::worker
