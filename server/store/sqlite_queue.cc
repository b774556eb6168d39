#include "store/sqlite_queue.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "base/crypto.h"
#include "store/batch_writer.h"
#include "store/subscription.h"

namespace sundog::store {
namespace {

constexpr size_t kMaxNameBytes = 512;
constexpr size_t kMaxPullBytes = 64 << 20;
constexpr int kApplicationId = 0x53444751;  // "SDGQ"

// Bodies stand apart, so that counting an attempt or moving a message to the dead letters does not rewrite megabytes.
const Schema& schema() {
  static const Schema kSchema{
      "message queues",
      kApplicationId,
      {"CREATE TABLE messages(id INTEGER PRIMARY KEY, queue TEXT NOT NULL, attempt INTEGER NOT NULL,"
       " appended INTEGER NOT NULL, due INTEGER NOT NULL);"
       "CREATE INDEX messages_due ON messages(queue, due);"
       "CREATE TABLE bodies(id INTEGER PRIMARY KEY, body BLOB NOT NULL);"
       "CREATE TABLE dead_letters(id INTEGER PRIMARY KEY, queue TEXT NOT NULL, attempts INTEGER NOT NULL,"
       " reason TEXT NOT NULL, appended INTEGER NOT NULL, died INTEGER NOT NULL);"
       "CREATE INDEX dead_letters_queue ON dead_letters(queue);"
       "CREATE TABLE counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL);"
       "INSERT INTO counters VALUES('last_id', 0)"}};
  return kSchema;
}

Status check_name(std::string_view queue) {
  if (queue.empty() || queue.size() > kMaxNameBytes || queue.find('\0') != std::string_view::npos) {
    return fail(Code::invalid_argument, "A queue's name has 1 to 512 bytes and no zero byte; this one has " +
                                            std::to_string(queue.size()) + ".");
  }
  return done;
}

Status check_body(std::string_view body) {
  if (body.size() > kMaxMessageBytes) {
    return fail(Code::too_large,
                "The message has " + std::to_string(body.size()) + " bytes; at most 8 MB (" +
                    std::to_string(kMaxMessageBytes) + ") are kept in a queue.",
                "Store the content as a blob and send its address.");
  }
  return done;
}

Error not_leased(std::string_view receipt) {
  return fail(Code::not_found,
              "The receipt \"" + std::string(receipt.substr(0, 80)) +
                  "\" holds no message: it was settled already, or its lease ended and another holds it.");
}

struct Lease {
  std::string queue;
  std::string receipt;
  MonoTime ends;
};

// Which messages are leased. In memory only: a lease does not outlive the process. Writer thread only.
// An ended lease stays until its message is leased again or settled: its holder may still settle it.
class Leases {
 public:
  bool held(int64_t id, MonoTime now) const {
    const auto it = leases_.find(id);
    return it != leases_.end() && it->second.ends > now;
  }
  void put(int64_t id, Lease lease) {
    erase(id);
    ends_.emplace(lease.ends, id);
    leases_.emplace(id, std::move(lease));
  }
  void erase(int64_t id) {
    const auto it = leases_.find(id);
    if (it == leases_.end()) return;
    ends_.erase({it->second.ends, id});
    leases_.erase(it);
  }
  void erase_queue(std::string_view queue) {
    std::erase_if(leases_, [&](const auto& entry) {
      if (entry.second.queue != queue) return false;
      ends_.erase({entry.second.ends, entry.first});
      return true;
    });
  }
  // The message that `receipt` proves the lease of.
  std::optional<std::pair<int64_t, Lease>> find(std::string_view receipt) const {
    const auto id = std::strtoll(std::string(receipt.substr(0, receipt.find('.'))).c_str(), nullptr, 10);
    const auto it = leases_.find(id);
    if (it == leases_.end() || it->second.receipt != receipt) return std::nullopt;
    return std::pair{id, it->second};
  }
  std::optional<MonoTime> next_end() const {
    if (ends_.empty()) return std::nullopt;
    return ends_.begin()->first;
  }
  // The queues of leases that ended since the last call.
  std::set<std::string> take_ended(MonoTime now) {
    std::set<std::string> queues;
    while (!ends_.empty() && ends_.begin()->first <= now) {
      queues.insert(leases_.at(ends_.begin()->second).queue);
      ends_.erase(ends_.begin());
    }
    return queues;
  }

