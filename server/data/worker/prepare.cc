#include "data/worker/prepare.h"

#include <algorithm>
#include <unordered_map>

#include "base/file.h"
#include "data/worker/arrow_result.h"
#include "data/worker/byte_input.h"
#include "data/worker/task.h"

namespace sundog::data::worker {
namespace {

Result<std::string> read_blob(const std::string& id, size_t limit, Host& host) {
  SUNDOG_TRY(fd, host.open_blob(id));
  return peek(fd.get(), limit);
}

Status column_exists(const arrow::Schema& schema, const std::string& column, const std::string& role) {
  if (schema.GetFieldIndex(column) >= 0) return done;
  return fail(Code::invalid_argument, "The dataset has no column \"" + column + "\" for the " + role + ".",
              near_names(column, schema.field_names()));
}

Result<std::string> store(std::string_view content, Host& host) {
  SUNDOG_TRY(file, host.create_file());
  SUNDOG_CHECK(write_all(file.fd.get(), content));
  SUNDOG_TRY(blob, host.commit_file(file.handle));
  return blob.id;
}

// The classes of the label as they appear, up to the limit.
class Classes {
 public:
  uint32_t code(const arrow::Array& label, int64_t row) {
    if (label.IsNull(row)) return kNoClass;
    const uint64_t hash = cell_hash(label, row);
    const auto found = codes_.find(hash);
    if (found != codes_.end()) return found->second;
    if (names_.size() >= static_cast<size_t>(kMaxClasses)) {
      too_many_ = true;
      return 0;
    }
    const auto code = static_cast<uint32_t>(names_.size());
    codes_[hash] = code;
    names_.push_back(cell_text(label, row));
    return code;
  }
  bool too_many() const { return too_many_; }
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::unordered_map<uint64_t, uint32_t> codes_;
  std::vector<std::string> names_;
  bool too_many_ = false;
};

int64_t time_of(const arrow::Array& array, int64_t row) {
  if (array.IsNull(row)) return kNoTime;
  switch (array.type_id()) {
    case arrow::Type::TIMESTAMP:
      return static_cast<const arrow::TimestampArray&>(array).Value(row);
    case arrow::Type::DATE32:
      return static_cast<const arrow::Date32Array&>(array).Value(row) * 86'400'000'000LL;
    case arrow::Type::INT64:
      return static_cast<const arrow::Int64Array&>(array).Value(row);
    case arrow::Type::DOUBLE: {
      // Order is all that counts: IEEE bits of one sign sort as integers do.
      const double value = static_cast<const arrow::DoubleArray&>(array).Value(row);
      int64_t bits = 0;
      std::memcpy(&bits, &value, sizeof bits);
      return bits >= 0 ? bits : -(bits & INT64_MAX);
    }
    default:
      return kNoTime;
  }
}

}  // namespace

Result<PreparedShard> open_prepared(const Json& arguments, Host& host) {
  SUNDOG_TRY(blob, get_string(arguments, "blob"));
  SUNDOG_TRY(rules, Rules::parse(arguments.value("rules", Json::object())));
  SUNDOG_TRY(shard, open_shard(host, blob));
  SUNDOG_TRY(row_rules, RowRules::make(*shard.schema, std::move(rules)));
  return PreparedShard{std::move(shard), std::move(row_rules)};
}

Status each_batch(PreparedShard& prepared, const std::function<Status(const RowRules::Applied&, int64_t)>& each) {
  int64_t first_row = 0;
  return read_batches(prepared.shard, [&](const std::shared_ptr<arrow::RecordBatch>& batch) -> Status {
    SUNDOG_TRY(applied, prepared.rules.apply(*batch));
    const int64_t first = first_row;
    first_row += batch->num_rows();
    return each(applied, first);
  });
}

Result<RowAssignment> read_assignment(const Json& arguments, int64_t rows, Host& host) {
  SUNDOG_TRY(id, get_string(arguments, "assignment"));
  SUNDOG_TRY(bytes, read_blob(id, static_cast<size_t>(rows) * 3 + 1, host));
  return decode_assignment(bytes, static_cast<size_t>(rows));
}

// {"blob","rules","hash":bool,"label":"","time":""} →
// {"blob","rows","classes":[…]|null,"fates":{"keep","quarantine","drop"}}
Result<Json> index_shard(const Json& arguments, Host& host) {
  SUNDOG_TRY(prepared, open_prepared(arguments, host));
  SUNDOG_TRY(hashed, get_bool(arguments, "hash", false));
  SUNDOG_TRY(label, get_string(arguments, "label", ""));
  SUNDOG_TRY(time, get_string(arguments, "time", ""));
  const auto& schema = *prepared.rules.schema();
  if (!label.empty()) SUNDOG_CHECK(column_exists(schema, label, "label"));
  if (!time.empty()) {
    SUNDOG_CHECK(column_exists(schema, time, "time"));
    const auto type = schema.GetFieldByName(time)->type()->id();
    if (type == arrow::Type::STRING || type == arrow::Type::BOOL) {
      return fail(Code::invalid_argument,
                  "Column \"" + time + "\" is " + schema.GetFieldByName(time)->type()->ToString() +
                      ", which has no order in time.",
                  "Turn it into a time: types {\"" + time + "\": \"timestamp\"}.");
    }
  }
  RowIndex index;
  Classes classes;
  int64_t counts[3] = {0, 0, 0};
  SUNDOG_CHECK(each_batch(prepared, [&](const RowRules::Applied& applied, int64_t) -> Status {
    const auto label_column = label.empty() ? nullptr : applied.batch->GetColumnByName(label);
    const auto time_column = time.empty() ? nullptr : applied.batch->GetColumnByName(time);
    for (int64_t row = 0; row < applied.batch->num_rows(); ++row) {
      const Fate fate = applied.fates[static_cast<size_t>(row)];
      ++counts[static_cast<size_t>(fate)];
      index.fates.push_back(static_cast<uint8_t>(fate));
      if (hashed) index.hashes.push_back(row_hash(*applied.batch, row));
      if (label_column) index.classes.push_back(fate == Fate::keep ? classes.code(*label_column, row) : kNoClass);
      if (time_column) index.times.push_back(time_of(*time_column, row));
    }
    return done;
  }));
  SUNDOG_TRY(blob, store(encode(index), host));
  return Json{{"blob", blob},
              {"rows", index.fates.size()},
              {"classes", classes.too_many() ? Json(nullptr) : Json(classes.names())},
              {"fates", {{"keep", counts[0]}, {"quarantine", counts[1]}, {"drop", counts[2]}}}};
}

}  // namespace sundog::data::worker
