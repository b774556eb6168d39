// Two passes over the text. The first reads every row and counts what each column can be; the second converts. So a
// type is never a guess from the first rows, and a row that does not fit is known with its line and reason.
#include "data/worker/arrow_result.h"
#include "data/worker/column_builder.h"
#include "data/worker/csv_rows.h"
#include "data/worker/ingest.h"
#include "data/worker/json_rows.h"
#include "data/worker/shard_files.h"

namespace sundog::data::worker {
namespace {

struct Survey {
  std::vector<std::string> columns;
  std::vector<ColumnType> types;
  std::vector<std::string> warnings;
  int64_t rows = 0, defective = 0, badly_encoded = 0;
};

class TextIngest {
 public:
  TextIngest(const IngestOptions& options, const TextFormat& format, int fd, Host& host)
      : options_(options), format_(format), fd_(fd), host_(host), quarantine_(host) {}

  Result<Json> run() {
    SUNDOG_CHECK(survey());
    SUNDOG_CHECK(convert());
    return answer();
  }

 private:
  Result<std::unique_ptr<RowSource>> open(std::vector<std::string> known) {
    SUNDOG_TRY(bytes, decompressed(file_source(fd_), format_.compression));
    SUNDOG_TRY(text, decoded(std::move(bytes), options_.encoding));
    if (format_.json) return std::unique_ptr<RowSource>(std::make_unique<JsonRows>(std::move(text), std::move(known)));
    CsvOptions csv;
    csv.delimiter = format_.delimiter;
    SUNDOG_TRY(rows, CsvRows::open(std::move(text), csv));
    return std::unique_ptr<RowSource>(std::move(rows));
  }

  Status survey();
  Status judge(const std::vector<ColumnEvidence>& evidence);
  Status convert();
  Status take_row(const Row& row);
  Status flush();
  Result<Json> answer();

