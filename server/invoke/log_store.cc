#include "invoke/log_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/json.h"
#include "base/json_writer.h"

namespace sundog::invoke {
namespace {

constexpr size_t kRecentBytes = 64 << 10;  // kept in memory a function, so that following does not read the disk
constexpr size_t kLineOverhead = 64;

std::string encoded(const LogLine& line) {
  return JsonWriter(line.text.size() + 2 * kLineOverhead)
             .add("s", line.sequence)
             .add("t", epoch_millis(line.time))
             .add("r", line.request_id)
             .add("x", line.text)
             .finish() +
         "\n";
}

std::optional<LogLine> decoded(std::string_view text) {
  const auto json = parse_json(text, "a log line");
  if (!json.ok()) return std::nullopt;
  const auto sequence = get_int(*json, "s");
  const auto time = get_int(*json, "t");
  auto request_id = get_string(*json, "r");
  auto line = get_string(*json, "x");
  if (!sequence.ok() || !time.ok() || !request_id.ok() || !line.ok()) return std::nullopt;
  return LogLine{*sequence, from_epoch_millis(*time), *std::move(request_id), *std::move(line)};
}

// Whole lines only; gives the number of bytes they take.
size_t for_each_line(std::string_view content, const std::function<void(std::string_view)>& each) {
  size_t begin = 0;
  while (true) {
    const size_t end = content.find('\n', begin);
    if (end == std::string_view::npos) return begin;
    each(content.substr(begin, end - begin));
    begin = end + 1;
  }
}

}  // namespace

Status LogStore::load() {
  if (loaded_) return done;
  SUNDOG_CHECK(make_directories(folder_));
  loaded_ = true;
  for (const auto& path : {older(), newer()}) {
    if (!std::filesystem::exists(path)) continue;
    const auto content = read_file(path, SIZE_MAX);
    if (!content.ok()) continue;
    const size_t whole = for_each_line(*content, [this](std::string_view text) {
      auto line = decoded(text);
      if (!line) return;
      next_ = std::max(next_, line->sequence + 1);
      remember(*std::move(line));
    });
    if (path == newer() && whole < content->size() && ::truncate(path.c_str(), static_cast<off_t>(whole)) != 0) {
      return fail_errno("cut a torn line from " + path.string(), errno);
    }
  }
  return open_segment();
}

Status LogStore::open_segment() {
  file_ = UniqueFd(::open(newer().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file_) return fail_errno("open " + newer().string(), errno);
  struct stat info{};
  if (::fstat(file_.get(), &info) != 0) return fail_errno("look at " + newer().string(), errno);
  bytes_ = info.st_size;
  return done;
}

Status LogStore::rotate() {
  file_.reset();
  if (::rename(newer().c_str(), older().c_str()) != 0) return fail_errno("rename " + newer().string(), errno);
  return open_segment();
}

void LogStore::remember(LogLine line) {
  recent_bytes_ += line.text.size() + kLineOverhead;
  recent_.push_back(std::move(line));
  while (recent_bytes_ > kRecentBytes && recent_.size() > 1) {
    recent_bytes_ -= recent_.front().text.size() + kLineOverhead;
    recent_.pop_front();
  }
}

Status LogStore::write(std::vector<LogLine> lines) {
  if (lines.empty()) return done;
  const auto coming = static_cast<int64_t>(lines.size());
  if (lost_ > 0) {
    lines.insert(lines.begin(), LogLine{0, lines.front().time, "",
                                        "[Sundog: " + std::to_string(lost_) +
                                            " lines before this one were not kept: " + why_lost_ + "]"});
  }
  auto written = write_all_of(std::move(lines));
  if (written.ok()) {
    lost_ = 0;
  } else {
    lost_ += coming;
    why_lost_ = written.error().message;
  }
  return written;
}

// A full disk may have taken a part of it: what follows must begin on a line of its own.
Status LogStore::append_block(const std::string& block) {
  auto written = write_all(file_.get(), block);
  if (!written.ok()) {
    if (::ftruncate(file_.get(), static_cast<off_t>(bytes_)) != 0) file_.reset();
    return written;
  }
  bytes_ += static_cast<int64_t>(block.size());
  return done;
}

Status LogStore::write_all_of(std::vector<LogLine> lines) {
  SUNDOG_CHECK(load());
  if (!file_) SUNDOG_CHECK(open_segment());
  std::string block;
  for (auto& line : lines) {
    line.sequence = next_++;
    block += encoded(line);
    remember(std::move(line));
    // A segment is passed by at most one block of this size.
    if (bytes_ + static_cast<int64_t>(block.size()) >= segment_bytes_) {
      SUNDOG_CHECK(append_block(block));
      block.clear();
      SUNDOG_CHECK(rotate());
    }
  }
  return append_block(block);
}

Result<std::vector<LogLine>> LogStore::read(int64_t after, size_t limit) {
  SUNDOG_CHECK(load());
  const bool in_memory = after + 1 >= next_ || (!recent_.empty() && recent_.front().sequence <= after + 1);
  if (!in_memory) return read_disk(after, limit);
  std::vector<LogLine> lines;
  for (const auto& line : recent_) {
    if (lines.size() == limit) break;
    if (line.sequence > after) lines.push_back(line);
  }
  return lines;
}

Result<std::vector<LogLine>> LogStore::read_disk(int64_t after, size_t limit) const {
  std::vector<LogLine> lines;
  for (const auto& path : {older(), newer()}) {
    if (!std::filesystem::exists(path)) continue;
    SUNDOG_TRY(content, read_file(path, SIZE_MAX));
    for_each_line(content, [&](std::string_view text) {
      if (lines.size() >= limit) return;
      auto line = decoded(text);
      if (line && line->sequence > after) lines.push_back(*std::move(line));
    });
  }
  return lines;
}

void LogStore::rest() {
  file_.reset();
  recent_.clear();
  recent_bytes_ = 0;
}

Status LogStore::remove() {
  rest();
  return remove_tree(folder_);
}

}  // namespace sundog::invoke
