// Parquet and Arrow IPC: columns come typed; they are brought to Sundog's six types. NaN becomes missing, as pandas
// means it.
#include <arrow/compute/api.h>
#include <arrow/io/file.h>
#include <arrow/ipc/reader.h>
#include <parquet/arrow/reader.h>

#include "data/worker/arrow_result.h"
#include "data/worker/column_builder.h"
#include "data/worker/ingest.h"
#include "data/worker/shard_files.h"

namespace sundog::data::worker {
namespace {

namespace cp = arrow::compute;

Result<Type> canonical(const arrow::Field& field) {
  const arrow::DataType* type = field.type().get();
  if (type->id() == arrow::Type::DICTIONARY) type = static_cast<const arrow::DictionaryType*>(type)->value_type().get();
  switch (type->id()) {
    case arrow::Type::INT8:
    case arrow::Type::INT16:
    case arrow::Type::INT32:
    case arrow::Type::INT64:
    case arrow::Type::UINT8:
    case arrow::Type::UINT16:
    case arrow::Type::UINT32:
    case arrow::Type::UINT64:
      return Type::int64;
    case arrow::Type::HALF_FLOAT:
    case arrow::Type::FLOAT:
    case arrow::Type::DOUBLE:
    case arrow::Type::DECIMAL32:
    case arrow::Type::DECIMAL64:
    case arrow::Type::DECIMAL128:
    case arrow::Type::DECIMAL256:
    case arrow::Type::NA:
      return Type::float64;
    case arrow::Type::BOOL:
      return Type::boolean;
    case arrow::Type::STRING:
    case arrow::Type::LARGE_STRING:
    case arrow::Type::STRING_VIEW:
    case arrow::Type::BINARY:
    case arrow::Type::LARGE_BINARY:
      return Type::string;
    case arrow::Type::TIMESTAMP:
      return Type::timestamp;
    case arrow::Type::DATE32:
    case arrow::Type::DATE64:
      return Type::date;
    default:
      return fail(Code::unsupported, "Column \"" + field.name() + "\" is of type " + type->ToString() + ".",
                  "Leave the column out, or turn it into numbers or text before.");
  }
}

class ArrowIngest {
 public:
  ArrowIngest(const IngestOptions& options, Host& host) : options_(options), host_(host), quarantine_(host) {}

  Status start(const arrow::Schema& schema) {
    std::vector<std::string> names;
    arrow::FieldVector fields;
    std::set<std::string> used;
    for (const auto& field : schema.fields()) {
      if (!used.insert(field->name()).second || field->name().empty()) {
        return fail(Code::invalid_argument, "Two columns are called \"" + field->name() + "\", or one has no name.",
                    "Give every column a name of its own.");
      }
      SUNDOG_TRY(type, canonical(*field));
      const auto given = options_.types.find(field->name());
      overridden_.push_back(given != options_.types.end() && given->second != type);
      if (overridden_.back()) type = given->second;
      types_.push_back(type);
      names.push_back(field->name());
      const bool may_miss = field->nullable() || type == Type::float64 || overridden_.back();
      fields.push_back(arrow::field(field->name(), arrow_type(type), may_miss));
    }
    if (names.empty()) return fail(Code::invalid_argument, "The file has no columns.");
    SUNDOG_CHECK(check_columns(options_, names));
    schema_ = arrow::schema(std::move(fields));
    nulls_.assign(names.size(), 0);
    shards_ = std::make_unique<ShardWriter>(host_, schema_, "all", options_.shard_memory);
    return done;
  }

  // In slices of bounded size, whatever the file's own batches are.
  Status take(const std::shared_ptr<arrow::RecordBatch>& batch) {
    for (int64_t at = 0; at < batch->num_rows(); at += kBatchRows) {
      SUNDOG_CHECK(take_slice(*batch->Slice(at, kBatchRows)));
    }
    return done;
  }

