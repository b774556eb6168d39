// Shard files: Parquet shards and quarantines, written piece by piece and read in bounded batches.
//
// Threads     one task, one thread.
// Failure     unavailable (disk full) · data_loss (a shard that is no Parquet file)
#pragma once

#include <arrow/api.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/worker/cell_types.h"
#include "data/worker/host.h"

namespace parquet::arrow {
class FileWriter;
class FileReader;
}  // namespace parquet::arrow

namespace sundog::data::worker {

inline constexpr int64_t kBatchRows = 64 << 10;
inline constexpr int64_t kBatchBytes = 16 << 20;
inline constexpr int64_t kShardMemory = 64LL << 20;  // Arrow bytes of one shard, unless the task says otherwise

std::shared_ptr<arrow::DataType> arrow_type(Type type);
// The type of a column of a shard; internal for one that Sundog does not write.
Result<Type> type_of(const arrow::DataType& type);
Json schema_json(const arrow::Schema& schema);

// Writes record batches as shards of at most `target_memory`; each batch is one row group.
class ShardWriter {
 public:
  ShardWriter(Host& host, std::shared_ptr<arrow::Schema> schema, std::string split, int64_t target_memory);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  Status write(const std::shared_ptr<arrow::RecordBatch>& batch);
  // The shards so far as protocol/api.md has them; nothing can be written after it.
  Result<Json> finish();
  int64_t rows() const { return rows_; }

 private:
  Status write_piece(const std::shared_ptr<arrow::RecordBatch>& batch, int64_t memory);
  Status open_file();
  Status close_file();

  Host& host_;
  std::shared_ptr<arrow::Schema> schema_;
  std::string split_;
  int64_t target_memory_;
  std::unique_ptr<parquet::arrow::FileWriter> writer_;
  std::shared_ptr<arrow::io::OutputStream> stream_;
  std::string handle_;
  int64_t rows_ = 0, shard_rows_ = 0, shard_memory_ = 0;
  Json shards_ = Json::array();
};

// Rows that could not be taken, with the line they stood in and the reason.
class QuarantineWriter {
 public:
  explicit QuarantineWriter(Host& host);
  // `group`: what is counted together for the summary.
  Status add(int64_t line, const std::string& reason, std::string_view text, const std::string& group);
  // {"blob":"<id or empty>","rows":n}
  Result<Json> finish();
  int64_t rows() const { return rows_; }
  // "37 rows: …", most frequent first, at most five.
  std::vector<std::string> summary() const;

 private:
  Status flush();

  ShardWriter writer_;
  arrow::Int64Builder lines_;
  arrow::StringBuilder reasons_, texts_;
  int64_t pending_bytes_ = 0, rows_ = 0;
  std::map<std::string, int64_t> groups_;
};

std::shared_ptr<arrow::Schema> quarantine_schema();

// Calls `each` with consecutive batches of at most kBatchRows. `columns`: empty for all.
struct OpenShard {
  std::shared_ptr<arrow::Schema> schema;
  std::unique_ptr<parquet::arrow::FileReader> reader;
  int64_t rows = 0;
};
Result<OpenShard> open_shard(Host& host, const std::string& blob);
Status read_batches(OpenShard& shard, const std::function<Status(const std::shared_ptr<arrow::RecordBatch>&)>& each);

// One cell for people: numbers and text as they are, times in ISO form; null for a missing one.
Json cell_json(const arrow::Array& array, int64_t row);
// The cell as text, for quarantine lines and value counts; "" for a missing one.
std::string cell_text(const arrow::Array& array, int64_t row);
std::string iso_micros(int64_t micros);
std::string iso_days(int32_t days);

}  // namespace sundog::data::worker
