#include "meter/roll_up.h"

#include <algorithm>
#include <cstdio>

#include "meter/record_line.h"

namespace sundog::meter {
namespace {

constexpr int64_t kFormat = 1;
constexpr size_t kLargestFile = size_t{1} << 30;
constexpr std::string_view kPrefix = "daily-";
constexpr std::string_view kSuffix = ".rollup";
constexpr size_t kFields = 12;

std::string line_of(const UsageSum& sum) {
  const auto& q = sum.quantity;
  return dump(Json::array({sum.tenant, sum.function, sum.kind, q.invocations, q.billed_ms, q.billed_mb_ms, q.init_ms,
                           q.init_mb_ms, q.restore_ms, q.restore_mb_ms, sum.memory_mb, epoch_millis(sum.first)})) +
         "\n";
}

std::optional<UsageSum> sum_of(std::string_view line, const std::string& day) {
  const auto json = parse_json(line, "a line of a roll-up");
  if (!json.ok() || !json->is_array() || json->size() != kFields) return std::nullopt;
  for (size_t i = 0; i < kFields; ++i) {
    if (i < 3 ? !(*json)[i].is_string() : !(*json)[i].is_number_integer()) return std::nullopt;
  }
  const auto number = [&json](size_t i) { return (*json)[i].get<int64_t>(); };
  UsageSum sum;
  sum.tenant = (*json)[0].get<std::string>();
  sum.day = day;
  sum.function = (*json)[1].get<std::string>();
  sum.kind = (*json)[2].get<std::string>();
  sum.quantity = {number(3), number(4), number(5), number(6), number(7), number(8), number(9)};
  sum.memory_mb = static_cast<int>(number(10));
  sum.first = from_epoch_millis(number(11));
  return sum;
}

Result<RollUp> head_of(std::string_view line, const std::string& day) {
  SUNDOG_TRY(json, parse_json(line, "a roll-up's first line"));
  SUNDOG_TRY(format, get_int(json, "format"));
  SUNDOG_TRY(named, get_string(json, "day"));
  SUNDOG_TRY(records, get_int(json, "records"));
  SUNDOG_TRY(duplicates, get_int(json, "duplicates"));
  const auto segments = json.find("segments");
  if (format != kFormat || named != day || segments == json.end() || !segments->is_object()) {
    return fail(Code::data_loss, "It is of another format or day.");
  }
  RollUp roll_up{day, {}, records, duplicates, {}, {}};
  for (const auto& [name, bytes] : segments->items()) {
    if (!bytes.is_number_integer()) return fail(Code::data_loss, "A segment's size is no number.");
    roll_up.segments[name] = bytes.get<int64_t>();
  }
  return roll_up;
}

Result<RollUp> parse(std::string_view text, const std::string& day, const std::string& tenant) {
  const auto damaged = [] { return fail(Code::data_loss, "It is damaged."); };
  const size_t last = text.size() < 2 ? std::string_view::npos : text.rfind('\n', text.size() - 2);
  if (last == std::string_view::npos) return damaged();
  const auto body = text.substr(0, last + 1);
  if (text.substr(last + 1) != checksum(body) + "\n") return damaged();
  size_t begin = body.find('\n') + 1;
  SUNDOG_TRY(roll_up, head_of(body.substr(0, begin - 1), day));
  const std::string wanted = tenant.empty() ? "" : "[" + dump(Json(tenant)) + ",";
  while (begin < body.size()) {
    const size_t end = body.find('\n', begin);
    const auto line = body.substr(begin, end - begin);
    begin = end + 1;
    if (!line.starts_with(wanted)) continue;
    auto sum = sum_of(line, day);
    if (!sum) return damaged();
    roll_up.sums.push_back(*std::move(sum));
  }
  return roll_up;
}

}  // namespace

void Adder::add(const std::string& day, const UsageRecord& record) {
  auto& sum = sums_[{record.tenant, day, record.function, record.kind}];
  if (sum.quantity.invocations == 0) {
    sum = {record.tenant, day, record.function, record.kind, {}, 0, record.ended};
  }
  sum.quantity.add(record);
  sum.memory_mb = std::max(sum.memory_mb, record.memory_mb);
  sum.first = std::min(sum.first, record.ended);
}

std::vector<UsageSum> Adder::sums() const {
  std::vector<UsageSum> all;
  all.reserve(sums_.size());
  for (const auto& [key, sum] : sums_) all.push_back(sum);
  return all;
}

Path roll_up_path(const Path& folder, const std::string& day) {
  return folder / (std::string(kPrefix) + day + std::string(kSuffix));
}

Result<RollUp> add_up_day(const std::string& day, const std::vector<Segment>& segments) {
  RollUp roll_up{.day = day, .segments = {}, .duplicates_of = {}, .sums = {}};
  SeenIds seen;
  Adder adder;
  for (const auto& segment : segments) {
    SUNDOG_TRY(bytes, for_each_record(segment.path, [&](const UsageRecord& record) {
                 if (seen.add(record.id)) {
                   ++roll_up.records;
                   adder.add(day, record);
                 } else {
                   ++roll_up.duplicates;
                   ++roll_up.duplicates_of[record.tenant];
                 }
                 return true;
               }));
    roll_up.segments[segment.name()] = bytes;
  }
  roll_up.sums = adder.sums();
  return roll_up;
}

Status write_roll_up(const Path& folder, const RollUp& roll_up) {
  std::string text = dump({{"format", kFormat},
                           {"day", roll_up.day},
                           {"segments", roll_up.segments},
                           {"records", roll_up.records},
                           {"duplicates", roll_up.duplicates}}) +
                     "\n";
  for (const auto& sum : roll_up.sums) text += line_of(sum);
  return write_file_durably(roll_up_path(folder, roll_up.day), text + checksum(text) + "\n");
}

Result<std::optional<RollUp>> read_roll_up(const Path& folder, const std::string& day, const std::string& tenant) {
  const auto path = roll_up_path(folder, day);
  if (!std::filesystem::exists(path)) return std::optional<RollUp>();
  SUNDOG_TRY(text, read_file(path, kLargestFile));
  auto roll_up = parse(text, day, tenant);
  if (roll_up.ok()) return std::optional(*std::move(roll_up));
  return fail(
      Code::data_loss, "The roll-up " + path.string() + " cannot be used. " + roll_up.error().message,
      "Put back those of the day's segments that are in an archive, then remove the file; it is made again from the "
      "records.");
}

bool is_current(const RollUp& roll_up, const std::vector<Segment>& segments) {
  return std::all_of(segments.begin(), segments.end(), [&roll_up](const Segment& segment) {
    const auto found = roll_up.segments.find(segment.name());
    std::error_code error;
    const auto bytes = std::filesystem::file_size(segment.path, error);
    return !error && found != roll_up.segments.end() && found->second == static_cast<int64_t>(bytes);
  });
}

std::optional<std::string> absent_segment(const Path& folder, const std::string& day,
                                          const std::vector<Segment>& segments) {
  const auto text = read_file(roll_up_path(folder, day), kLargestFile);
  if (!text.ok()) return std::nullopt;
  const auto head = head_of(std::string_view(*text).substr(0, text->find('\n')), day);
  if (!head.ok()) return std::nullopt;
  for (const auto& [name, bytes] : head->segments) {
    if (std::ranges::find(segments, name, &Segment::name) == segments.end()) return name;
  }
  return std::nullopt;
}

Result<std::vector<std::string>> rolled_up_days(const Path& folder) {
  std::vector<std::string> days;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) continue;
    auto day = name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
    if (day_begin(day)) days.push_back(std::move(day));
  }
  if (error) return fail_errno("read folder " + folder.string(), error.value());
  return days;
}

}  // namespace sundog::meter