  Result<Json> answer() {
    SUNDOG_TRY(shards, shards_->finish());
    SUNDOG_TRY(quarantine, quarantine_.finish());
    if (rows_in_ == 0) return fail(Code::invalid_argument, "The file has no rows.");
    if (shards_->rows() == 0) {
      return fail(Code::invalid_argument,
                  "None of the " + std::to_string(rows_in_) + " rows can be taken: " + quarantine_.summary()[0]);
    }
    if (rows_in_ != shards_->rows() + quarantine_.rows())
      return fail(Code::internal, "Rows went missing while reading.");
    std::vector<std::string> warnings = quarantine_.summary();
    Json schema = schema_json(*schema_);
    for (size_t i = 0; i < nulls_.size(); ++i) {
      schema[i]["nullable"] = nulls_[i] > 0;
      if (nulls_[i] == rows_in_)
        warnings.push_back("Column \"" + schema_->field(static_cast<int>(i))->name() + "\" has no values.");
    }
    return Json{{"rows", shards_->rows()}, {"rows_in", rows_in_},      {"schema", schema},
                {"shards", shards},        {"quarantine", quarantine}, {"warnings", warnings}};
  }

 private:
  Status take_slice(const arrow::RecordBatch& batch) {
    std::vector<bool> bad(static_cast<size_t>(batch.num_rows()), false);
    arrow::ArrayVector columns;
    for (int i = 0; i < batch.num_columns(); ++i) {
      auto column = overridden_[static_cast<size_t>(i)] ? reread(batch, i, bad) : cast(batch, i);
      if (!column.ok()) return std::move(column).error();
      columns.push_back(std::move(*column));
    }
    auto out = arrow::RecordBatch::Make(schema_, batch.num_rows(), std::move(columns));
    rows_in_ += batch.num_rows();
    if (std::find(bad.begin(), bad.end(), true) != bad.end()) {
      arrow::BooleanBuilder keep;
      for (const bool is_bad : bad) SUNDOG_ARROW_OK(keep.Append(!is_bad));
      SUNDOG_ARROW(mask, keep.Finish());
      SUNDOG_ARROW(kept, cp::Filter(out, mask));
      out = kept.record_batch();
    }
    for (int i = 0; i < out->num_columns(); ++i) nulls_[static_cast<size_t>(i)] += out->column(i)->null_count();
    return shards_->write(out);
  }

  Result<std::shared_ptr<arrow::Array>> cast(const arrow::RecordBatch& batch, int i) {
    const auto& wanted = schema_->field(i)->type();
    cp::CastOptions options = cp::CastOptions::Safe(wanted);
    options.allow_time_truncate = true;
    options.allow_decimal_truncate = true;
    arrow::Datum column = batch.column(i);
    if (column.type()->id() == arrow::Type::DICTIONARY) {
      SUNDOG_ARROW(plain, cp::Cast(column, static_cast<const arrow::DictionaryType&>(*column.type()).value_type()));
      column = plain;
    }
    auto out = cp::Cast(column, wanted, options);
    if (!out.ok()) {
      const Error error = arrow_error(out.status());
      return fail(
          error.code,
          "Column \"" + schema_->field(i)->name() + "\" cannot be read as " + wanted->ToString() + ": " + error.message,
          "Say another type for it in \"types\".");
    }
    if (wanted->id() != arrow::Type::DOUBLE) return out->make_array();
    SUNDOG_ARROW(is_nan, cp::CallFunction("is_nan", {*out}));
    SUNDOG_ARROW(cleared, cp::CallFunction("if_else", {is_nan, arrow::Datum(arrow::MakeNullScalar(wanted)), *out}));
    return cleared.make_array();
  }

  // A column whose type the user chose: through text, so that what does not fit goes to the quarantine.
  Result<std::shared_ptr<arrow::Array>> reread(const arrow::RecordBatch& batch, int i, std::vector<bool>& bad) {
    SUNDOG_ARROW(text, cp::Cast(arrow::Datum(batch.column(i)), arrow::utf8()));
    const auto array = text.make_array();
    const auto& texts = static_cast<const arrow::StringArray&>(*array);
    ColumnBuilder builder(schema_->field(i)->name(), {types_[static_cast<size_t>(i)], DateStyle::iso, true});
    for (int64_t row = 0; row < texts.length(); ++row) {
      const bool null = texts.IsNull(row);
      const Cell cell{null ? std::string_view() : texts.GetView(row), !null, false};
      if (!builder.parse(cell, options_.missing)) {
        if (!bad[static_cast<size_t>(row)]) {
          SUNDOG_CHECK(quarantine_.add(rows_in_ + row + 1, builder.reason(cell), cell.text, builder.group()));
        }
        bad[static_cast<size_t>(row)] = true;
        (void)builder.parse(Cell{{}, false, false}, options_.missing);
      }
      SUNDOG_CHECK(builder.append());
    }
    return builder.finish();
  }

