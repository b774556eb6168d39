#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>

#include "meter/record_line.h"
#include "meter/roll_up.h"
#include "meter/segments.h"
#include "meter/usage.h"

namespace sundog::meter {
namespace {

constexpr Millis kSyncEvery{200};
constexpr int64_t kSegmentBytes = 64 << 20;
constexpr std::chrono::hours kDay{24};
const std::string kNobody = "\n";  // no tenant's name

int64_t invocations_of(const std::vector<UsageSum>& sums) {
  int64_t all = 0;
  for (const auto& sum : sums) all += sum.quantity.invocations;
  return all;
}

class FileLedger final : public Ledger {
 public:
  FileLedger(Path folder, Clock& clock, Log& log) : folder_(std::move(folder)), clock_(clock), log_(log) {}
  ~FileLedger() override;
  Status recover();

  Status append(const UsageRecord& record) override;
  Status read(const std::string& tenant, WallTime from, WallTime to,
              const std::function<bool(const UsageRecord&)>& each) const override;
  Result<std::vector<UsageSum>> sums(const UsageQuery& query) const override;
  Result<Json> verify(const UsageQuery& query) const override;
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
  void roll_up_behind();
  void roll_up_days();
  using Days = std::map<std::string, std::vector<Segment>>;
  Result<Days> days() const;  // also those of which only the roll-up is left
  bool is_over(const std::string& day) const;
  Error cannot_be_made_again(const std::string& day, const std::string& absent) const;
  Result<std::vector<UsageSum>> sums_of_day(const std::string& day, const std::vector<Segment>& segments,
                                            const std::string& tenant) const;
  Json verified_day(const std::string& day, const std::vector<Segment>& segments, const std::string& tenant,
                    bool& ok) const;

