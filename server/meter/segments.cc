#include "meter/segments.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/crypto.h"
#include "meter/record_line.h"

namespace sundog::meter {
namespace {

constexpr std::string_view kPrefix = "usage-";
constexpr std::string_view kSuffix = ".ledger";
constexpr size_t kReadBytes = 1 << 20;

std::optional<Segment> segment_of(const Path& path) {
  const std::string name = path.filename().string();
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  Segment segment{path};
  long long first = 0, number = 0;
  if (std::sscanf(name.c_str(), "usage-%14lld-%8lld.ledger", &first, &number) != 2) return std::nullopt;
  segment.first_ms = first;
  segment.number = number;
  return segment;
}

}  // namespace

std::string segment_name(int64_t first_ms, int64_t number) {
  char text[64];
  std::snprintf(text, sizeof text, "usage-%014lld-%08lld.ledger", static_cast<long long>(first_ms),
                static_cast<long long>(number));
  return text;
}

Result<std::vector<Segment>> list_segments(const Path& folder) {
  std::vector<Segment> segments;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (auto segment = segment_of(entry.path())) segments.push_back(*std::move(segment));
  }
  if (error) return fail_errno("read folder " + folder.string(), error.value());
  std::sort(segments.begin(), segments.end(), [](const Segment& a, const Segment& b) { return a.number < b.number; });
  return segments;
}

Result<int64_t> for_each_line(const Path& path, const std::function<bool(std::string_view, int64_t offset)>& each) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return fail_errno("read " + path.string(), errno);
  std::string buffer;
  int64_t offset = 0;
  std::string piece(kReadBytes, '\0');
  while (true) {
    const ssize_t count = ::read(file.get(), piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("read " + path.string(), errno);
    if (count == 0) return offset;
    buffer.append(piece.data(), static_cast<size_t>(count));
    size_t begin = 0;
    while (true) {
      const size_t end = buffer.find('\n', begin);
      if (end == std::string::npos) break;
      if (!each(std::string_view(buffer).substr(begin, end - begin), offset)) return offset;
      offset += static_cast<int64_t>(end - begin + 1);
      begin = end + 1;
    }
    buffer.erase(0, begin);
  }
}

Result<int64_t> for_each_record(const Path& path, const std::function<bool(UsageRecord record)>& each) {
  std::optional<Error> wrong;
  auto end = for_each_line(path, [&](std::string_view line, int64_t offset) {
    auto record = parse_record_line(line);
    if (record.ok()) return each(*std::move(record));
    const std::string where = "The ledger's file " + path.string() + " at byte " + std::to_string(offset) + ": ";
    wrong = record.error().code == Code::unsupported
                ? fail(Code::unsupported, where + record.error().message, record.error().hint)
                : fail(Code::data_loss, where + "it is damaged. " + record.error().message,
                       "Restore the file from a backup; no bill can be right without it.");
    return false;
  });
  if (wrong) return *wrong;
  return end;
}

bool SeenIds::add(std::string_view id) {
  const auto digest = sha256(id);
  Half a = 0, b = 0;
  std::memcpy(&a, digest.data(), sizeof a);
  std::memcpy(&b, digest.data() + sizeof a, sizeof b);
  return seen_.insert({a, b}).second;
}

std::optional<WallTime> day_begin(std::string_view day) {
  int year = 0;
  unsigned month = 0, date = 0;
  char end = 0;
  if (day.size() != 10 || std::sscanf(std::string(day).c_str(), "%4d-%2u-%2u%c", &year, &month, &date, &end) != 3) {
    return std::nullopt;
  }
  const std::chrono::year_month_day parsed{std::chrono::year(year), std::chrono::month(month), std::chrono::day(date)};
  if (!parsed.ok()) return std::nullopt;
  const WallTime begin{std::chrono::sys_days(parsed)};
  return iso_day(begin) == day ? std::optional(begin) : std::nullopt;
}

}  // namespace sundog::meter