 private:
  std::unordered_map<int64_t, Lease> leases_;
  std::set<std::pair<MonoTime, int64_t>> ends_;  // those whose end was not yet reported
};

// Who wants to know when something becomes due. Any thread.
class Listeners {
 public:
  using Callback = Subscription<>;

  std::shared_ptr<Callback> add(const std::string& queue, std::function<void()> on_due) {
    auto subscription = std::make_shared<Callback>(std::move(on_due));
    const std::lock_guard lock(mutex_);
    listeners_.emplace(queue, subscription);
    return subscription;
  }
  bool has(const std::string& queue) {
    const std::lock_guard lock(mutex_);
    prune(queue);
    return listeners_.contains(queue);
  }
  // True if this queue has listeners that are not going to be called already.
  bool mark(const std::string& queue) {
    const std::lock_guard lock(mutex_);
    prune(queue);
    return listeners_.contains(queue) && marked_.insert(queue).second;
  }
  void call(const std::string& queue) {
    std::vector<std::shared_ptr<Callback>> subscriptions;
    {
      const std::lock_guard lock(mutex_);
      marked_.erase(queue);
      const auto [begin, end] = listeners_.equal_range(queue);
      for (auto it = begin; it != end; ++it) subscriptions.push_back(it->second);
    }
    for (const auto& subscription : subscriptions) subscription->call();
  }

 private:
  void prune(const std::string& queue) {
    auto [it, end] = listeners_.equal_range(queue);
    while (it != end) it = it->second->ended() ? listeners_.erase(it) : std::next(it);
  }

  std::mutex mutex_;
  std::multimap<std::string, std::shared_ptr<Callback>> listeners_;
  std::set<std::string> marked_;
};

class SqliteQueue final : public Queue {
 public:
  SqliteQueue(Clock& clock, std::unique_ptr<Database> writer, std::unique_ptr<Database> reader, int64_t last_id,
              const SqliteQueueOptions& options)
      : clock_(clock),
        opened_mono_(clock.mono()),
        opened_millis_(epoch_millis(clock.wall())),
        process_(hex(random_bytes(6))),
        writing_(std::move(writer)),
        reading_(std::move(reader)),
        last_id_(last_id),
        writer_(*writing_, {options.pending_bytes_limit, options.pending_count_limit, options.batch_count_limit,
                            options.batch_bytes_limit, [this] { begin_batch(); }, [this] { return on_timer(); }}) {}

  Result<int64_t> append(std::string_view queue, std::string_view body, Millis delay) override {
    SUNDOG_CHECK(check_name(queue));
    SUNDOG_CHECK(check_body(body));
    const auto id = std::make_shared<int64_t>(0);
    SUNDOG_CHECK(writer_.run(append_operation(std::string(queue), std::string(body), delay, id)));
    return *id;
  }

  void append_async(std::string queue, std::string body, Millis delay, Callback<int64_t> on_durable) override {
    const auto id = std::make_shared<int64_t>(0);
    const auto callback = std::make_shared<Callback<int64_t>>(std::move(on_durable));
    const auto reply = [id, callback](const Status& outcome) {
      (*callback)(outcome.ok() ? Result<int64_t>(*id) : Result<int64_t>(outcome.error()));
    };
    auto accepted = check_name(queue);
    if (accepted.ok()) accepted = check_body(body);
    if (accepted.ok()) {
      auto operation = append_operation(std::move(queue), std::move(body), delay, id);
      operation.reply = reply;
      operation.how = Reply::deferred;
      accepted = writer_.submit(std::move(operation));
    }
    if (!accepted.ok()) writer_.defer([reply, accepted] { reply(accepted); });
  }

  Result<std::vector<Message>> pull(std::string_view queue, size_t limit, Millis lease) override {
    SUNDOG_CHECK(check_name(queue));
    const auto messages = std::make_shared<std::vector<Message>>();
    Operation operation;
    operation.work = [this, queue = std::string(queue), limit, messages](Status&) {
      return lease_due(queue, limit, *messages);
    };
    operation.committed = [this, messages, lease] {
      for (const auto& message : *messages) {
        leases_.put(message.id, {message.queue, message.receipt, clock_.mono() + lease});
      }
    };
    SUNDOG_CHECK(writer_.run(std::move(operation)));
    return std::move(*messages);
  }

