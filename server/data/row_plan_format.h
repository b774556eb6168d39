// The two small binary files that preprocessing's steps hand to each other; both columnar, little endian, one entry a
// row of the shard. docs/formats/dataset.md describes them.
//
//   index       fate u8 [n] · if hashed: hash u64 [n] · if classed: class u32 [n] · if timed: micros i64 [n]
//   assignment  part u8 [n] · if copied: copies u16 [n]
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sundog::data {

inline constexpr uint32_t kNoClass = 0xFFFFFFFF;  // the label is missing
inline constexpr int64_t kNoTime = INT64_MIN;     // the time is missing
inline constexpr int64_t kMaxClasses = 1000;

// Where a row goes. kUndersampled rows belong to the training part for statistics, but are not written.
enum class Part : uint8_t { train = 0, valid = 1, test = 2, undersampled = 3, duplicate = 254, out = 255 };

struct RowIndex {
  std::vector<uint8_t> fates;  // 0 keep, 1 quarantine, 2 drop
  std::vector<uint64_t> hashes;
  std::vector<uint32_t> classes;
  std::vector<int64_t> times;
};
struct RowAssignment {
  std::vector<Part> parts;
  std::vector<uint16_t> copies;  // empty: one each
};

namespace row_plan {

template <class T>
void append(std::string& out, const std::vector<T>& values) {
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

template <class T>
Status take(std::string_view& bytes, size_t rows, std::vector<T>& out) {
  if (bytes.size() < rows * sizeof(T)) return fail(Code::data_loss, "A plan file is shorter than its shard.");
  out.resize(rows);
  // NOLINTNEXTLINE(bugprone-suspicious-stringview-data-usage): the size was checked above.
  if (rows > 0) std::memcpy(out.data(), bytes.data(), rows * sizeof(T));
  bytes.remove_prefix(rows * sizeof(T));
  return done;
}

}  // namespace row_plan

inline std::string encode(const RowIndex& index) {
  std::string out;
  row_plan::append(out, index.fates);
  row_plan::append(out, index.hashes);
  row_plan::append(out, index.classes);
  row_plan::append(out, index.times);
  return out;
}

inline Result<RowIndex> decode_index(std::string_view bytes, size_t rows, bool hashed, bool classed, bool timed) {
  RowIndex out;
  SUNDOG_CHECK(row_plan::take(bytes, rows, out.fates));
  if (hashed) SUNDOG_CHECK(row_plan::take(bytes, rows, out.hashes));
  if (classed) SUNDOG_CHECK(row_plan::take(bytes, rows, out.classes));
  if (timed) SUNDOG_CHECK(row_plan::take(bytes, rows, out.times));
  if (!bytes.empty()) return fail(Code::data_loss, "A plan file is longer than its shard.");
  return out;
}

inline std::string encode(const RowAssignment& assignment) {
  std::string out;
  row_plan::append(out, assignment.parts);
  row_plan::append(out, assignment.copies);
  return out;
}

inline Result<RowAssignment> decode_assignment(std::string_view bytes, size_t rows) {
  RowAssignment out;
  SUNDOG_CHECK(row_plan::take(bytes, rows, out.parts));
  if (!bytes.empty()) SUNDOG_CHECK(row_plan::take(bytes, rows, out.copies));
  if (!bytes.empty()) return fail(Code::data_loss, "A plan file is longer than its shard.");
  return out;
}

}  // namespace sundog::data
