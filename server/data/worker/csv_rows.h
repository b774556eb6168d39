// CsvRows: RFC 4180 read leniently where nothing is lost, strictly where something might be.
//
// Line ends \n, \r\n and \r; quotes over lines keep line numbers right; "" is a quote inside quotes. A row is defective
// if it has another number of fields than the header, text after a closing quote, a quote that never closes, a NUL
// byte, invalid UTF-8, or more than 4 MB. Blank lines are no rows.
#pragma once

#include <memory>

#include "base/bytes.h"
#include "data/worker/row_source.h"

namespace sundog::data::worker {

struct CsvOptions {
  char delimiter = ',';
  size_t row_limit = 4 << 20;
  int unclosed_limit = 100;  // this many quotes that never close: the file is not what it seems
};

class CsvRows final : public RowSource {
 public:
  // Reads the header. invalid_argument if there is none.
  static Result<std::unique_ptr<CsvRows>> open(std::unique_ptr<ByteSource> source, CsvOptions options);

  Result<bool> next(Row& row) override;
  const std::vector<std::string>& columns() const override { return columns_; }
  std::vector<std::string> warnings() const override { return warnings_; }
  int64_t blank_lines() const { return blank_lines_; }

 private:
  struct Field {
    size_t start, end;  // from row_start_; the quotes left out
    bool quoted, escaped;
  };
  enum class Scan { row, blank, unclosed, too_long, end };

  CsvRows(std::unique_ptr<ByteSource> source, CsvOptions options) : source_(std::move(source)), options_(options) {}
  Status read_header();
  Result<bool> fill();                // reads on; false at the end of the file
  Result<bool> available(size_t at);  // is there a byte at row_start_ + at?
  Result<Scan> scan_row();
  Result<bool> scan_field(size_t& at, bool& row_ends, Scan& problem);
  Result<bool> scan_quoted(size_t& at, Field& field, Scan& problem);
  Status skip_line();  // row_length_ = to the end of the physical line, bounded memory
  void take(Row& row, Scan scan);
  void materialise(Row& row);

  std::unique_ptr<ByteSource> source_;
  CsvOptions options_;
  std::string buffer_;
  size_t row_start_ = 0, row_length_ = 0;  // the row with its line end, in buffer_
  size_t text_length_ = 0;                 // without its line end
  bool at_end_ = false;
  bool stray_ = false;  // text after a closing quote
  int64_t line_ = 1, next_line_ = 1;
  int unclosed_ = 0;
  int64_t blank_lines_ = 0;
  std::vector<Field> fields_;
  std::string unescaped_, cut_text_;
  std::vector<std::string> columns_, warnings_;
};

}  // namespace sundog::data::worker
