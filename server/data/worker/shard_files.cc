#include "data/worker/shard_files.h"

#include <arrow/io/file.h>
#include <arrow/util/byte_size.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/writer.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "data/worker/arrow_result.h"

namespace sundog::data::worker {
namespace {

constexpr size_t kQuarantineText = 64 << 10;

std::shared_ptr<parquet::WriterProperties> writer_properties() {
  return parquet::WriterProperties::Builder()
      .compression(arrow::Compression::ZSTD)
      ->compression_level(1)
      ->dictionary_pagesize_limit(256 << 10)
      ->created_by("sundog-data")
      ->build();
}

}  // namespace

std::shared_ptr<arrow::DataType> arrow_type(Type type) {
  switch (type) {
    case Type::int64:
      return arrow::int64();
    case Type::float64:
      return arrow::float64();
    case Type::boolean:
      return arrow::boolean();
    case Type::timestamp:
      return arrow::timestamp(arrow::TimeUnit::MICRO);
    case Type::date:
      return arrow::date32();
    case Type::string:
      return arrow::utf8();
  }
  return arrow::utf8();
}

Result<Type> type_of(const arrow::DataType& type) {
  switch (type.id()) {
    case arrow::Type::INT64:
      return Type::int64;
    case arrow::Type::DOUBLE:
      return Type::float64;
    case arrow::Type::BOOL:
      return Type::boolean;
    case arrow::Type::TIMESTAMP:
      return Type::timestamp;
    case arrow::Type::DATE32:
      return Type::date;
    case arrow::Type::STRING:
      return Type::string;
    default:
      return fail(Code::data_loss,
                  "A shard has a column of type " + type.ToString() + ", which Sundog does not write.");
  }
}

Json schema_json(const arrow::Schema& schema) {
  Json out = Json::array();
  for (const auto& field : schema.fields()) {
    const auto type = type_of(*field->type());
    out.push_back(
        {{"name", field->name()}, {"type", name(type.ok() ? *type : Type::string)}, {"nullable", field->nullable()}});
  }
  return out;
}

ShardWriter::ShardWriter(Host& host, std::shared_ptr<arrow::Schema> schema, std::string split, int64_t target_memory)
    : host_(host), schema_(std::move(schema)), split_(std::move(split)), target_memory_(target_memory) {}

ShardWriter::~ShardWriter() {
  // A task that failed leaves its last file uncommitted; the host drops it.
  if (writer_ != nullptr) (void)writer_->Close();
}

Status ShardWriter::open_file() {
  SUNDOG_TRY(file, host_.create_file());
  handle_ = file.handle;
  SUNDOG_ARROW(stream, arrow::io::FileOutputStream::Open(file.fd.get()));
  (void)file.fd.release();  // the stream closes it
  stream_ = stream;
  SUNDOG_ARROW(writer,
               parquet::arrow::FileWriter::Open(*schema_, arrow::default_memory_pool(), stream_, writer_properties(),
                                                parquet::ArrowWriterProperties::Builder().store_schema()->build()));
  writer_ = std::move(writer);
  shard_rows_ = shard_memory_ = 0;
  return done;
}

Status ShardWriter::close_file() {
  SUNDOG_ARROW_OK(writer_->Close());
  writer_.reset();
  SUNDOG_ARROW_OK(stream_->Close());
  stream_.reset();
  SUNDOG_TRY(blob, host_.commit_file(handle_));
  shards_.push_back({{"split", split_},
                     {"blob", blob.id},
                     {"rows", shard_rows_},
                     {"bytes", blob.bytes},
                     {"memory_bytes", shard_memory_}});
  return done;
}

Status ShardWriter::write_piece(const std::shared_ptr<arrow::RecordBatch>& batch, int64_t memory) {
  if (writer_ != nullptr && shard_memory_ + memory > target_memory_) SUNDOG_CHECK(close_file());
  if (writer_ == nullptr) SUNDOG_CHECK(open_file());
  SUNDOG_ARROW(table, arrow::Table::FromRecordBatches(schema_, {batch}));
  SUNDOG_ARROW_OK(writer_->WriteTable(*table, std::max<int64_t>(1, batch->num_rows())));
  shard_rows_ += batch->num_rows();
  shard_memory_ += memory;
  rows_ += batch->num_rows();
  return done;
}

Status ShardWriter::write(const std::shared_ptr<arrow::RecordBatch>& batch) {
  if (batch->num_rows() == 0) return done;
  SUNDOG_ARROW(memory, arrow::util::ReferencedBufferSize(*batch));
  const int64_t limit = std::min(kBatchBytes, target_memory_);
  const int64_t pieces = std::min<int64_t>(batch->num_rows(), std::max<int64_t>(1, (memory + limit - 1) / limit));
  const int64_t step = (batch->num_rows() + pieces - 1) / pieces;
  for (int64_t at = 0; at < batch->num_rows(); at += step) {
    const auto piece = pieces == 1 ? batch : batch->Slice(at, step);
    SUNDOG_ARROW(size, arrow::util::ReferencedBufferSize(*piece));
    SUNDOG_CHECK(write_piece(piece, size));
  }
  return done;
}

Result<Json> ShardWriter::finish() {
  if (writer_ != nullptr) SUNDOG_CHECK(close_file());
  return std::move(shards_);
}

std::shared_ptr<arrow::Schema> quarantine_schema() {
  return arrow::schema({arrow::field("line", arrow::int64(), false), arrow::field("reason", arrow::utf8(), false),
                        arrow::field("text", arrow::utf8(), false)});
}

QuarantineWriter::QuarantineWriter(Host& host) : writer_(host, quarantine_schema(), "quarantine", int64_t{1} << 50) {}

Status QuarantineWriter::add(int64_t line, const std::string& reason, std::string_view text, const std::string& group) {
  std::string kept(text.substr(0, kQuarantineText));
  if (!is_utf8(kept)) {
    // What is no UTF-8 is kept readable: its bytes above ASCII as if they were Latin-1.
    std::string latin;
    for (const char c : kept) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte < 0x80) {
        latin += c;
      } else {
        latin += static_cast<char>(0xC0 | (byte >> 6U));
        latin += static_cast<char>(0x80 | (byte & 0x3FU));
      }
    }
    kept = std::move(latin);
  }
  SUNDOG_ARROW_OK(lines_.Append(line));
  SUNDOG_ARROW_OK(reasons_.Append(reason));
  SUNDOG_ARROW_OK(texts_.Append(kept));
  ++rows_;
  if (groups_.size() < 200 || groups_.contains(group)) ++groups_[group];
  pending_bytes_ += static_cast<int64_t>(kept.size() + reason.size()) + 24;
  if (pending_bytes_ >= (4 << 20)) SUNDOG_CHECK(flush());
  return done;
}