  Token notify(std::string queue, std::function<void()> on_due) override {
    auto subscription = listeners_.add(queue, std::move(on_due));
    // On the writer thread: learns when the next delayed message is due, and tells of those that wait already.
    Operation operation;
    operation.work = [](Status&) -> Status { return done; };
    operation.committed = [this, queue] {
      next_due_[queue] = 0;
      tell(queue);
    };
    operation.reply = [](const Status&) {};
    if (!writer_.submit(std::move(operation)).ok()) {
      writer_.defer([subscription] { subscription->call(); });
    }
    return Subscription<>::token(std::move(subscription));
  }

  Status ack(std::string_view receipt) override {
    return settle(receipt, [this](int64_t id, const Lease&) -> Status {
      SUNDOG_CHECK(writing_->query("DELETE FROM bodies WHERE id=?").bind(id).run());
      return writing_->query("DELETE FROM messages WHERE id=?").bind(id).run();
    });
  }

  Status nak(std::string_view receipt, Millis delay) override {
    return settle(receipt, [this, delay](int64_t id, const Lease& lease) -> Status {
      const int64_t due = now_millis() + std::max<int64_t>(delay.count(), 0);
      soon_.emplace_back(lease.queue, due);
      return writing_->query("UPDATE messages SET due=? WHERE id=?").bind(due).bind(id).run();
    });
  }

  Status term(std::string_view receipt, std::string_view reason) override {
    return settle(receipt, [this, reason = std::string(reason)](int64_t id, const Lease&) -> Status {
      SUNDOG_CHECK(writing_
                       ->query("INSERT INTO dead_letters(id, queue, attempts, reason, appended, died)"
                               " SELECT id, queue, attempt, ?, appended, ? FROM messages WHERE id=?")
                       .bind(reason)
                       .bind(epoch_millis(clock_.wall()))
                       .bind(id)
                       .run());
      return writing_->query("DELETE FROM messages WHERE id=?").bind(id).run();
    });
  }

  Status extend(std::string_view receipt, Millis lease) override {
    Operation operation;
    operation.work = [this, receipt = std::string(receipt), lease](Status& outcome) -> Status {
      auto found = leases_.find(receipt);
      if (!found || in_batch_.contains(found->first)) {
        outcome = not_leased(receipt);
      } else {
        found->second.ends = clock_.mono() + lease;
        leases_.put(found->first, std::move(found->second));
      }
      return done;
    };
    return writer_.run(std::move(operation));
  }

  Result<std::vector<DeadLetter>> dead_letters(std::string_view queue, int64_t after_id, size_t limit) const override {
    std::vector<DeadLetter> letters;
    const std::lock_guard lock(reading_mutex_);
    auto query = reading_->query(
        "SELECT id, body, attempts, reason, appended, died FROM dead_letters JOIN bodies USING(id)"
        " WHERE queue=? AND id>? ORDER BY id LIMIT ?");
    query.bind(queue).bind(after_id).bind(static_cast<int64_t>(limit));
    while (true) {
      SUNDOG_TRY(more, query.row());
      if (!more) return letters;
      letters.push_back({query.integer(0), std::string(queue), query.text(1), static_cast<int>(query.integer(2)),
                         query.text(3), from_epoch_millis(query.integer(4)), from_epoch_millis(query.integer(5))});
    }
  }

  Status redrive(std::string_view queue, int64_t id) override {
    Operation operation;
    operation.work = [this, queue = std::string(queue), id](Status& outcome) -> Status {
      SUNDOG_CHECK(writing_
                       ->query("INSERT INTO messages(id, queue, attempt, appended, due)"
                               " SELECT id, queue, 0, appended, ? FROM dead_letters WHERE id=? AND queue=?")
                       .bind(now_millis())
                       .bind(id)
                       .bind(queue)
                       .run());
      if (writing_->changes() == 0) {
        outcome = fail(Code::not_found, "Queue \"" + queue + "\" has no dead letter " + std::to_string(id) + ".");
        return done;
      }
      soon_.emplace_back(queue, 0);
      return writing_->query("DELETE FROM dead_letters WHERE id=?").bind(id).run();
    };
    return writer_.run(std::move(operation));
  }

