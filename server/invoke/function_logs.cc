#include "invoke/function_logs.h"

#include <algorithm>
#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "invoke/log_store.h"

namespace sundog::invoke {
namespace {

constexpr Millis kWriteBehind{100};
constexpr size_t kMostCounted = 10'000;    // invocations whose output is counted at a time
constexpr size_t kMostPending = 64 << 20;  // bytes that wait for a disk that does not keep up
constexpr size_t kLongestLine = 64 << 10;
constexpr size_t kMostAwake = 64;  // functions whose file is open and whose last lines are in memory
constexpr auto kGap = "[Sundog: lines that came after this one were dropped, for the disk did not keep up]";

struct Key {
  std::string tenant, function;
  auto operator<=>(const Key&) const = default;
};

// A folder's name that no tenant or function can turn into another path.
std::string as_file_name(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    if (plain || (c == '.' && !out.empty())) {
      out.push_back(c);
    } else {
      constexpr char kDigits[] = "0123456789abcdef";
      out += {'%', kDigits[static_cast<unsigned char>(c) >> 4], kDigits[static_cast<unsigned char>(c) & 15]};
    }
  }
  return out.empty() ? "%" : out;
}

class WrittenLogs final : public FunctionLogs {
 public:
  WrittenLogs(Clock& clock, Pool& pool, Options options)
      : clock_(clock), pool_(pool), options_(std::move(options)), writer_([this] { write_behind(); }) {}
  ~WrittenLogs() override;

  void append(const std::string& tenant, const std::string& function, const std::string& request_id,
              std::string_view text) override;
  void end(const std::string& tenant, const std::string& function, const std::string& request_id,
           std::string_view text) override;
  Result<std::vector<LogLine>> read(const std::string& tenant, const std::string& function, int64_t after,
                                    size_t limit) const override;
  Token follow(const std::string& tenant, const std::string& function, std::function<void()> on_new) override;
  void remove(const std::string& tenant, const std::string& function) override;

 private:
  struct Counted {
    int64_t bytes = 0;
    int64_t dropped = 0;
  };
  // Its mutex is held while it is called, so that letting go waits for a call under way; recursive, so that it may let
  // go of itself.
  struct Follower {
    std::recursive_mutex mutex;
    std::function<void()> on_new;  // empty once let go
  };
  struct Followers {
    std::mutex mutex;
    std::multimap<Key, std::shared_ptr<Follower>> all;
  };

  void push(const Key& key, const std::string& request_id, std::string_view text);
  void write_behind();
  void flush() const;
  LogStore& store(const Key& key) const;
  void tell(const Key& key) const;

  Clock& clock_;
  Pool& pool_;
  const Options options_;

  // What came and is not written. Held for moments only: the loop thread never waits for the disk.
  mutable std::mutex inbox_mutex_;
  std::condition_variable wake_;
  mutable std::map<Key, std::vector<LogLine>> inbox_;
  mutable size_t inbox_bytes_ = 0;
  std::unordered_map<std::string, Counted> counted_;
  bool stopping_ = false;

  mutable std::mutex disk_mutex_;  // taken before inbox_mutex_
  mutable std::map<Key, LogStore> stores_;
  mutable std::list<LogStore*> awake_;  // the one used last is the first

