#include "meter/record_line.h"

#include <boost/crc.hpp>
#include <charconv>
#include <cmath>

#include "base/json_writer.h"

namespace sundog::meter {
namespace {

constexpr int64_t kFormat = 2;
constexpr size_t kChecksumDigits = 8;
constexpr int64_t kLargest = 9'000'000'000'000;  // of any number: a time in nanoseconds must still hold it
constexpr int64_t kLargestMemory = 1'000'000;

// The one list of a record's fields, for writing, reading and showing it.
template <class Record, class Visit>
void each_field(Record& record, Visit& visit) {
  visit("id", record.id);
  visit("tenant", record.tenant);
  visit("function", record.function);
  visit("version", record.version);
  visit("kind", record.kind);
  visit("request_id", record.request_id);
  visit("instance", record.instance);
  visit("outcome", record.outcome);
  visit("ended_ms", record.ended);
  visit("memory_mb", record.memory_mb);
  visit("queue_ms", record.queue_ms);
  visit("restore_ms", record.restore_ms);
  visit("init_ms", record.init_ms);
  visit("handler_ms", record.handler_ms);
  visit("billed_ms", record.billed_ms);
  visit("billed_init_ms", record.billed_init_ms);
  visit("billed_restore_ms", record.billed_restore_ms);
  visit("cpu_ms", record.cpu_ms);
  visit("peak_memory_mb", record.peak_memory_mb);
  visit("bytes_in", record.bytes_in);
  visit("bytes_out", record.bytes_out);
}

// Straight to text, on the way of every warm call.
class Writer {
 public:
  explicit Writer(JsonWriter& out) : out_(out) {}
  void operator()(std::string_view key, const std::string& value) { out_.add(key, value); }
  void operator()(std::string_view key, WallTime value) { out_.add(key, epoch_millis(value)); }
  void operator()(std::string_view key, int64_t value) { out_.add(key, value); }
  void operator()(std::string_view key, int value) { out_.add(key, int64_t{value}); }
  void operator()(std::string_view key, double value) {
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, std::isfinite(value) ? value : 0.0).ptr;
    out_.add_json(key, {text, static_cast<size_t>(end - text)});
  }

 private:
  JsonWriter& out_;
};

class Shower {
 public:
  void operator()(const char* key, WallTime value) { json[key] = epoch_millis(value); }
  template <class T>
  void operator()(const char* key, const T& value) {
    json[key] = value;
  }
  Json json = Json::object();
};

// Absent fields keep their default; a field of another type, or out of all bounds, is wrong.
class Reader {
 public:
  explicit Reader(const Json& json) : json_(json) {}
  void operator()(const char* key, std::string& target) {
    const auto* const field = find(key);
    if (field == nullptr) return;
    if (!field->is_string()) return refuse();
    target = field->get<std::string>();
  }
  void operator()(const char* key, WallTime& target) {
    int64_t millis = 0;
    (*this)(key, millis);
    target = from_epoch_millis(millis);
  }
  void operator()(const char* key, int& target) {
    int64_t value = target;
    (*this)(key, value);
    if (value > kLargestMemory) return refuse();
    target = static_cast<int>(value);
  }
  void operator()(const char* key, int64_t& target) {
    const auto* const field = find(key);
    if (field == nullptr) return;
    if (!field->is_number_integer()) return refuse();
    const auto value = field->get<int64_t>();
    if (value < 0 || value > kLargest) return refuse();
    target = value;
  }
  void operator()(const char* key, double& target) {
    const auto* const field = find(key);
    if (field == nullptr) return;
    if (!field->is_number()) return refuse();
    const auto value = field->get<double>();
    if (!(value >= 0 && value <= static_cast<double>(kLargest))) return refuse();
    target = value + 0.0;  // no -0
  }
  bool right() const { return right_; }

 private:
  const Json* find(const char* key) const {
    const auto found = json_.find(key);
    return found == json_.end() ? nullptr : &*found;
  }
  void refuse() { right_ = false; }

  const Json& json_;
  bool right_ = true;
};

}  // namespace

std::string checksum(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string digits(kChecksumDigits, '0');
  boost::crc_32_type sum;  // as in zlib and Ethernet
  sum.process_bytes(text.data(), text.size());
  uint32_t crc = sum.checksum();
  for (size_t i = kChecksumDigits; i-- > 0; crc >>= 4) digits[i] = kDigits[crc & 0xFU];
  return digits;
}

Json record_json(const UsageRecord& record) {
  Shower shower;
  each_field(record, shower);
  return std::move(shower.json);
}

std::string record_line(const UsageRecord& record) {
  JsonWriter json(640);
  json.add("v", kFormat);
  Writer writer(json);
  each_field(record, writer);
  const std::string text = json.finish();
  std::string line;
  line.reserve(text.size() + kChecksumDigits + 2);
  line += checksum(text);
  line += ' ';
  line += text;
  line += '\n';
  return line;
}

bool is_whole_line(std::string_view line) {
  return line.size() > kChecksumDigits && line[kChecksumDigits] == ' ' &&
         checksum(line.substr(kChecksumDigits + 1)) == line.substr(0, kChecksumDigits);
}

Result<UsageRecord> parse_record_line(std::string_view line) {
  if (!is_whole_line(line)) return fail(Code::data_loss, "A usage record is not whole.");
  SUNDOG_TRY(json, parse_json(line.substr(kChecksumDigits + 1), "a usage record"));
  if (!json.is_object()) return fail(Code::data_loss, "A usage record is not a JSON object.");
  SUNDOG_TRY(format, get_int(json, "v", 1));
  if (format < 1 || format > kFormat) {
    return fail(Code::unsupported,
                "A usage record has format " + std::to_string(format) + "; this server knows 1 and 2.",
                "Was the data folder used by a newer Sundog?");
  }
  UsageRecord record;
  Reader reader(json);
  each_field(record, reader);
  if (!reader.right()) return fail(Code::data_loss, "A usage record has a field that cannot be.");
  // Format 1 had no such field.
  if (format == 1) record.billed_restore_ms = static_cast<int64_t>(std::ceil(record.restore_ms));
  return record;
}

}  // namespace sundog::meter