Status QuarantineWriter::flush() {
  pending_bytes_ = 0;
  SUNDOG_ARROW(lines, lines_.Finish());
  SUNDOG_ARROW(reasons, reasons_.Finish());
  SUNDOG_ARROW(texts, texts_.Finish());
  return writer_.write(arrow::RecordBatch::Make(quarantine_schema(), lines->length(), {lines, reasons, texts}));
}

Result<Json> QuarantineWriter::finish() {
  SUNDOG_CHECK(flush());
  SUNDOG_TRY(shards, writer_.finish());
  return Json{{"blob", shards.empty() ? Json("") : shards[0]["blob"]}, {"rows", rows_}};
}

std::vector<std::string> QuarantineWriter::summary() const {
  std::vector<std::pair<int64_t, std::string>> ranked;
  ranked.reserve(groups_.size());
  for (const auto& [group, count] : groups_) ranked.emplace_back(count, group);
  std::sort(ranked.rbegin(), ranked.rend());
  std::vector<std::string> out;
  for (size_t i = 0; i < std::min<size_t>(5, ranked.size()); ++i) {
    out.push_back(std::to_string(ranked[i].first) + (ranked[i].first == 1 ? " row" : " rows") +
                  " in the quarantine: " + ranked[i].second + ".");
  }
  return out;
}

