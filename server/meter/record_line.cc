#include "meter/record_line.h"

#include <array>
#include <charconv>

namespace sundog::meter {
namespace {

constexpr size_t kChecksumDigits = 8;

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value & 1) != 0 ? 0xEDB88320U ^ (value >> 1) : value >> 1;
    table[i] = value;
  }
  return table;
}

// CRC-32 as in zlib and Ethernet.
uint32_t crc32(std::string_view text) {
  static constexpr auto kTable = crc_table();
  uint32_t crc = 0xFFFFFFFFU;
  for (const char c : text) crc = kTable[(crc ^ static_cast<unsigned char>(c)) & 0xFFU] ^ (crc >> 8);
  return crc ^ 0xFFFFFFFFU;
}

std::string checksum(std::string_view text) {
  char digits[kChecksumDigits + 1];
  std::snprintf(digits, sizeof digits, "%08x", crc32(text));
  return digits;
}

template <class T>
void read_number(const Json& json, const char* key, T& target) {
  const auto found = json.find(key);
  if (found != json.end() && found->is_number()) target = found->get<T>();
}

void read_text(const Json& json, const char* key, std::string& target) {
  const auto found = json.find(key);
  if (found != json.end() && found->is_string()) target = found->get<std::string>();
}

}  // namespace

Json record_json(const UsageRecord& record) {
  return {{"id", record.id},
          {"tenant", record.tenant},
          {"function", record.function},
          {"version", record.version},
          {"kind", record.kind},
          {"request_id", record.request_id},
          {"outcome", record.outcome},
          {"ended_ms", epoch_millis(record.ended)},
          {"memory_mb", record.memory_mb},
          {"queue_ms", record.queue_ms},
          {"restore_ms", record.restore_ms},
          {"init_ms", record.init_ms},
          {"handler_ms", record.handler_ms},
          {"billed_ms", record.billed_ms},
          {"billed_init_ms", record.billed_init_ms},
          {"cpu_ms", record.cpu_ms},
          {"peak_memory_mb", record.peak_memory_mb},
          {"bytes_in", record.bytes_in},
          {"bytes_out", record.bytes_out}};
}

std::string record_line(const UsageRecord& record) {
  const std::string json = dump(record_json(record));
  return checksum(json) + " " + json + "\n";
}

std::optional<UsageRecord> parse_record_line(std::string_view line) {
  if (line.size() < kChecksumDigits + 1 || line[kChecksumDigits] != ' ') return std::nullopt;
  const auto text = line.substr(kChecksumDigits + 1);
  if (checksum(text) != line.substr(0, kChecksumDigits)) return std::nullopt;
  const auto parsed = parse_json(text, "a usage record");
  if (!parsed.ok() || !parsed->is_object()) return std::nullopt;
  const auto& json = *parsed;
  UsageRecord record;
  read_text(json, "id", record.id);
  read_text(json, "tenant", record.tenant);
  read_text(json, "function", record.function);
  read_text(json, "version", record.version);
  read_text(json, "kind", record.kind);
  read_text(json, "request_id", record.request_id);
  read_text(json, "outcome", record.outcome);
  int64_t ended = 0;
  read_number(json, "ended_ms", ended);
  record.ended = from_epoch_millis(ended);
  read_number(json, "memory_mb", record.memory_mb);
  read_number(json, "queue_ms", record.queue_ms);
  read_number(json, "restore_ms", record.restore_ms);
  read_number(json, "init_ms", record.init_ms);
  read_number(json, "handler_ms", record.handler_ms);
  read_number(json, "billed_ms", record.billed_ms);
  read_number(json, "billed_init_ms", record.billed_init_ms);
  read_number(json, "cpu_ms", record.cpu_ms);
  read_number(json, "peak_memory_mb", record.peak_memory_mb);
  read_number(json, "bytes_in", record.bytes_in);
  read_number(json, "bytes_out", record.bytes_out);
  return record;
}

}  // namespace sundog::meter
