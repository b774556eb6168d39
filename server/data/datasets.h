// Datasets: tables collected once, their immutable versions and shards. Owns the records "datasets/<tenant>/…".
//
// Ownership   one per server, created in app/.
// Threads     every function may be called from any thread and may block on the disk.
// Failure     not_found (says which datasets exist) · invalid_argument · already_exists
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "data/jobs.h"
#include "store/blobs.h"
#include "store/catalog.h"

namespace sundog::data {

struct Column {
  std::string name;
  std::string type;  // int64, float64, string, bool, timestamp, date
  bool nullable = true;
};

struct Shard {
  std::string split;  // all, train, valid, test
  std::string blob;   // a Parquet file
  int64_t rows = 0, bytes = 0;
  int64_t memory_bytes = 0;  // as an Arrow table in memory
};

struct DatasetVersion {
  std::string dataset;
  int64_t version = 0;
  std::string label;
  WallTime created;
  std::vector<Column> schema;
  std::vector<Shard> shards;
  std::string quarantine_blob;
  int64_t quarantined = 0;
  Json lineage;
  int64_t rows() const;
  std::string reference() const { return dataset + "@" + std::to_string(version); }
  Json to_json() const;  // the DatasetVersion of protocol/api.md
  static Result<DatasetVersion> from_json(const Json& json);
};

class Datasets {
 public:
  virtual ~Datasets() = default;
  // Gives `draft` the next version number of its dataset and stores it. The same `token` again (a retried job) gives
  // the version that was made the first time.
  virtual Result<DatasetVersion> add_version(const std::string& tenant, DatasetVersion draft,
                                             const std::string& token) = 0;
  virtual Result<DatasetVersion> get(const std::string& tenant, const std::string& dataset, int64_t version) const = 0;
  // "clients", "clients@latest" or "clients@3".
  virtual Result<DatasetVersion> find(const std::string& tenant, const std::string& reference) const = 0;
  virtual Result<Json> describe(const std::string& tenant, const std::string& dataset) const = 0;
  virtual Result<Json> list(const std::string& tenant, const std::string& after, size_t limit) const = 0;
  virtual Status remove(const std::string& tenant, const std::string& dataset) = 0;
  // True if some version of the tenant's names the blob, as a shard or as its quarantine.
  virtual bool names_blob(const std::string& tenant, const std::string& blob) const = 0;
};

std::unique_ptr<Datasets> open_datasets(store::Catalog& catalog, Clock& clock);

}  // namespace sundog::data
