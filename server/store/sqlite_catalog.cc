#include "store/sqlite_catalog.h"

#include <array>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <thread>

#include "store/subscription.h"

namespace sundog::store {
namespace {

constexpr size_t kMaxKeyBytes = 1024;
constexpr size_t kMaxValueBytes = 1 << 20;
constexpr int kApplicationId = 0x53444743;  // "SDGC"

const Schema& schema() {
  static const Schema kSchema{
      "a catalog",
      kApplicationId,
      {"CREATE TABLE records(key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL);"
       "CREATE TABLE counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL);"
       "INSERT INTO counters VALUES('revision', 0)"}};
  return kSchema;
}

struct Change {
  Record record;
  bool removed = false;
};

struct Watcher {
  std::string prefix;
  Revision since = 0;
  std::shared_ptr<Subscription<const Record&, bool>> subscription;
};

// Hands committed changes to the watchers, in order, on a thread of its own.
class Watchers {
 public:
  Watchers() : thread_([this] { run(); }) {}
  ~Watchers() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }
  Watchers(const Watchers&) = delete;
  Watchers& operator=(const Watchers&) = delete;

  Catalog::Token add(std::string prefix, std::function<void(const Record&, bool)> on_change) {
    auto subscription = std::make_shared<Subscription<const Record&, bool>>(std::move(on_change));
    const std::lock_guard lock(mutex_);
    watchers_.push_back({std::move(prefix), last_, subscription});
    return Subscription<const Record&, bool>::token(std::move(subscription));
  }

  // In order of revision: the catalog calls it with its writer's mutex held.
  void publish(std::vector<Change> changes, Revision revision) {
    const std::lock_guard lock(mutex_);
    last_ = revision;
    std::erase_if(watchers_, [](const Watcher& watcher) { return watcher.subscription->ended(); });
    if (watchers_.empty()) return;
    for (auto& change : changes) changes_.push_back(std::move(change));
    wake_.notify_one();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return stopping_ || !changes_.empty(); });
      if (stopping_) return;
      const Change change = std::move(changes_.front());
      changes_.pop_front();
      const auto watchers = watchers_;
      lock.unlock();
      for (const auto& watcher : watchers) {
        if (change.record.revision > watcher.since && change.record.key.starts_with(watcher.prefix)) {
          watcher.subscription->call(change.record, change.removed);
        }
      }
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Change> changes_;
  std::vector<Watcher> watchers_;
  Revision last_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

Result<Json> parse_value(const std::string& key, const std::string& text) {
  auto value = Json::parse(text, nullptr, false);
  if (value.is_discarded()) {
    return fail(Code::data_loss, "The value of record \"" + key + "\" is not JSON any more.",
                "The disk lost bytes of the catalog: restore it from a backup.");
  }
  return value;
}

Status check_key(std::string_view key) {
  if (key.empty() || key.size() > kMaxKeyBytes || key.find('\0') != std::string_view::npos) {
    return fail(Code::invalid_argument, "A catalog key has 1 to 1,024 bytes and no zero byte; this one has " +
                                            std::to_string(key.size()) + ": \"" + std::string(key.substr(0, 64)) +
                                            "\".");
  }
  return done;
}

Status check_revision(const Write& write, Revision found) {
  if (write.expected == kAnyRevision || write.expected == found) return done;
  if (write.expected == kAbsent) return fail(Code::already_exists, "\"" + write.key + "\" exists already.");
  const std::string now = found == kAbsent ? "is gone" : "has revision " + std::to_string(found);
  return fail(Code::conflict,
              "\"" + write.key + "\" changed: revision " + std::to_string(write.expected) + " was expected, but it " +
                  now + ".",
              "Read it again and repeat the change.");
}

class SqliteCatalog final : public Catalog {
 public:
  static Result<std::unique_ptr<Catalog>> open(const Path& file, const SqliteOptions& options) {
    std::unique_ptr<SqliteCatalog> catalog(new SqliteCatalog);
    SUNDOG_TRY(writer, Database::open(file, schema(), options));
    catalog->writer_ = std::move(writer);
    for (auto& reader : catalog->readers_) {
      SUNDOG_TRY(connection, Database::open_reader(file, options));
      reader.database = std::move(connection);
    }
    return std::unique_ptr<Catalog>(std::move(catalog));
  }

  Result<Record> get(std::string_view key) const override {
    Reader& reader = next_reader();
    const std::lock_guard lock(reader.mutex);
    auto query = reader.database->query("SELECT value, revision FROM records WHERE key=?");
    query.bind(key);
    SUNDOG_TRY(found, query.row());
    if (!found) return fail(Code::not_found, "There is no \"" + std::string(key) + "\".");
    Record record{std::string(key), nullptr, query.integer(1)};
    SUNDOG_TRY(value, parse_value(record.key, query.text(0)));
    record.value = std::move(value);
    return record;
  }

