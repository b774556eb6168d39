#include "data/datasets.h"

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <numeric>

#include "base/kill_point.h"
#include "store/each_record.h"
namespace sundog::data {
namespace {

// Records, all below "datasets/<tenant>/":
//   NAME          {"created","label","latest","removed"}; kept after removal, so that a version number never means two
//   things NAME@00000003 the version #TOKEN        {"dataset","version"}: which version a job made !BLOB/NAME@…  {}:
//   who names a blob
std::string root(const std::string& tenant) {
  return "datasets/" + tenant + "/";
}

std::string version_key(const std::string& tenant, const std::string& dataset, int64_t version) {
  char number[24];
  std::snprintf(number, sizeof number, "@%08lld", static_cast<long long>(version));
  return root(tenant) + dataset + number;
}

std::string blob_key(const std::string& tenant, const std::string& blob, const std::string& dataset, int64_t version) {
  return root(tenant) + "!" + blob + "/" + dataset + "@" + std::to_string(version);
}

std::vector<std::string> blobs_of(const DatasetVersion& version) {
  std::vector<std::string> out;
  for (const auto& shard : version.shards) out.push_back(shard.blob);
  if (!version.quarantine_blob.empty()) out.push_back(version.quarantine_blob);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

class StoredDatasets final : public Datasets {
 public:
  StoredDatasets(store::Catalog& catalog, Clock& clock) : catalog_(catalog), clock_(clock) {}

  Result<DatasetVersion> add_version(const std::string& tenant, DatasetVersion draft,
                                     const std::string& token) override;
  Result<DatasetVersion> get(const std::string& tenant, const std::string& dataset, int64_t version) const override;
  Result<DatasetVersion> find(const std::string& tenant, const std::string& reference) const override;
  Result<Json> describe(const std::string& tenant, const std::string& dataset) const override;
  Result<Json> list(const std::string& tenant, const std::string& after, size_t limit) const override;
  Status remove(const std::string& tenant, const std::string& dataset) override;
  bool names_blob(const std::string& tenant, const std::string& blob) const override;

 private:
  Error no_dataset(const std::string& tenant, const std::string& dataset) const;
  Result<store::Record> dataset_record(const std::string& tenant, const std::string& dataset) const;
  Result<std::vector<store::Record>> version_records(const std::string& tenant, const std::string& dataset) const;

  store::Catalog& catalog_;
  Clock& clock_;
};

Result<DatasetVersion> StoredDatasets::add_version(const std::string& tenant, DatasetVersion draft,
                                                   const std::string& token) {
  const std::string token_key = root(tenant) + "#" + token;
  // Another job may add a version at the same time: then the number is taken and the next one is tried.
  for (int attempt = 0; attempt < 100; ++attempt) {
    if (auto made = catalog_.get(token_key); made.ok()) {
      SUNDOG_TRY(version, get_int(made->value, "version"));
      SUNDOG_TRY(dataset, get_string(made->value, "dataset"));
      return get(tenant, dataset, version);
    }
    const std::string key = root(tenant) + draft.dataset;
    Json head{{"created", iso_time(clock_.wall())}, {"latest", 0}, {"removed", false}};
    store::Revision revision = store::kAbsent;
    if (auto existing = catalog_.get(key); existing.ok()) {
      head = existing->value;
      revision = existing->revision;
      if (head.value("removed", false)) head["created"] = iso_time(clock_.wall());
    } else if (existing.error().code != Code::not_found) {
      return std::move(existing).error();
    }
    draft.version = head.value("latest", int64_t{0}) + 1;
    draft.created = clock_.wall();
    head["latest"] = draft.version;
    head["label"] = draft.label;
    head["removed"] = false;
    std::vector<store::Write> writes{
        {key, head, revision},
        {version_key(tenant, draft.dataset, draft.version), draft.to_json(), store::kAbsent},
        {token_key, Json{{"dataset", draft.dataset}, {"version", draft.version}}, store::kAbsent}};
    for (const auto& blob : blobs_of(draft)) {
      writes.push_back({blob_key(tenant, blob, draft.dataset, draft.version), Json::object(), store::kAnyRevision});
    }
    auto committed = catalog_.commit(writes);
    if (committed.ok()) {
      kill_point("datasets.version_added");
      return draft;
    }
    const Code code = committed.error().code;
    if (code != Code::conflict && code != Code::already_exists) return std::move(committed).error();
  }
  return fail(Code::conflict, "Too many versions of \"" + draft.dataset + "\" are being added at once.", "Try again.");
}

Error StoredDatasets::no_dataset(const std::string& tenant, const std::string& dataset) const {
  std::string known;
  if (auto listed = list(tenant, "", 10); listed.ok()) {
    for (const auto& item : (*listed)["items"]) known += (known.empty() ? "" : ", ") + item["name"].get<std::string>();
  }
  return fail(Code::not_found, "There is no dataset \"" + dataset + "\".",
              known.empty() ? "There is none yet; sundog data create makes one." : "Those that exist: " + known + ".");
}

Result<store::Record> StoredDatasets::dataset_record(const std::string& tenant, const std::string& dataset) const {
  if (dataset.find_first_of("@#!/") != std::string::npos) return no_dataset(tenant, dataset);
  auto record = catalog_.get(root(tenant) + dataset);
  if (record.ok() ? record->value.value("removed", false) : record.error().code == Code::not_found) {
    return no_dataset(tenant, dataset);
  }
  return record;
}

Result<DatasetVersion> StoredDatasets::get(const std::string& tenant, const std::string& dataset,
                                           int64_t version) const {
  SUNDOG_TRY(head, dataset_record(tenant, dataset));
  auto record = catalog_.get(version_key(tenant, dataset, version));
  if (!record.ok() && record.error().code == Code::not_found) {
    return fail(Code::not_found, "Dataset \"" + dataset + "\" has no version " + std::to_string(version) + ".",
                "The latest is " + dataset + "@" + std::to_string(head.value.value("latest", int64_t{0})) + ".");
  }
  if (!record.ok()) return std::move(record).error();
  return DatasetVersion::from_json(record->value);
}

Result<DatasetVersion> StoredDatasets::find(const std::string& tenant, const std::string& reference) const {
  const size_t at = reference.find('@');
  const std::string dataset = reference.substr(0, at);
  const std::string which = at == std::string::npos ? "latest" : reference.substr(at + 1);
  if (which == "latest") {
    SUNDOG_TRY(head, dataset_record(tenant, dataset));
    return get(tenant, dataset, head.value.value("latest", int64_t{0}));
  }
  if (which.empty() || which.size() > 9 || which.find_first_not_of("0123456789") != std::string::npos) {
    return fail(Code::invalid_argument, "\"" + which + "\" is no version of a dataset.",
                "Like " + dataset + "@3 or " + dataset + "@latest.");
  }
  return get(tenant, dataset, std::stoll(which));
}

Result<std::vector<store::Record>> StoredDatasets::version_records(const std::string& tenant,
                                                                   const std::string& dataset) const {
  std::vector<store::Record> out;
  SUNDOG_CHECK(store::each_record(catalog_, root(tenant) + dataset + "@", [&](store::Record& record) {
    out.push_back(std::move(record));
    return true;
  }));
  return out;
}

Result<Json> StoredDatasets::describe(const std::string& tenant, const std::string& dataset) const {
  SUNDOG_TRY(head, dataset_record(tenant, dataset));
  Json versions = Json::array();
  SUNDOG_CHECK(store::each_record(catalog_, root(tenant) + dataset + "@", [&](const store::Record& record) {
    versions.push_back(record.value.value("version", 0));
    return true;
  }));
  return Json{{"name", dataset},
              {"created", head.value.value("created", "")},
              {"label", head.value.value("label", "")},
              {"latest", head.value.value("latest", 0)},
              {"versions", std::move(versions)}};
}

Result<Json> StoredDatasets::list(const std::string& tenant, const std::string& after, size_t limit) const {
  const std::string prefix = root(tenant);
  // "$" is behind "!" and "#" and before every name.
  const std::string from = prefix + (after.empty() ? "$" : after);
  Json items = Json::array();
  std::string next;
  const auto add = [&](const store::Record& record) {
    const std::string name = record.key.substr(prefix.size());
    if (name.find('@') != std::string::npos || record.value.value("removed", false)) return true;
    if (items.size() == limit) {
      next = limit > 0 ? items.back()["name"].get<std::string>() : "";
      return false;
    }
    items.push_back({{"name", name},
                     {"created", record.value.value("created", "")},
                     {"label", record.value.value("label", "")},
                     {"latest", record.value.value("latest", 0)}});
    return true;
  };
  SUNDOG_CHECK(store::each_record(catalog_, prefix, add, from));
  return Json{{"items", std::move(items)}, {"next", next}};
}

Status StoredDatasets::remove(const std::string& tenant, const std::string& dataset) {
  SUNDOG_TRY(head, dataset_record(tenant, dataset));
  SUNDOG_TRY(records, version_records(tenant, dataset));
  head.value["removed"] = true;
  std::vector<store::Write> writes{{head.key, head.value, head.revision}};
  for (const auto& record : records) {
    writes.push_back({record.key, std::nullopt, store::kAnyRevision});
    SUNDOG_TRY(version, DatasetVersion::from_json(record.value));
    for (const auto& blob : blobs_of(version)) {
      writes.push_back({blob_key(tenant, blob, dataset, version.version), std::nullopt, store::kAnyRevision});
    }
  }
  SUNDOG_CHECK(catalog_.commit(writes));
  return done;
}

bool StoredDatasets::names_blob(const std::string& tenant, const std::string& blob) const {
  if (!store::is_blob_id(blob)) return false;
  const auto found = catalog_.scan(root(tenant) + "!" + blob + "/", {}, 1);
  return found.ok() && !found->empty();
}

}  // namespace

int64_t DatasetVersion::rows() const {
  return std::accumulate(shards.begin(), shards.end(), int64_t{0},
                         [](int64_t sum, const Shard& shard) { return sum + shard.rows; });
}

Json DatasetVersion::to_json() const {
  Json columns = Json::array(), parts = Json::array();
  int64_t bytes = 0;
  for (const auto& column : schema) {
    columns.push_back({{"name", column.name}, {"type", column.type}, {"nullable", column.nullable}});
  }
  for (const auto& shard : shards) {
    bytes += shard.bytes;
    parts.push_back({{"split", shard.split},
                     {"blob", shard.blob},
                     {"rows", shard.rows},
                     {"bytes", shard.bytes},
                     {"memory_bytes", shard.memory_bytes}});
  }
  return {{"dataset", dataset},
          {"version", version},
          {"created", iso_time(created)},
          {"created_ms", epoch_millis(created)},
          {"label", label},
          {"rows", rows()},
          {"quarantined", quarantined},
          {"bytes", bytes},
          {"schema", columns},
          {"shards", parts},
          {"quarantine", {{"blob", quarantine_blob}, {"rows", quarantined}}},
          {"lineage", lineage}};
}

Result<DatasetVersion> DatasetVersion::from_json(const Json& json) {
  DatasetVersion out;
  if (!json.is_object()) return fail(Code::invalid_argument, "A dataset version is not a JSON object.");
  SUNDOG_TRY(dataset, get_string(json, "dataset"));
  SUNDOG_TRY(version, get_int(json, "version", 0));
  SUNDOG_TRY(label, get_string(json, "label", ""));
  SUNDOG_TRY(created_ms, get_int(json, "created_ms", 0));
  out.dataset = dataset;
  out.version = version;
  out.label = label;
  out.created = from_epoch_millis(created_ms);
  out.lineage = json.value("lineage", Json());
  for (const auto& column : json.value("schema", Json::array())) {
    SUNDOG_TRY(name, get_string(column, "name"));
    SUNDOG_TRY(type, get_string(column, "type"));
    SUNDOG_TRY(nullable, get_bool(column, "nullable", true));
    out.schema.push_back({name, type, nullable});
  }
  for (const auto& part : json.value("shards", Json::array())) {
    Shard shard;
    SUNDOG_TRY(split, get_string(part, "split"));
    SUNDOG_TRY(blob, get_string(part, "blob"));
    SUNDOG_TRY(rows, get_int(part, "rows"));
    SUNDOG_TRY(bytes, get_int(part, "bytes", 0));
    SUNDOG_TRY(memory, get_int(part, "memory_bytes", 0));
    out.shards.push_back({split, blob, rows, bytes, memory});
  }
  const Json quarantine = json.value("quarantine", Json::object());
  SUNDOG_TRY(blob, get_string(quarantine, "blob", ""));
  SUNDOG_TRY(rows, get_int(quarantine, "rows", 0));
  out.quarantine_blob = blob;
  out.quarantined = rows;
  return out;
}

std::unique_ptr<Datasets> open_datasets(store::Catalog& catalog, Clock& clock) {
  return std::make_unique<StoredDatasets>(catalog, clock);
}

}  // namespace sundog::data
