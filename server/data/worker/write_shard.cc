// The task "write": one shard's rows, prepared and by split; and "pack": many small files into fewer.
#include <arrow/compute/api.h>
#include <arrow/util/byte_size.h>

#include <algorithm>
#include <array>

#include "data/worker/arrow_result.h"
#include "data/worker/column_builder.h"
#include "data/worker/prepare.h"
#include "data/worker/task.h"

namespace sundog::data::worker {
namespace {

namespace cp = arrow::compute;
constexpr std::array<const char*, 3> kSplits{"train", "valid", "test"};

class ShardWrite {
 public:
  ShardWrite(const Json& arguments, Host& host, PreparedShard prepared)
      : arguments_(arguments), host_(host), prepared_(std::move(prepared)), quarantine_(host) {}

  Result<Json> run() {
    SUNDOG_TRY(assignment, read_assignment(arguments_, prepared_.shard.rows, host_));
    assignment_ = std::move(assignment);
    SUNDOG_TRY(first_row, get_int(arguments_, "first_row", 0));
    first_row_ = first_row;
    SUNDOG_CHECK(read_fills());
    SUNDOG_CHECK(open_writers());
    SUNDOG_CHECK(
        each_batch(prepared_, [&](const RowRules::Applied& applied, int64_t first) { return take(applied, first); }));
    Json shards = Json::array();
    for (auto& writer : writers_) {
      SUNDOG_TRY(written, writer->finish());
      for (auto& shard : written) shards.push_back(std::move(shard));
    }
    SUNDOG_TRY(quarantine, quarantine_.finish());
    return Json{{"shards", shards}, {"quarantine", quarantine}, {"schema", schema_json(*schema_)}};
  }

 private:
  Status read_fills();
  Status open_writers();
  Status take(const RowRules::Applied& applied, int64_t first);
  Status write_part(const arrow::RecordBatch& batch, size_t part, int64_t first);
  Result<std::shared_ptr<arrow::Array>> weights_of(const arrow::Array& labels) const;