  std::shared_ptr<Followers> followers_ = std::make_shared<Followers>();
  std::thread writer_;  // last: it uses all of the above
};

WrittenLogs::~WrittenLogs() {
  {
    const std::lock_guard lock(inbox_mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  writer_.join();
}

void WrittenLogs::push(const Key& key, const std::string& request_id, std::string_view text) {
  auto& lines = inbox_[key];
  if (inbox_bytes_ > kMostPending) {  // said once, where the gap is
    if (lines.empty() || lines.back().text != kGap) lines.push_back({0, clock_.wall(), request_id, kGap});
    return;
  }
  const auto now = clock_.wall();
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    for (size_t at = begin; at == begin || at < end; at += kLongestLine) {
      lines.push_back({0, now, request_id, std::string(text.substr(at, std::min(kLongestLine, end - at)))});
    }
    begin = end + 1;
  }
  inbox_bytes_ += text.size();
}

void WrittenLogs::append(const std::string& tenant, const std::string& function, const std::string& request_id,
                         std::string_view text) {
  const std::lock_guard lock(inbox_mutex_);
  const bool was_empty = inbox_.empty();
  if (!request_id.empty()) {
    if (counted_.size() >= kMostCounted && !counted_.contains(request_id)) counted_.erase(counted_.begin());
    auto& counted = counted_[request_id];
    const auto size = static_cast<int64_t>(text.size());
    if (counted.dropped > 0 || counted.bytes + size > options_.bytes_per_invocation) {
      counted.dropped += size;
      return;
    }
    counted.bytes += size;
  }
  push({tenant, function}, request_id, text.empty() ? std::string_view{"\n"} : text);
  if (was_empty) wake_.notify_all();
}

void WrittenLogs::end(const std::string& tenant, const std::string& function, const std::string& request_id,
                      std::string_view text) {
  const std::lock_guard lock(inbox_mutex_);
  const bool was_empty = inbox_.empty();
  if (const auto found = counted_.find(request_id); found != counted_.end()) {
    if (found->second.dropped > 0) {
      push({tenant, function}, request_id,
           "[Sundog: " + std::to_string(found->second.dropped) +
               " bytes of output were dropped; one invocation may log " +
               std::to_string(options_.bytes_per_invocation) + " bytes]");
    }
    counted_.erase(found);
  }
  push({tenant, function}, request_id, text);
  if (was_empty) wake_.notify_all();
}

void WrittenLogs::write_behind() {
  std::unique_lock lock(inbox_mutex_);
  while (!stopping_ || !inbox_.empty()) {
    wake_.wait(lock, [this] { return stopping_ || !inbox_.empty(); });
    wake_.wait_for(lock, kWriteBehind, [this] { return stopping_; });
    lock.unlock();
    {
      const std::lock_guard disk(disk_mutex_);
      flush();
    }
    lock.lock();
  }
}

LogStore& WrittenLogs::store(const Key& key) const {
  const auto folder = options_.folder / as_file_name(key.tenant) / as_file_name(key.function);
  auto& store = stores_.try_emplace(key, folder, options_.bytes_per_function / 2).first->second;
  const auto place = std::ranges::find(awake_, &store);
  if (place != awake_.end()) {
    awake_.splice(awake_.begin(), awake_, place);
  } else {
    awake_.push_front(&store);
  }
  if (awake_.size() > kMostAwake) {
    awake_.back()->rest();
    awake_.pop_back();
  }
  return store;
}

// With disk_mutex_ held. A disk that refuses loses log lines, never an invocation.
void WrittenLogs::flush() const {
  std::map<Key, std::vector<LogLine>> taken;
  {
    const std::lock_guard lock(inbox_mutex_);
    taken.swap(inbox_);
    inbox_bytes_ = 0;
  }
  for (auto& [key, lines] : taken) {
    const auto written = store(key).write(std::move(lines));
    if (written.ok()) tell(key);
  }
}

void WrittenLogs::tell(const Key& key) const {
  const std::lock_guard lock(followers_->mutex);
  const auto [begin, end] = followers_->all.equal_range(key);
  for (auto it = begin; it != end; ++it) {
    // A pool that is full tells them with the next lines.
    const auto queued = pool_.submit([weak = std::weak_ptr(it->second)] {
      const auto follower = weak.lock();
      if (!follower) return;
      const std::lock_guard calling(follower->mutex);
      if (const auto on_new = follower->on_new) on_new();
    });
    if (!queued.ok()) return;
  }
}

Result<std::vector<LogLine>> WrittenLogs::read(const std::string& tenant, const std::string& function, int64_t after,
                                               size_t limit) const {
  const std::lock_guard disk(disk_mutex_);
  flush();
  const Key key{tenant, function};
  const auto folder = options_.folder / as_file_name(tenant) / as_file_name(function);
  if (!stores_.contains(key) && !std::filesystem::exists(folder)) return std::vector<LogLine>{};
  return store(key).read(after, limit);
}

FunctionLogs::Token WrittenLogs::follow(const std::string& tenant, const std::string& function,
                                        std::function<void()> on_new) {
  auto entry = std::make_shared<Follower>();
  entry->on_new = std::move(on_new);
  const std::lock_guard lock(followers_->mutex);
  followers_->all.emplace(Key{tenant, function}, entry);
  return {entry.get(), [followers = followers_, entry](void*) {
            {
              const std::lock_guard calling(entry->mutex);
              entry->on_new = nullptr;
            }
            const std::lock_guard inner(followers->mutex);
            std::erase_if(followers->all, [&entry](const auto& one) { return one.second == entry; });
          }};
}

void WrittenLogs::remove(const std::string& tenant, const std::string& function) {
  const std::lock_guard disk(disk_mutex_);
  const Key key{tenant, function};
  {
    const std::lock_guard lock(inbox_mutex_);
    inbox_.erase(key);
  }
  // A folder that cannot be removed is used on, should the name come again.
  auto& gone = store(key);
  const auto removed = gone.remove();
  awake_.remove(&gone);
  if (removed.ok()) stores_.erase(key);
}

}  // namespace

std::unique_ptr<FunctionLogs> open_function_logs(Clock& clock, Pool& pool, FunctionLogs::Options options) {
  return std::make_unique<WrittenLogs>(clock, pool, std::move(options));
}

}  // namespace sundog::invoke