  Status purge(std::string_view queue) override {
    const std::string name(queue);
    Operation operation;
    operation.work = [this, name](Status&) -> Status {
      SUNDOG_CHECK(writing_
                       ->query("DELETE FROM bodies WHERE id IN (SELECT id FROM messages WHERE queue=?1"
                               " UNION ALL SELECT id FROM dead_letters WHERE queue=?1)")
                       .bind(name)
                       .run());
      SUNDOG_CHECK(writing_->query("DELETE FROM messages WHERE queue=?").bind(name).run());
      return writing_->query("DELETE FROM dead_letters WHERE queue=?").bind(name).run();
    };
    operation.committed = [this, name] { leases_.erase_queue(name); };
    return writer_.run(std::move(operation));
  }

  Result<int64_t> depth(std::string_view queue) const override {
    const std::lock_guard lock(reading_mutex_);
    auto query = reading_->query("SELECT count(*) FROM messages WHERE queue=?");
    query.bind(queue);
    SUNDOG_CHECK(query.row());
    return query.integer(0);
  }

  Result<std::vector<std::string>> queues(std::string_view prefix) const override {
    std::vector<std::string> names;
    const std::lock_guard lock(reading_mutex_);
    while (true) {  // one index seek a queue, not one step a message
      const std::string after = names.empty() ? std::string() : names.back();
      auto query = reading_->query("SELECT queue FROM messages WHERE queue>=? AND queue>? ORDER BY queue LIMIT 1");
      query.bind(prefix).bind(after);
      SUNDOG_TRY(more, query.row());
      if (!more || !query.text(0).starts_with(prefix)) return names;
      names.push_back(query.text(0));
    }
  }

 private:
  using Settlement = std::function<Status(int64_t id, const Lease& lease)>;

  // Monotonic while the process lives, so that a step of the wall clock neither holds nor hurries a message.
  int64_t now_millis() const {
    return opened_millis_ + std::chrono::duration_cast<Millis>(clock_.mono() - opened_mono_).count();
  }

  void begin_batch() {
    in_batch_.clear();
    soon_.clear();
  }

  Operation append_operation(std::string queue, std::string body, Millis delay, const std::shared_ptr<int64_t>& id) {
    Operation operation;
    operation.bytes = body.size();
    operation.work = [this, queue = std::move(queue), body = std::move(body), delay, id](Status&) -> Status {
      *id = ++last_id_;
      const int64_t due = now_millis() + std::max<int64_t>(delay.count(), 0);
      SUNDOG_CHECK(writing_->query("INSERT INTO messages(id, queue, attempt, appended, due) VALUES(?, ?, 0, ?, ?)")
                       .bind(*id)
                       .bind(queue)
                       .bind(epoch_millis(clock_.wall()))
                       .bind(due)
                       .run());
      SUNDOG_CHECK(writing_->query("INSERT INTO bodies(id, body) VALUES(?, ?)").bind(*id).bind_blob(body).run());
      soon_.emplace_back(queue, due);
      return writing_->query("UPDATE counters SET value=? WHERE name='last_id'").bind(last_id_).run();
    };
    return operation;
  }

  Status lease_due(const std::string& queue, size_t limit, std::vector<Message>& messages) {
    const MonoTime now = clock_.mono();
    std::vector<int64_t> ids;
    {
      auto due = writing_->query("SELECT id FROM messages WHERE queue=? AND due<=? ORDER BY due, id");
      due.bind(queue).bind(now_millis());
      while (ids.size() < limit) {
        SUNDOG_TRY(more, due.row());
        if (!more) break;
        const int64_t id = due.integer(0);
        if (!leases_.held(id, now) && !in_batch_.contains(id)) ids.push_back(id);
      }
    }
    size_t bytes = 0;
    for (const int64_t id : ids) {
      if (bytes > kMaxPullBytes) break;
      SUNDOG_TRY(message, deliver(queue, id));
      bytes += message.body.size();
      messages.push_back(std::move(message));
    }
    return done;
  }

  Result<Message> deliver(const std::string& queue, int64_t id) {
    SUNDOG_CHECK(writing_->query("UPDATE messages SET attempt=attempt+1 WHERE id=?").bind(id).run());
    auto query = writing_->query("SELECT attempt, appended, body FROM messages JOIN bodies USING(id) WHERE id=?");
    query.bind(id);
    SUNDOG_TRY(found, query.row());
    if (!found) return fail(Code::data_loss, "Message " + std::to_string(id) + " lost its body.");
    in_batch_.insert(id);
    return Message{id,
                   queue,
                   query.text(2),
                   static_cast<int>(query.integer(0)),
                   from_epoch_millis(query.integer(1)),
                   std::to_string(id) + "." + process_ + "." + std::to_string(++receipts_)};
  }