  const Json& arguments_;
  Host& host_;
  PreparedShard prepared_;
  QuarantineWriter quarantine_;
  RowAssignment assignment_;
  int64_t first_row_ = 0;
  std::map<std::string, std::shared_ptr<arrow::Scalar>> fills_;
  std::map<std::string, double> weights_;
  std::string label_;
  std::shared_ptr<arrow::Schema> schema_;
  std::vector<std::unique_ptr<ShardWriter>> writers_;
};

Status ShardWrite::read_fills() {
  const Json fills = arguments_.value("fills", Json::object());
  if (!fills.is_object()) return fail(Code::invalid_argument, "\"fills\" is not an object.");
  for (const auto& [column, value] : fills.items()) {
    const auto field = prepared_.rules.schema()->GetFieldByName(column);
    if (field == nullptr)
      return fail(Code::invalid_argument, "A fill names the column \"" + column + "\", which is not there.");
    SUNDOG_TRY(type, type_of(*field->type()));
    const std::string text = value.is_string() ? value.get<std::string>() : dump(value);
    ColumnBuilder builder(column, {type, DateStyle::iso, true});
    static const std::set<std::string, std::less<>> kNoMarkers;
    if (!builder.parse(Cell{text, true, false}, kNoMarkers)) {
      return fail(Code::invalid_argument, "The fill " + dump(value) + " does not fit: column \"" + column + "\" is " +
                                              std::string(name(type)) + ".");
    }
    SUNDOG_CHECK(builder.append());
    SUNDOG_TRY(array, builder.finish());
    SUNDOG_ARROW(scalar, array->GetScalar(0));
    fills_[column] = std::move(scalar);
  }
  return done;
}

Status ShardWrite::open_writers() {
  SUNDOG_TRY(target, get_int(arguments_, "target_memory", kShardMemory));
  SUNDOG_TRY(label, get_string(arguments_, "label", ""));
  label_ = label;
  if (const auto given = arguments_.find("weights"); given != arguments_.end() && given->is_object()) {
    for (const auto& [value, weight] : given->items())
      weights_[value] = weight.is_number() ? weight.get<double>() : 1.0;
  }
  std::set<std::string> complete;  // columns that have no missing value any more
  for (const auto& [column, value] : fills_) complete.insert(column);
  for (const auto& column : arguments_.value("complete", std::vector<std::string>())) complete.insert(column);
  arrow::FieldVector fields;
  for (const auto& field : prepared_.rules.schema()->fields()) {
    fields.push_back(field->WithNullable(field->nullable() && !complete.contains(field->name())));
  }
  schema_ = arrow::schema(fields);
  fields.push_back(arrow::field("__weight__", arrow::float64(), false));
  const auto weighted = arrow::schema(std::move(fields));
  for (size_t part = 0; part < kSplits.size(); ++part) {
    writers_.push_back(std::make_unique<ShardWriter>(host_, part == 0 && !weights_.empty() ? weighted : schema_,
                                                     kSplits[part], std::max<int64_t>(target, 1 << 20)));
  }
  return done;
}

Status ShardWrite::take(const RowRules::Applied& applied, int64_t first) {
  for (const auto& [row, reason] : applied.reasons) {
    const std::string group = reason.substr(0, reason.find(" is "));
    SUNDOG_CHECK(quarantine_.add(first_row_ + first + row + 1, reason, row_text(*applied.batch, row), group));
  }
  for (size_t part = 0; part < kSplits.size(); ++part) SUNDOG_CHECK(write_part(*applied.batch, part, first));
  return done;
}

Result<std::shared_ptr<arrow::Array>> ShardWrite::weights_of(const arrow::Array& labels) const {
  arrow::DoubleBuilder out;
  for (int64_t row = 0; row < labels.length(); ++row) {
    const auto weight = weights_.find(cell_text(labels, row));
    SUNDOG_ARROW_OK(out.Append(weight == weights_.end() ? 1.0 : weight->second));
  }
  SUNDOG_ARROW(array, out.Finish());
  return array;
}

Status ShardWrite::write_part(const arrow::RecordBatch& batch, size_t part, int64_t first) {
  arrow::Int64Builder chosen;
  for (int64_t row = 0; row < batch.num_rows(); ++row) {
    const auto at = static_cast<size_t>(first + row);
    if (assignment_.parts[at] != static_cast<Part>(part)) continue;
    const int copies = assignment_.copies.empty() ? 1 : assignment_.copies[at];
    for (int copy = 0; copy < copies; ++copy) SUNDOG_ARROW_OK(chosen.Append(row));
  }
  SUNDOG_ARROW(indices, chosen.Finish());
  // In pieces: over-sampling a rare class may make many rows of few.
  for (int64_t at = 0; at < indices->length(); at += kBatchRows) {
    const auto piece = indices->Slice(at, kBatchRows);
    arrow::ArrayVector columns;
    for (int i = 0; i < batch.num_columns(); ++i) {
      SUNDOG_ARROW(taken, cp::Take(*batch.column(i), *piece));
      if (const auto fill = fills_.find(batch.schema()->field(i)->name());
          fill != fills_.end() && taken->null_count() > 0) {
        SUNDOG_ARROW(filled, cp::CallFunction("coalesce", {arrow::Datum(taken), arrow::Datum(fill->second)}));
        taken = filled.make_array();
      }
      columns.push_back(std::move(taken));
    }
    const bool weighted = part == 0 && !weights_.empty();
    auto schema = schema_;
    if (weighted) {
      SUNDOG_TRY(weights, weights_of(*columns[static_cast<size_t>(schema_->GetFieldIndex(label_))]));
      columns.push_back(std::move(weights));
      SUNDOG_ARROW(longer,
                   schema_->AddField(schema_->num_fields(), arrow::field("__weight__", arrow::float64(), false)));
      schema = std::move(longer);
    }
    SUNDOG_CHECK(writers_[part]->write(arrow::RecordBatch::Make(schema, piece->length(), std::move(columns))));
  }
  return done;
}

}  // namespace

// {"blob","rules","assignment","first_row","fills":{"c":1.5},"complete":["a"],"label","weights":{"0":0.6},"target_memory"}
// →
// {"shards":[…],"quarantine":{…},"schema":[…]}
Result<Json> write_shard(const Json& arguments, Host& host) {
  SUNDOG_TRY(prepared, open_prepared(arguments, host));
  SUNDOG_TRY(label, get_string(arguments, "label", ""));
  if (arguments.contains("weights") && prepared.rules.schema()->GetFieldIndex(label) < 0) {
    return fail(Code::invalid_argument, "Weights need a label column.");
  }
  return ShardWrite(arguments, host, std::move(prepared)).run();
}

// {"blobs":[…],"split","target_memory"} → {"shards":[…]}
Result<Json> pack(const Json& arguments, Host& host) {
  SUNDOG_TRY(split, get_string(arguments, "split", "all"));
  SUNDOG_TRY(target, get_int(arguments, "target_memory", kShardMemory));
  const auto blobs = arguments.find("blobs");
  if (blobs == arguments.end() || !blobs->is_array() || blobs->empty()) {
    return fail(Code::invalid_argument, "\"blobs\" is not a list of shards.");
  }
  std::unique_ptr<ShardWriter> writer;
  arrow::RecordBatchVector waiting;
  int64_t waiting_rows = 0, waiting_bytes = 0;
  const auto flush = [&]() -> Status {
    if (waiting.empty()) return done;
    SUNDOG_ARROW(table, arrow::Table::FromRecordBatches(waiting));
    SUNDOG_ARROW(batch, table->CombineChunksToBatch());
    waiting.clear();
    waiting_rows = waiting_bytes = 0;
    return writer->write(batch);
  };
  for (const auto& blob : *blobs) {
    if (!blob.is_string()) return fail(Code::invalid_argument, "\"blobs\" holds something that is not text.");
    SUNDOG_TRY(shard, open_shard(host, blob.get<std::string>()));
    if (writer == nullptr)
      writer = std::make_unique<ShardWriter>(host, shard.schema, split, std::max<int64_t>(target, 1 << 20));
    SUNDOG_CHECK(read_batches(shard, [&](const std::shared_ptr<arrow::RecordBatch>& batch) -> Status {
      SUNDOG_ARROW(bytes, arrow::util::ReferencedBufferSize(*batch));
      waiting.push_back(batch);
      waiting_rows += batch->num_rows();
      waiting_bytes += bytes;
      if (waiting_rows >= kBatchRows || waiting_bytes >= kBatchBytes) SUNDOG_CHECK(flush());
      return done;
    }));
  }
  SUNDOG_CHECK(flush());
  SUNDOG_TRY(shards, writer->finish());
  return Json{{"shards", shards}};
}

}  // namespace sundog::data::worker
