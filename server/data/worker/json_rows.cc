#include "data/worker/json_rows.h"

#include "base/json.h"

namespace sundog::data::worker {
namespace {

constexpr size_t kChunk = 1 << 18;
constexpr size_t kLineLimit = 4 << 20;
constexpr size_t kColumnLimit = 10'000;

}  // namespace

JsonRows::JsonRows(std::unique_ptr<ByteSource> source, std::vector<std::string> columns)
    : source_(std::move(source)), columns_(std::move(columns)) {
  for (size_t i = 0; i < columns_.size(); ++i) places_[columns_[i]] = i;
}

// The next physical line into line_text_; false at the end.
Result<bool> JsonRows::read_line(bool& too_long) {
  line_text_.clear();
  too_long = false;
  for (;;) {
    const auto rest = std::string_view(buffer_).substr(start_);
    const size_t end = rest.find('\n');
    const auto piece = rest.substr(0, end);
    if (line_text_.size() + piece.size() > kLineLimit) too_long = true;
    if (line_text_.size() < kLineLimit) line_text_ += piece.substr(0, kLineLimit - line_text_.size());
    if (end != std::string_view::npos) {
      start_ += end + 1;
      ++line_;
      return true;
    }
    buffer_.clear();
    start_ = 0;
    if (!at_end_) {
      SUNDOG_TRY(count, source_->read(buffer_, kChunk));
      at_end_ = count == 0;
    }
    if (at_end_ && buffer_.empty()) {
      if (line_text_.empty()) return false;
      ++line_;
      return true;
    }
  }
}

Status JsonRows::take(Row& row) {
  auto parsed = parse_json(line_text_, "the line");
  if (!parsed.ok()) {
    row.defect = "is not JSON: " + parsed.error().message;
    return done;
  }
  if (!parsed->is_object()) {
    row.defect = "is not a JSON object";
    return done;
  }
  texts_.clear();
  row.cells.assign(columns_.size(), Cell{{}, false, false});
  for (const auto& [name, value] : parsed->items()) {
    auto [place, is_new] = places_.try_emplace(name, columns_.size());
    if (is_new) {
      if (columns_.size() >= kColumnLimit) {
        return fail(Code::too_large,
                    "The objects have more than 10,000 different names by line " + std::to_string(line_) + ".",
                    "Put what varies into a nested object: it is kept as text.");
      }
      columns_.push_back(name);
      row.cells.push_back(Cell{{}, false, false});
    }
    if (value.is_null()) continue;
    texts_.push_back(value.is_string() ? value.get<std::string>() : dump(value));
    row.cells[place->second] = Cell{texts_.back(), true, value.is_string() || value.is_structured()};
  }
  return done;
}

Result<bool> JsonRows::next(Row& row) {
  for (;;) {
    bool too_long = false;
    SUNDOG_TRY(any, read_line(too_long));
    if (!any) return false;
    if (line_text_.find_first_not_of(" \t\r") == std::string::npos) continue;
    if (!line_text_.empty() && line_text_.back() == '\r') line_text_.pop_back();
    if (line_ == 1 && line_text_[line_text_.find_first_not_of(" \t")] == '[') {
      return fail(Code::invalid_argument, "The file begins with \"[\": it is one JSON array, not JSON lines.",
                  "Write one object a line, as pandas does with to_json(orient=\"records\", lines=True).");
    }
    row.line = line_;
    row.text = line_text_;
    row.cells.clear();
    row.defect.clear();
    row.bad_encoding = false;
    if (too_long) {
      row.defect = "the row is longer than 4 MB";
      row.text = row.text.substr(0, 64 << 10);
    } else if (line_text_.find('\0') != std::string::npos) {
      row.defect = "contains a NUL byte";
    } else if (!is_utf8(line_text_)) {
      row.defect = "is not valid UTF-8";
      row.bad_encoding = true;
    } else {
      SUNDOG_CHECK(take(row));
    }
    return true;
  }
}

}  // namespace sundog::data::worker