  const IngestOptions& options_;
  Host& host_;
  QuarantineWriter quarantine_;
  std::vector<Type> types_;
  std::vector<bool> overridden_;
  std::vector<int64_t> nulls_;
  std::shared_ptr<arrow::Schema> schema_;
  std::unique_ptr<ShardWriter> shards_;
  int64_t rows_in_ = 0;
};

Error not_a(const std::string& what, const arrow::Status& status) {
  return fail(Code::invalid_argument, "The file is no whole " + what + " file: " + arrow_error(status).message,
              "Was it uploaded completely?");
}

Result<Json> from_parquet(ArrowIngest& ingest, const std::shared_ptr<arrow::io::RandomAccessFile>& file) {
  parquet::arrow::FileReaderBuilder builder;
  if (const auto status = builder.Open(file); !status.ok()) return not_a("Parquet", status);
  parquet::ArrowReaderProperties properties(false);
  properties.set_batch_size(16 << 10);
  properties.set_pre_buffer(false);
  auto reader = builder.properties(properties)->Build();
  if (!reader.ok()) return not_a("Parquet", reader.status());
  std::shared_ptr<arrow::Schema> schema;
  if (const auto status = (*reader)->GetSchema(&schema); !status.ok()) return not_a("Parquet", status);
  SUNDOG_CHECK(ingest.start(*schema));
  auto batches = (*reader)->GetRecordBatchReader();
  if (!batches.ok()) return not_a("Parquet", batches.status());
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    if (const auto status = (*batches)->ReadNext(&batch); !status.ok()) return not_a("Parquet", status);
    if (batch == nullptr) return ingest.answer();
    if (const auto status = batch->ValidateFull(); !status.ok()) return not_a("Parquet", status);
    SUNDOG_CHECK(ingest.take(batch));
  }
}

Result<Json> from_ipc_file(ArrowIngest& ingest, const std::shared_ptr<arrow::io::RandomAccessFile>& file) {
  auto reader = arrow::ipc::RecordBatchFileReader::Open(file);
  if (!reader.ok()) return not_a("Arrow", reader.status());
  SUNDOG_CHECK(ingest.start(*(*reader)->schema()));
  for (int i = 0; i < (*reader)->num_record_batches(); ++i) {
    auto batch = (*reader)->ReadRecordBatch(i);
    if (!batch.ok()) return not_a("Arrow", batch.status());
    if (const auto status = (*batch)->ValidateFull(); !status.ok()) return not_a("Arrow", status);
    SUNDOG_CHECK(ingest.take(*batch));
  }
  return ingest.answer();
}

Result<Json> from_ipc_stream(ArrowIngest& ingest, const std::shared_ptr<arrow::io::RandomAccessFile>& file) {
  auto reader = arrow::ipc::RecordBatchStreamReader::Open(file);
  if (!reader.ok()) return not_a("Arrow", reader.status());
  SUNDOG_CHECK(ingest.start(*(*reader)->schema()));
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    if (const auto status = (*reader)->ReadNext(&batch); !status.ok()) return not_a("Arrow", status);
    if (batch == nullptr) return ingest.answer();
    if (const auto status = batch->ValidateFull(); !status.ok()) return not_a("Arrow", status);
    SUNDOG_CHECK(ingest.take(batch));
  }
}

}  // namespace

Result<Json> ingest_arrow(const IngestOptions& options, bool parquet, UniqueFd fd, Host& host) {
  SUNDOG_TRY(magic, peek(fd.get(), 6));
  SUNDOG_ARROW(opened, arrow::io::ReadableFile::Open(fd.get()));
  (void)fd.release();
  const std::shared_ptr<arrow::io::RandomAccessFile> file = opened;
  ArrowIngest ingest(options, host);
  auto answer = parquet                       ? from_parquet(ingest, file)
                : magic.starts_with("ARROW1") ? from_ipc_file(ingest, file)
                                              : from_ipc_stream(ingest, file);
  if (answer.ok()) (*answer)["format"] = parquet ? "parquet" : "arrow";
  return answer;
}

}  // namespace sundog::data::worker
