// kill -9 at random moments and before every writing call: what a store acknowledged is there when it is opened again,
// and what it shows is whole.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <random>
#include <sstream>

#include "base/crypto.h"
#include "store/faulty_disk.h"
#include "store/faulty_vfs.h"
#include "store/file_blobs.h"
#include "store/sqlite_catalog.h"
#include "store/sqlite_queue.h"
#include "store/test_folder.h"

namespace sundog::store {
namespace {

// What the child does: uses a store in `folder`, whose calls `plan` watches, and acknowledges by a line.
using Acknowledge = std::function<void(const std::string& line)>;
using Work = std::function<void(const Path& folder, FaultPlan& plan, const Acknowledge& acknowledge)>;

struct Outcome {
  std::vector<std::string> acknowledged;
  bool killed = false;
};

constexpr int kNever = 1 << 30;

// Runs `work` in a child process that is killed after `lines` acknowledgements, or before its writing call `call`.
Outcome run_until_killed(const Path& folder, const Work& work, int lines, int call) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("pipe");
  UniqueFd reads(ends[0]);
  UniqueFd writes(ends[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    reads.reset();
    static FaultPlan plan;
    if (call != kNever) plan.die(call);
    work(folder, plan, [&](const std::string& line) {
      if (!write_all(writes.get(), line + "\n").ok()) ::_exit(3);
    });
    ::_exit(0);
  }
  writes.reset();
  std::string text;
  char buffer[4096];
  while (true) {
    const ssize_t count = ::read(reads.get(), buffer, sizeof buffer);
    if (count <= 0) break;
    text.append(buffer, static_cast<size_t>(count));
    if (std::count(text.begin(), text.end(), '\n') >= lines) ::kill(child, SIGKILL);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  Outcome outcome;
  outcome.killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  EXPECT_TRUE(outcome.killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) << "status " << status;
  std::istringstream stream(text.substr(0, text.rfind('\n') + 1));
  for (std::string line; std::getline(stream, line);) outcome.acknowledged.push_back(line);
  return outcome;
}

// Calls `check` after a kill at each of some random moments of a long run, and before every writing call of a short
// one.
void at_every_death(const std::function<Work(int rounds)>& work,
                    const std::function<void(const Path&, const Outcome&)>& check) {
  std::mt19937 random(20'260'101);
  for (int i = 0; i < 12; ++i) {
    const int lines = std::uniform_int_distribution<int>(1, 200)(random);
    SCOPED_TRACE("killed after " + std::to_string(lines) + " acknowledgements");
    const TestFolder folder(On::memory);
    const auto outcome = run_until_killed(folder.path(), work(100'000), lines, kNever);
    EXPECT_TRUE(outcome.killed);
    EXPECT_GE(outcome.acknowledged.size(), static_cast<size_t>(lines));
    check(folder.path(), outcome);
  }
  for (int call = 0;; ++call) {
    SCOPED_TRACE("killed before call " + std::to_string(call));
    const TestFolder folder(On::memory);
    const auto outcome = run_until_killed(folder.path(), work(4), kNever, call);
    check(folder.path(), outcome);
    if (!outcome.killed) break;
  }
}

template <class T>
T or_exit(Result<T> result) {
  if (!result.ok()) ::_exit(4);
  return std::move(*result);
}

TEST(Kill, TheCatalogKeepsEveryAcknowledgedCommitWhole) {
  const auto work = [](int rounds) -> Work {
    return [rounds](const Path& folder, FaultPlan& plan, const Acknowledge& acknowledge) {
      const FaultyVfs vfs(plan);
      const auto catalog = or_exit(open_sqlite_catalog(folder / "catalog.db", {.vfs = vfs.name()}));
      for (int i = 1; i <= rounds; ++i) {
        or_exit(catalog->commit({{"a", Json(i)}, {"b", Json(i)}, {"k/" + std::to_string(i), Json(i)}}));
        acknowledge(std::to_string(i));
      }
    };
  };
  at_every_death(work, [](const Path& folder, const Outcome& outcome) {
    SUNDOG_VALUE(catalog, open_sqlite_catalog(folder / "catalog.db"));
    int last = 0;
    for (const auto& line : outcome.acknowledged) {
      last = std::stoi(line);
      EXPECT_OK(catalog->get("k/" + line));
    }
    SUNDOG_VALUE(pair, catalog->scan("", "", 2));
    if (pair.empty()) {
      EXPECT_EQ(last, 0);
      return;
    }
    ASSERT_EQ(pair.size(), 2U);
    EXPECT_EQ(pair[0].value, pair[1].value) << "half a commit";
    EXPECT_EQ(pair[0].revision, pair[1].revision);
    EXPECT_GE(pair[0].value.get<int>(), last);
    EXPECT_LE(pair[0].value.get<int>(), last + 1) << "only the commit under way may be there without acknowledgement";
    SUNDOG_VALUE(next, catalog->put("after", 1));
    EXPECT_EQ(next, pair[0].revision + 1);
  });
}

TEST(Kill, TheQueueLosesNoMessageAndRevivesNone) {
  const auto work = [](int rounds) -> Work {
    return [rounds](const Path& folder, FaultPlan& plan, const Acknowledge& acknowledge) {
      const FaultyVfs vfs(plan);
      SystemClock clock;
      const auto queue = or_exit(open_sqlite_queue(folder / "queue.db", clock, {.sqlite = {.vfs = vfs.name()}}));
      for (int i = 0; i < rounds; ++i) {
        acknowledge("append " + std::to_string(or_exit(queue->append("q", "body"))));
        if (i % 2 == 0) continue;
        const auto messages = or_exit(queue->pull("q", 1, Millis{60'000}));
        if (messages.size() != 1) ::_exit(5);
        acknowledge("settling " + std::to_string(messages[0].id));
        const bool dies = i % 4 == 1;
        if (!(dies ? queue->term(messages[0].receipt, "no") : queue->ack(messages[0].receipt)).ok()) ::_exit(6);
        acknowledge((dies ? "term " : "ack ") + std::to_string(messages[0].id));
      }
    };
  };
  at_every_death(work, [](const Path& folder, const Outcome& outcome) {
    enum class Fate { waits, settling, acked, dead };
    std::map<int64_t, Fate> fates;
    for (const auto& line : outcome.acknowledged) {
      const auto id = std::stoll(line.substr(line.find(' ')));
      if (line.starts_with("append")) fates[id] = Fate::waits;
      if (line.starts_with("settling")) fates[id] = Fate::settling;
      if (line.starts_with("ack")) fates[id] = Fate::acked;
      if (line.starts_with("term")) fates[id] = Fate::dead;
    }
    SystemClock clock;
    SUNDOG_VALUE(queue, open_sqlite_queue(folder / "queue.db", clock));
    SUNDOG_VALUE(messages, queue->pull("q", 100'000, Millis{60'000}));
    SUNDOG_VALUE(letters, queue->dead_letters("q", 0, 100'000));
    std::map<int64_t, int> attempts;
    for (const auto& message : messages) attempts[message.id] = message.attempt;
    std::set<int64_t> dead;
    for (const auto& letter : letters) dead.insert(letter.id);
    for (const auto& [id, fate] : fates) {
      if (fate == Fate::waits) EXPECT_TRUE(attempts.contains(id)) << id << " was appended and is lost";
      if (fate == Fate::acked) EXPECT_FALSE(attempts.contains(id) || dead.contains(id)) << id << " was acked";
      if (fate == Fate::dead) EXPECT_TRUE(dead.contains(id) && !attempts.contains(id)) << id << " is a dead letter";
      if (fate == Fate::settling && attempts.contains(id)) EXPECT_EQ(attempts[id], 2) << "its delivery was counted";
    }
    const int64_t last = fates.empty() ? 0 : fates.rbegin()->first;
    SUNDOG_VALUE(next, queue->append("q", "after"));
    EXPECT_GT(next, last);
  });
}

TEST(Kill, BlobsAreWholeAndTheAcknowledgedAreThere) {
  for (const auto staging : {Staging::unnamed, Staging::named}) {
    const auto work = [staging](int rounds) -> Work {
      return [rounds, staging](const Path& folder, FaultPlan& plan, const Acknowledge& acknowledge) {
        or_exit(open_file_blobs(folder / "blobs"));
        auto disk = std::make_unique<FaultyDisk>(system_disk(folder / "blobs" / "staging", staging), plan);
        const auto blobs = or_exit(open_file_blobs(folder / "blobs", std::move(disk)));
        for (int i = 0; i < rounds; ++i)
          acknowledge(or_exit(blobs->put(std::string(3000, 'x') + std::to_string(i))).id);
      };
    };
    at_every_death(work, [](const Path& folder, const Outcome& outcome) {
      SUNDOG_VALUE(blobs, open_file_blobs(folder / "blobs"));
      for (const auto& id : outcome.acknowledged) EXPECT_OK(blobs->verify(id));
      size_t count = 0;
      EXPECT_OK(blobs->list([&](const BlobInfo& blob) {
        EXPECT_OK(blobs->verify(blob.id));
        return ++count > 0;
      }));
      EXPECT_LE(count, outcome.acknowledged.size() + 1);
      EXPECT_TRUE(std::filesystem::is_empty(folder / "blobs" / "staging"));
    });
  }
}

}  // namespace
}  // namespace sundog::store