  Status settle(std::string_view receipt, Settlement settlement) {
    const auto settled = std::make_shared<int64_t>(0);
    Operation operation;
    operation.work = [this, receipt = std::string(receipt), settlement = std::move(settlement),
                      settled](Status& outcome) -> Status {
      const auto found = leases_.find(receipt);
      if (!found || !in_batch_.insert(found->first).second) {
        outcome = not_leased(receipt);
        return done;
      }
      *settled = found->first;
      return settlement(found->first, found->second);
    };
    operation.committed = [this, settled] { leases_.erase(*settled); };
    return writer_.run(std::move(operation));
  }

  // Tells the listeners of `queue`, on the callback thread.
  void tell(const std::string& queue) {
    if (listeners_.mark(queue)) {
      writer_.defer([this, queue] { listeners_.call(queue); });
    }
  }

  // Notes what the last transaction made due now or later, tells of everything that became due meanwhile, and says how
  // long until more does.
  std::optional<Duration> on_timer() {
    const int64_t now = now_millis();
    for (const auto& [queue, due] : std::exchange(soon_, {})) {
      if (due <= now) tell(queue);
      const auto next = next_due_.find(queue);
      if (next != next_due_.end() && due > now) next->second = std::min(next->second, due);
    }
    for (const auto& queue : leases_.take_ended(clock_.mono())) tell(queue);
    std::optional<Duration> wait;
    const auto sooner = [&wait](Duration duration) { wait = wait ? std::min(*wait, duration) : duration; };
    for (auto it = next_due_.begin(); it != next_due_.end();) {
      if (!listeners_.has(it->first)) {
        it = next_due_.erase(it);
        continue;
      }
      if (it->second <= now) {
        tell(it->first);
        it->second = first_due_after(it->first, now);
      }
      if (it->second != kNever) sooner(Millis{it->second - now});
      ++it;
    }
    if (const auto ends = leases_.next_end()) sooner(*ends - clock_.mono());
    return wait;
  }

  int64_t first_due_after(const std::string& queue, int64_t now) {
    auto query = writing_->query("SELECT due FROM messages WHERE queue=? AND due>? ORDER BY due LIMIT 1");
    query.bind(queue).bind(now);
    const auto found = query.row();
    if (!found.ok()) return now + 1000;  // the disk fails now: look again
    return *found ? query.integer(0) : kNever;
  }

  static constexpr int64_t kNever = INT64_MAX;

  Clock& clock_;
  const MonoTime opened_mono_;
  const int64_t opened_millis_;
  const std::string process_;  // in every receipt, so that those of an earlier process prove nothing
  std::unique_ptr<Database> writing_;
  mutable std::mutex reading_mutex_;
  std::unique_ptr<Database> reading_;
  Listeners listeners_;

  // The writer thread's.
  int64_t last_id_;
  int64_t receipts_ = 0;
  Leases leases_;
  std::unordered_set<int64_t> in_batch_;               // messages that this transaction leased or settled
  std::vector<std::pair<std::string, int64_t>> soon_;  // queue and time of what this transaction made due
  std::map<std::string, int64_t> next_due_;            // of each queue with listeners: when the next delayed one is due
  BatchWriter writer_;                                 // last: its threads stop first
};

}  // namespace

Result<std::unique_ptr<Queue>> open_sqlite_queue(const Path& file, Clock& clock, const SqliteQueueOptions& options) {
  SUNDOG_TRY(writer, Database::open(file, schema(), options.sqlite));
  SUNDOG_TRY(reader, Database::open_reader(file, options.sqlite));
  int64_t last_id = 0;
  {
    auto query = writer->query("SELECT value FROM counters WHERE name='last_id'");
    SUNDOG_TRY(found, query.row());
    if (!found) return fail(Code::data_loss, "The queue lost its counter of messages.", "Restore it from a backup.");
    last_id = query.integer(0);
  }
  return std::unique_ptr<Queue>(
      std::make_unique<SqliteQueue>(clock, std::move(writer), std::move(reader), last_id, options));
}

}  // namespace sundog::store
