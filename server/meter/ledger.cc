#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_set>

#include "base/crypto.h"
#include "meter/bill.h"
#include "meter/record_line.h"
#include "meter/usage.h"

namespace sundog::meter {
namespace {

constexpr Millis kSyncEvery{200};
constexpr int64_t kSegmentBytes = 64 << 20;
constexpr std::string_view kPrefix = "usage-";
constexpr std::string_view kSuffix = ".ledger";
constexpr size_t kReadBytes = 1 << 20;
// How much older or newer than its segment's first record a record may be: a clock that was set.
constexpr std::chrono::hours kClockSlack{2};

// "usage-<milliseconds since 1970 of the first record>-<number>.ledger"; both with leading zeros, so that names sort.
struct Segment {
  Path path;
  int64_t first_ms = 0;
  int64_t number = 0;
};

std::string segment_name(int64_t first_ms, int64_t number) {
  char text[64];
  std::snprintf(text, sizeof text, "usage-%014lld-%08lld.ledger", static_cast<long long>(first_ms),
                static_cast<long long>(number));
  return text;
}

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

// Calls `each` for every whole line until it returns false; gives the offset behind the last whole line.
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

// Ids already read: 16 bytes each, however long they are.
class SeenIds {
 public:
  // True the first time.
  bool add(std::string_view id) {
    const auto digest = sha256(id);
    Half a = 0, b = 0;
    std::memcpy(&a, digest.data(), sizeof a);
    std::memcpy(&b, digest.data() + sizeof a, sizeof b);
    return seen_.insert({a, b}).second;
  }

 private:
  using Half = uint64_t;
  struct Hash {
    size_t operator()(const std::pair<Half, Half>& key) const { return key.first; }
  };
  std::unordered_set<std::pair<Half, Half>, Hash> seen_;
};

class FileLedger final : public Ledger {
 public:
  FileLedger(Path folder, Clock& clock) : folder_(std::move(folder)), clock_(clock) {}
  ~FileLedger() override;
  Status recover();

  Status append(const UsageRecord& record) override;
  Status read(const std::string& tenant, WallTime from, WallTime to,
              const std::function<bool(const UsageRecord&)>& each) const override;
  Result<Json> bill(const BillQuery& query, const PricePlan& plan) const override;
  Status ready() override;
  Status sync() override;

 private:
  Status open_segment(const Segment& segment);
  struct Unwritten {
    WallTime ended;
    std::string line;
  };
  Status rotate_if_due(WallTime ended);  // this and the next two with mutex_ held
  Status write(const Unwritten& record);
  Status write_kept();
  void sync_behind();