Result<OpenShard> open_shard(Host& host, const std::string& blob) {
  SUNDOG_TRY(fd, host.open_blob(blob));
  SUNDOG_ARROW(file, arrow::io::ReadableFile::Open(fd.get()));
  (void)fd.release();
  parquet::arrow::FileReaderBuilder builder;
  SUNDOG_ARROW_OK(builder.Open(file));
  parquet::ArrowReaderProperties properties(false);
  properties.set_batch_size(kBatchRows);
  properties.set_pre_buffer(false);
  OpenShard shard;
  SUNDOG_ARROW(reader, builder.properties(properties)->Build());
  shard.reader = std::move(reader);
  SUNDOG_ARROW_OK(shard.reader->GetSchema(&shard.schema));
  shard.rows = shard.reader->parquet_reader()->metadata()->num_rows();
  return shard;
}

Status read_batches(OpenShard& shard, const std::function<Status(const std::shared_ptr<arrow::RecordBatch>&)>& each) {
  SUNDOG_ARROW(batches, shard.reader->GetRecordBatchReader());
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    SUNDOG_ARROW_OK(batches->ReadNext(&batch));
    if (batch == nullptr) return done;
    if (batch->num_rows() > 0) SUNDOG_CHECK(each(batch));
  }
}

std::string iso_days(int32_t days) {
  const std::chrono::year_month_day date{std::chrono::sys_days(std::chrono::days(days))};
  char text[24];
  std::snprintf(text, sizeof text, "%04d-%02u-%02u", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                static_cast<unsigned>(date.day()));
  return text;
}

std::string iso_micros(int64_t micros) {
  constexpr int64_t kDay = 86'400LL * 1'000'000;
  int64_t days = micros / kDay, rest = micros % kDay;
  if (rest < 0) {
    rest += kDay;
    --days;
  }
  char text[40];
  const int64_t seconds = rest / 1'000'000;
  std::snprintf(text, sizeof text, "T%02d:%02d:%02d", static_cast<int>(seconds / 3600),
                static_cast<int>(seconds / 60 % 60), static_cast<int>(seconds % 60));
  std::string out = iso_days(static_cast<int32_t>(std::clamp<int64_t>(days, -10'000'000, 10'000'000))) + text;
  if (rest % 1'000'000 != 0) {
    std::snprintf(text, sizeof text, ".%06d", static_cast<int>(rest % 1'000'000));
    out += text;
  }
  return out;
}

Json cell_json(const arrow::Array& array, int64_t row) {
  if (array.IsNull(row)) return nullptr;
  switch (array.type_id()) {
    case arrow::Type::INT64:
      return static_cast<const arrow::Int64Array&>(array).Value(row);
    case arrow::Type::DOUBLE: {
      const double value = static_cast<const arrow::DoubleArray&>(array).Value(row);
      return std::isfinite(value) ? Json(value) : Json(value > 0 ? "Infinity" : "-Infinity");
    }
    case arrow::Type::BOOL:
      return static_cast<const arrow::BooleanArray&>(array).Value(row);
    case arrow::Type::STRING:
      return std::string(static_cast<const arrow::StringArray&>(array).GetView(row));
    case arrow::Type::TIMESTAMP:
      return iso_micros(static_cast<const arrow::TimestampArray&>(array).Value(row));
    case arrow::Type::DATE32:
      return iso_days(static_cast<const arrow::Date32Array&>(array).Value(row));
    default:
      return nullptr;
  }
}

std::string cell_text(const arrow::Array& array, int64_t row) {
  const Json value = cell_json(array, row);
  if (value.is_null()) return {};
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace sundog::data::worker