  const Path folder_;
  Clock& clock_;
  Log& log_;
  std::mutex mutex_;
  std::condition_variable wake_, roll_wake_;
  using File = std::shared_ptr<UniqueFd>;  // shared with a sync under way
  File file_;
  std::vector<File> left_;      // earlier segments that are not on the disk yet
  bool folder_dirty_ = false;   // neither is the name of a new one
  std::deque<Unwritten> kept_;  // what the disk did not take, oldest first
  int64_t bytes_ = 0;
  int64_t number_ = 0;
  WallTime day_;  // its beginning
  bool dirty_ = false;
  std::atomic<bool> stopping_ = false;
  bool day_over_ = false;             // there may be a day to roll up
  mutable std::mutex roll_up_mutex_;  // while one is made
  std::thread syncer_, roller_;
};

FileLedger::~FileLedger() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  roll_wake_.notify_all();
  if (syncer_.joinable()) syncer_.join();
  if (roller_.joinable()) roller_.join();
}

// Only the last segment can be torn: an earlier one was left when it was whole.
Status FileLedger::recover() {
  SUNDOG_CHECK(make_directories(folder_));
  SUNDOG_TRY(segments, list_segments(folder_));
  if (!segments.empty()) {
    const auto& last = segments.back();
    int64_t whole = 0;
    const auto end = for_each_line(last.path, [&whole](std::string_view line, int64_t offset) {
      if (!is_whole_line(line)) return true;
      whole = offset + static_cast<int64_t>(line.size()) + 1;
      return true;
    });
    if (!end.ok()) return end.error();
    if (::truncate(last.path.c_str(), whole) != 0)
      return fail_errno("cut a torn record from " + last.path.string(), errno);
    SUNDOG_CHECK(open_segment(last));
  }
  day_over_ = true;
  syncer_ = std::thread([this] { sync_behind(); });
  roller_ = std::thread([this] { roll_up_behind(); });
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
  day_ = std::chrono::floor<std::chrono::days>(from_epoch_millis(segment.first_ms));
  return done;
}

Status FileLedger::rotate_if_due(WallTime ended) {
  const bool same_day = ended >= day_ && ended < day_ + kDay;
  if (file_ && bytes_ < kSegmentBytes && same_day) return done;
  const int64_t first_ms = epoch_millis(ended);
  if (!same_day) {
    day_over_ = true;
    roll_wake_.notify_all();
  }
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
    wake_.wait_for(lock, kSyncEvery, [this] { return stopping_.load(); });
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
  bool more = true;
  for (const auto& segment : segments) {
    const auto begin = day_begin(segment.day());
    if (!more || !begin || *begin + kDay <= from || *begin >= to) continue;
    SUNDOG_CHECK(for_each_record(segment.path, [&](const UsageRecord& record) {
      const bool wanted = record.tenant == tenant && record.ended >= from && record.ended < to && seen.add(record.id);
      more = !wanted || each(record);
      return more;
    }));
  }
  return done;
}

Result<FileLedger::Days> FileLedger::days() const {
  SUNDOG_TRY(segments, list_segments(folder_));
  SUNDOG_TRY(rolled_up, rolled_up_days(folder_));
  Days days;
  for (auto& day : rolled_up) days[std::move(day)];
  for (auto& segment : segments) days[segment.day()].push_back(std::move(segment));
  return days;
}

bool FileLedger::is_over(const std::string& day) const {
  return day < iso_day(clock_.wall());
}

Error FileLedger::cannot_be_made_again(const std::string& day, const std::string& absent) const {
  return fail(Code::data_loss,
              "The roll-up " + roll_up_path(folder_, day).string() +
                  " is not what the day's files hold now, and cannot be made again: it counts " + absent +
                  ", which is not there.",
              "Put that file back into " + folder_.string() + "; the roll-up is then made again from all records.");
}

// From the roll-up; if there is none that fits, it is made, unless that would lose what only the old one still has.
// Without room on the disk the sums are still right.
Result<std::vector<UsageSum>> FileLedger::sums_of_day(const std::string& day, const std::vector<Segment>& segments,
                                                      const std::string& tenant) const {
  const std::lock_guard lock(roll_up_mutex_);
  auto kept = read_roll_up(folder_, day, tenant);
  if (kept.ok() && *kept && is_current(**kept, segments)) return std::move((*kept)->sums);
  if (!kept.ok() && segments.empty()) return kept.error();
  if (const auto absent = absent_segment(folder_, day, segments)) return cannot_be_made_again(day, *absent);
  SUNDOG_TRY(made, add_up_day(day, segments));
  const Status written = write_roll_up(folder_, made);
  if (!written.ok()) log_.warn("roll_up_not_written", {{"day", day}, {"error", written.error().text()}});
  if (!tenant.empty()) std::erase_if(made.sums, [&tenant](const UsageSum& sum) { return sum.tenant != tenant; });
  return std::move(made.sums);
}

Result<std::vector<UsageSum>> FileLedger::sums(const UsageQuery& query) const {
  SUNDOG_TRY(all_days, days());
  std::vector<UsageSum> all;
  for (const auto& [day, segments] : all_days) {
    const auto begin = day_begin(day);
    if (!begin || *begin + kDay <= query.from || *begin >= query.to) continue;
    const bool whole = query.from <= *begin && *begin + kDay <= query.to;
    if (whole && is_over(day)) {
      SUNDOG_TRY(of_day, sums_of_day(day, segments, query.tenant));
      all.insert(all.end(), of_day.begin(), of_day.end());
      continue;
    }
    SeenIds seen;
    Adder adder;
    for (const auto& segment : segments) {
      SUNDOG_CHECK(for_each_record(segment.path, [&](const UsageRecord& record) {
        const bool wanted = (query.tenant.empty() || record.tenant == query.tenant) &&
                            (whole || (record.ended >= query.from && record.ended < query.to));
        if (wanted && seen.add(record.id)) adder.add(day, record);
        return true;
      }));
    }
    const auto of_day = adder.sums();
    all.insert(all.end(), of_day.begin(), of_day.end());
  }
  std::sort(all.begin(), all.end(), [](const UsageSum& a, const UsageSum& b) {
    return std::tie(a.tenant, a.day, a.function, a.kind) < std::tie(b.tenant, b.day, b.function, b.kind);
  });
  return all;
}

Json FileLedger::verified_day(const std::string& day, const std::vector<Segment>& segments, const std::string& tenant,
                              bool& ok) const {
  const auto answer = [&](const char* state, int64_t records, int64_t duplicates, const std::string& problem) {
    ok = ok && problem.empty();
    return Json{{"day", day}, {"state", state}, {"records", records}, {"duplicates", duplicates}, {"problem", problem}};
  };
  const std::lock_guard lock(roll_up_mutex_);
  const auto kept = read_roll_up(folder_, day, tenant);
  if (!kept.ok()) return answer("differs", 0, 0, kept.error().text());
  if (const auto absent = *kept ? absent_segment(folder_, day, segments) : std::nullopt) {
    const auto problem = is_current(**kept, segments) ? "" : cannot_be_made_again(day, *absent).text();
    return answer("no_records", invocations_of((*kept)->sums), tenant.empty() ? (*kept)->duplicates : 0, problem);
  }
  auto added = add_up_day(day, segments);
  if (!added.ok()) return answer("differs", 0, 0, added.error().text());
  auto& sums = added->sums;
  if (!tenant.empty()) std::erase_if(sums, [&tenant](const UsageSum& sum) { return sum.tenant != tenant; });
  const int64_t records = invocations_of(sums);
  const int64_t duplicates = tenant.empty() ? added->duplicates : added->duplicates_of[tenant];
  if (!*kept || !is_current(**kept, segments)) return answer("no_roll_up", records, duplicates, "");
  if ((*kept)->sums == sums) return answer("matches", records, duplicates, "");
  return answer("differs", records, duplicates,
                "The roll-up " + roll_up_path(folder_, day).string() +
                    " is not what the day's records add up to. Remove the file; it is made again from the records.");
}

Result<Json> FileLedger::verify(const UsageQuery& query) const {
  SUNDOG_TRY(all_days, days());
  bool ok = true;
  Json shown = Json::array();
  for (const auto& [day, segments] : all_days) {
    const auto begin = day_begin(day);
    if (!begin || *begin + kDay <= query.from || *begin >= query.to) continue;
    shown.push_back(verified_day(day, segments, query.tenant, ok));
  }
  return Json{{"ok", ok}, {"days", std::move(shown)}};
}

void FileLedger::roll_up_days() {
  const auto all_days = days();
  if (!all_days.ok()) log_.warn("roll_ups_not_made", {{"error", all_days.error().text()}});
  if (!all_days.ok()) return;
  for (const auto& [day, segments] : *all_days) {
    if (stopping_ || segments.empty() || !is_over(day)) continue;
    const auto sums = sums_of_day(day, segments, kNobody);
    if (!sums.ok()) log_.warn("roll_up_not_made", {{"day", day}, {"error", sums.error().text()}});
  }
}

// Makes the roll-ups of days that are over, so that no bill has to wait for them.
void FileLedger::roll_up_behind() {
  std::unique_lock lock(mutex_);
  while (true) {
    roll_wake_.wait(lock, [this] { return stopping_ || day_over_; });
    if (stopping_) return;
    day_over_ = false;
    lock.unlock();
    roll_up_days();
    lock.lock();
  }
}

}  // namespace

Result<std::unique_ptr<Ledger>> open_ledger(const Path& folder, Clock& clock, Log& log) {
  auto ledger = std::make_unique<FileLedger>(folder, clock, log);
  SUNDOG_CHECK(ledger->recover());
  return std::unique_ptr<Ledger>(std::move(ledger));
}

}  // namespace sundog::meter