  const Path folder_;
  Clock& clock_;
  std::mutex mutex_;
  std::condition_variable wake_;
  using File = std::shared_ptr<UniqueFd>;  // shared with a sync under way
  File file_;
  std::vector<File> left_;      // earlier segments that are not on the disk yet
  bool folder_dirty_ = false;   // neither is the name of a new one
  std::deque<Unwritten> kept_;  // what the disk did not take, oldest first
  int64_t bytes_ = 0;
  int64_t number_ = 0;
  std::string day_;
  bool dirty_ = false, stopping_ = false;
  std::thread syncer_;
};

FileLedger::~FileLedger() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (syncer_.joinable()) syncer_.join();
}

// Only the last segment can be torn: an earlier one was left when it was whole.
Status FileLedger::recover() {
  SUNDOG_CHECK(make_directories(folder_));
  SUNDOG_TRY(segments, list_segments(folder_));
  if (!segments.empty()) {
    const auto& last = segments.back();
    int64_t whole = 0;
    const auto end = for_each_line(last.path, [&whole](std::string_view line, int64_t offset) {
      if (!parse_record_line(line)) return true;
      whole = offset + static_cast<int64_t>(line.size()) + 1;
      return true;
    });
    if (!end.ok()) return end.error();
    if (::truncate(last.path.c_str(), whole) != 0)
      return fail_errno("cut a torn record from " + last.path.string(), errno);
    SUNDOG_CHECK(open_segment(last));
  }
  syncer_ = std::thread([this] { sync_behind(); });
  return done;
}

Status FileLedger::open_segment(const Segment& segment) {
  UniqueFd file(::open(segment.path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file) return fail_errno("open " + segment.path.string(), errno);
  struct stat info{};
  if (::fstat(file.get(), &info) != 0) return fail_errno("look at " + segment.path.string(), errno);
  if (file_) left_.push_back(std::move(file_));
  folder_dirty_ = true;
  file_ = std::make_shared<UniqueFd>(std::move(file));
  bytes_ = info.st_size;
  number_ = segment.number;
  day_ = iso_day(from_epoch_millis(segment.first_ms));
  return done;
}

Status FileLedger::rotate_if_due(WallTime ended) {
  if (file_ && bytes_ < kSegmentBytes && iso_day(ended) == day_) return done;
  const int64_t first_ms = epoch_millis(ended);
  return open_segment({folder_ / segment_name(first_ms, number_ + 1), first_ms, number_ + 1});
}

Status FileLedger::append(const UsageRecord& record) {
  std::string line = record_line(record);
  const std::lock_guard lock(mutex_);
  kept_.push_back({record.ended, std::move(line)});
  auto written = write_kept();
  if (!std::exchange(dirty_, true)) wake_.notify_all();
  return written;
}

Status FileLedger::ready() {
  const std::lock_guard lock(mutex_);
  return write_kept();
}

// In the order of their coming, as far as the disk takes them.
Status FileLedger::write_kept() {
  while (!kept_.empty()) {
    SUNDOG_CHECK(write(kept_.front()));
    kept_.pop_front();
  }
  return done;
}

Status FileLedger::write(const Unwritten& record) {
  SUNDOG_CHECK(rotate_if_due(record.ended));
  auto written = write_all(file_->get(), record.line);
  if (!written.ok()) {
    // A full disk may have taken a part of it: what follows must begin on a line of its own.
    if (::ftruncate(file_->get(), bytes_) != 0) file_.reset();
    return fail(written.error().code, "The ledger cannot be written. " + written.error().message,
                written.error().hint.empty() ? "Until it can, no invocation starts." : written.error().hint);
  }
  bytes_ += static_cast<int64_t>(record.line.size());
  return done;
}

void FileLedger::sync_behind() {
  std::unique_lock lock(mutex_);
  while (!stopping_ || dirty_) {
    wake_.wait(lock, [this] { return stopping_ || dirty_; });
    wake_.wait_for(lock, kSyncEvery, [this] { return stopping_; });
    const bool last = stopping_;
    lock.unlock();
    const bool synced = sync().ok();  // on failure what is left stays marked, and is tried again
    lock.lock();
    if (!synced && last) return;
  }
}

Status FileLedger::sync() {
  std::vector<File> files;
  bool folder = false;
  {
    const std::lock_guard lock(mutex_);
    if (auto written = write_kept(); !written.ok()) {
      std::string lines;
      for (const auto& record : kept_) lines += record.line;
      return fail(written.error().code,
                  std::to_string(kept_.size()) + " usage records are in memory only. " + written.error().message,
                  "They are, to append to the ledger's last file:\n" + lines);
    }
    files.swap(left_);
    if (file_) files.push_back(file_);
    folder = std::exchange(folder_dirty_, false);
    dirty_ = false;
  }
  auto synced = folder ? fsync_directory(folder_) : Status(done);
  for (const auto& file : files) {
    if (synced.ok() && ::fdatasync(file->get()) != 0) synced = fail_errno("write the ledger to disk", errno);
  }
  if (synced.ok()) return done;
  const std::lock_guard lock(mutex_);
  left_.insert(left_.end(), files.begin(), files.end());
  folder_dirty_ = folder_dirty_ || folder;
  dirty_ = true;
  return synced;
}

Status FileLedger::read(const std::string& tenant, WallTime from, WallTime to,
                        const std::function<bool(const UsageRecord&)>& each) const {
  SUNDOG_TRY(segments, list_segments(folder_));
  SeenIds seen;
  std::optional<Error> damaged;
  bool more = true;
  for (size_t i = 0; i < segments.size() && more; ++i) {
    const bool all_older = i + 1 < segments.size() && from_epoch_millis(segments[i + 1].first_ms) + kClockSlack < from;
    if (all_older || from_epoch_millis(segments[i].first_ms) - kClockSlack >= to) continue;
    const auto& path = segments[i].path;
    const auto end = for_each_line(path, [&](std::string_view line, int64_t offset) {
      const auto record = parse_record_line(line);
      if (!record) {
        damaged = fail(Code::data_loss,
                       "The ledger's file " + path.string() + " is damaged at byte " + std::to_string(offset) + ".",
                       "Restore the file from a backup; no bill can be right without it.");
        return false;
      }
      const bool wanted =
          record->tenant == tenant && record->ended >= from && record->ended < to && seen.add(record->id);
      more = !wanted || each(*record);
      return more;
    });
    if (damaged) return *damaged;
    if (!end.ok()) return end.error();
  }
  return done;
}

Result<Json> FileLedger::bill(const BillQuery& query, const PricePlan& plan) const {
  SUNDOG_CHECK(check_grouping(query));
  Bill bill(query, plan);
  SUNDOG_CHECK(read(query.tenant, query.from, query.to, [&bill](const UsageRecord& record) {
    bill.add(record);
    return true;
  }));
  return bill.finish(clock_.wall());
}

}  // namespace

Result<std::unique_ptr<Ledger>> open_ledger(const Path& folder, Clock& clock) {
  auto ledger = std::make_unique<FileLedger>(folder, clock);
  SUNDOG_CHECK(ledger->recover());
  return std::unique_ptr<Ledger>(std::move(ledger));
}

}  // namespace sundog::meter