  Result<std::vector<Record>> scan(std::string_view prefix, std::string_view after, size_t limit) const override {
    std::vector<Record> records;
    Reader& reader = next_reader();
    const std::lock_guard lock(reader.mutex);
    auto query = reader.database->query("SELECT key, value, revision FROM records WHERE key>=? AND key>? ORDER BY key");
    query.bind(prefix).bind(after);
    while (records.size() < limit) {
      SUNDOG_TRY(more, query.row());
      if (!more) break;
      Record record{query.text(0), nullptr, query.integer(2)};
      if (!record.key.starts_with(prefix)) break;
      SUNDOG_TRY(value, parse_value(record.key, query.text(1)));
      record.value = std::move(value);
      records.push_back(std::move(record));
    }
    return records;
  }

  Result<Revision> commit(const std::vector<Write>& writes) override {
    std::vector<std::string> values;
    SUNDOG_CHECK(check(writes, values));
    const std::lock_guard lock(writer_mutex_);
    SUNDOG_CHECK(writer_->run("BEGIN IMMEDIATE"));
    std::vector<Change> changes;
    auto revision = apply(writes, values, changes);
    if (revision.ok()) {
      if (const auto committed = writer_->run("COMMIT"); !committed.ok()) revision = committed.error();
    }
    if (!revision.ok()) {
      writer_->rollback();
      return revision;
    }
    watchers_.publish(std::move(changes), *revision);
    return revision;
  }

  Token watch(std::string prefix, std::function<void(const Record&, bool)> on_change) override {
    return watchers_.add(std::move(prefix), std::move(on_change));
  }

 private:
  struct Reader {
    std::mutex mutex;
    std::unique_ptr<Database> database;
  };

  SqliteCatalog() = default;

  Reader& next_reader() const { return readers_[next_reader_++ % readers_.size()]; }

  static Status check(const std::vector<Write>& writes, std::vector<std::string>& values) {
    std::set<std::string_view> keys;
    for (const auto& write : writes) {
      SUNDOG_CHECK(check_key(write.key));
      if (!keys.insert(write.key).second) {
        return fail(Code::invalid_argument, "One commit writes \"" + write.key + "\" twice.");
      }
      values.push_back(write.value ? dump(*write.value) : std::string());
      if (values.back().size() > kMaxValueBytes) {
        return fail(Code::too_large, "The value of \"" + write.key + "\" has " + std::to_string(values.back().size()) +
                                         " bytes; a record holds at most 1 MB.");
      }
    }
    return done;
  }

  // Inside the transaction. All writes of a commit get one revision; a commit that changes nothing gets no new one.
  Result<Revision> apply(const std::vector<Write>& writes, const std::vector<std::string>& values,
                         std::vector<Change>& changes) {
    SUNDOG_TRY(last, counter());
    const Revision revision = last + 1;
    for (size_t i = 0; i < writes.size(); ++i) {
      const Write& write = writes[i];
      SUNDOG_TRY(found, revision_of(write.key));
      SUNDOG_CHECK(check_revision(write, found));
      if (write.value) {
        SUNDOG_CHECK(writer_->query("INSERT OR REPLACE INTO records(key, value, revision) VALUES(?, ?, ?)")
                         .bind(write.key)
                         .bind(values[i])
                         .bind(revision)
                         .run());
        changes.push_back({{write.key, *write.value, revision}, false});
      } else if (found != kAbsent) {
        SUNDOG_CHECK(writer_->query("DELETE FROM records WHERE key=?").bind(write.key).run());
        changes.push_back({{write.key, nullptr, revision}, true});
      }
    }
    if (changes.empty()) return last;
    SUNDOG_CHECK(writer_->query("UPDATE counters SET value=? WHERE name='revision'").bind(revision).run());
    return revision;
  }

  Result<Revision> counter() {
    auto query = writer_->query("SELECT value FROM counters WHERE name='revision'");
    SUNDOG_TRY(found, query.row());
    if (!found) return fail(Code::data_loss, "The catalog lost its revision counter.", "Restore it from a backup.");
    return query.integer(0);
  }

  Result<Revision> revision_of(std::string_view key) {
    auto query = writer_->query("SELECT revision FROM records WHERE key=?");
    query.bind(key);
    SUNDOG_TRY(found, query.row());
    return found ? query.integer(0) : kAbsent;
  }

  std::mutex writer_mutex_;
  std::unique_ptr<Database> writer_;
  mutable std::array<Reader, 2> readers_;
  mutable std::atomic<size_t> next_reader_ = 0;
  Watchers watchers_;  // last: its thread stops first
};

}  // namespace

Result<std::unique_ptr<Catalog>> open_sqlite_catalog(const Path& file, const SqliteOptions& options) {
  return SqliteCatalog::open(file, options);
}

}  // namespace sundog::store