  const IngestOptions& options_;
  TextFormat format_;
  int fd_;
  Host& host_;
  Survey survey_;
  QuarantineWriter quarantine_;
  std::vector<ColumnBuilder> builders_;
  std::unique_ptr<ShardWriter> shards_;
  std::shared_ptr<arrow::Schema> schema_;
  int64_t pending_rows_ = 0, pending_bytes_ = 0, rows_in_ = 0;
};

Status TextIngest::survey() {
  SUNDOG_TRY(source, open({}));
  if (!format_.json) SUNDOG_CHECK(check_columns(options_, source->columns()));
  std::vector<ColumnEvidence> evidence(source->columns().size());
  Row row;
  for (;;) {
    SUNDOG_TRY(any, source->next(row));
    if (!any) break;
    ++survey_.rows;
    if (!row.defect.empty()) {
      ++survey_.defective;
      survey_.badly_encoded += row.bad_encoding;
      continue;
    }
    while (evidence.size() < source->columns().size()) {  // JSON lines: a new name
      evidence.emplace_back().add_missing(survey_.rows - survey_.defective - 1);
    }
    for (size_t i = 0; i < row.cells.size(); ++i) evidence[i].add(row.cells[i], options_.missing);
    for (size_t i = row.cells.size(); i < evidence.size(); ++i) evidence[i].add_missing(1);
  }
  survey_.columns = source->columns();
  survey_.warnings = source->warnings();
  return judge(evidence);
}

Status TextIngest::judge(const std::vector<ColumnEvidence>& evidence) {
  if (survey_.rows == 0) {
    return fail(Code::invalid_argument, "The file has no rows.",
                format_.json ? "Each line is one JSON object." : "It has a header and nothing below it.");
  }
  if (survey_.badly_encoded * 10 > survey_.rows) {
    return fail(
        Code::invalid_argument,
        std::to_string(survey_.badly_encoded) + " of " + std::to_string(survey_.rows) + " rows are not valid UTF-8.",
        "Say how the file is encoded: encoding \"latin-1\", \"windows-1252\" or \"utf-16\".");
  }
  if (survey_.columns.empty() || survey_.defective == survey_.rows) {
    return fail(Code::invalid_argument, "None of the " + std::to_string(survey_.rows) + " rows can be read.",
                format_.json ? "Each line must be one JSON object."
                             : "Is the delimiter right, and does line 1 hold the column names?");
  }
  if (format_.json) SUNDOG_CHECK(check_columns(options_, survey_.columns));
  for (size_t i = 0; i < evidence.size(); ++i) {
    ColumnType type = evidence[i].decide();
    const std::string& name = survey_.columns[i];
    if (const auto given = options_.types.find(name); given != options_.types.end()) {
      const bool time = given->second == Type::timestamp || given->second == Type::date;
      const DateStyle style =
          time && (type.type == Type::timestamp || type.type == Type::date) ? type.style : DateStyle::iso;
      type = {given->second, style, type.nullable};
    }
    if (evidence[i].values() == 0) survey_.warnings.push_back("Column \"" + name + "\" has no values.");
    if (const int64_t misfits = evidence[i].misfits(type); misfits > 0) {
      survey_.warnings.push_back("Column \"" + name + "\" is read as " + std::string(worker::name(type.type)) +
                                 ", which " + std::to_string(misfits) + " of its " +
                                 std::to_string(evidence[i].values()) +
                                 " values are not. To keep them, create it with types {\"" + name + "\": \"string\"}.");
    }
    survey_.types.push_back(type);
  }
  return done;
}

Status TextIngest::take_row(const Row& row) {
  ++rows_in_;
  if (!row.defect.empty()) return quarantine_.add(row.line, row.defect, row.text, row.defect);
  static const Cell kAbsent{{}, false, false};
  for (size_t i = 0; i < builders_.size(); ++i) {
    const Cell& cell = i < row.cells.size() ? row.cells[i] : kAbsent;
    if (!builders_[i].parse(cell, options_.missing)) {
      return quarantine_.add(row.line, builders_[i].reason(cell), row.text, builders_[i].group());
    }
  }
  for (auto& builder : builders_) {
    SUNDOG_CHECK(builder.append());
    pending_bytes_ += builder.bytes_of_last();
  }
  ++pending_rows_;
  if (pending_rows_ >= kBatchRows || pending_bytes_ >= kBatchBytes) SUNDOG_CHECK(flush());
  return done;
}

Status TextIngest::flush() {
  std::vector<std::shared_ptr<arrow::Array>> arrays;
  arrays.reserve(builders_.size());
  for (auto& builder : builders_) {
    SUNDOG_TRY(array, builder.finish());
    arrays.push_back(std::move(array));
  }
  const auto batch = arrow::RecordBatch::Make(schema_, pending_rows_, std::move(arrays));
  pending_rows_ = pending_bytes_ = 0;
  return shards_->write(batch);
}

Status TextIngest::convert() {
  arrow::FieldVector fields;
  for (size_t i = 0; i < survey_.columns.size(); ++i) {
    fields.push_back(arrow::field(survey_.columns[i], arrow_type(survey_.types[i].type), survey_.types[i].nullable));
    builders_.emplace_back(survey_.columns[i], survey_.types[i]);
  }
  schema_ = arrow::schema(std::move(fields));
  shards_ = std::make_unique<ShardWriter>(host_, schema_, "all", options_.shard_memory);
  SUNDOG_TRY(source, open(survey_.columns));
  Row row;
  for (;;) {
    SUNDOG_TRY(any, source->next(row));
    if (!any) break;
    SUNDOG_CHECK(take_row(row));
  }
  return flush();
}

Result<Json> TextIngest::answer() {
  SUNDOG_TRY(shards, shards_->finish());
  SUNDOG_TRY(quarantine, quarantine_.finish());
  if (rows_in_ != survey_.rows || rows_in_ != shards_->rows() + quarantine_.rows()) {
    return fail(Code::internal, "Rows went missing: " + std::to_string(survey_.rows) + " were read, " +
                                    std::to_string(shards_->rows()) + " written and " +
                                    std::to_string(quarantine_.rows()) + " quarantined.");
  }
  if (shards_->rows() == 0) {
    const auto reasons = quarantine_.summary();
    return fail(Code::invalid_argument, "None of the " + std::to_string(rows_in_) + " rows can be taken: " + reasons[0],
                "Correct the file, or say \"types\".");
  }
  for (const auto& line : quarantine_.summary()) survey_.warnings.push_back(line);
  return Json{{"rows", shards_->rows()},
              {"rows_in", rows_in_},
              {"schema", schema_json(*schema_)},
              {"shards", shards},
              {"quarantine", quarantine},
              {"warnings", survey_.warnings},
              {"format", format_.json ? "jsonl" : "csv"}};
}

}  // namespace

Result<Json> ingest_text(const IngestOptions& options, const TextFormat& format, int fd, Host& host) {
  return TextIngest(options, format, fd, host).run();
}

}  // namespace sundog::data::worker
