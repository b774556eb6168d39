#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/ids.h"
#include "meter/record_line.h"
#include "meter/usage.h"

namespace sundog::meter {
namespace {

using std::chrono::hours;
using testing::HasSubstr;

class LedgerTest : public testing::Test {
 protected:
  LedgerTest() { EXPECT_TRUE(make_directories(folder_).ok()); }
  ~LedgerTest() override { EXPECT_TRUE(remove_tree(folder_).ok()); }

  UsageRecord record(const std::string& id, const std::string& function = "f") const {
    UsageRecord out;
    out.id = id;
    out.tenant = "default";
    out.function = function;
    out.version = "$LATEST";
    out.kind = "function";
    out.request_id = id;
    out.outcome = "ok";
    out.ended = clock_.wall();
    out.billed_ms = 100;
    out.handler_ms = 99.25;
    return out;
  }
  std::unique_ptr<Ledger> open() {
    auto ledger = open_ledger(folder_, clock_);
    EXPECT_TRUE(ledger.ok()) << ledger.error().text();
    return *std::move(ledger);
  }
  std::vector<std::string> ids(const Ledger& ledger, WallTime from = WallTime{}, WallTime to = WallTime::max()) const {
    std::vector<std::string> all;
    const auto read = ledger.read("default", from, to, [&all](const UsageRecord& one) {
      all.push_back(one.id);
      return true;
    });
    EXPECT_TRUE(read.ok()) << read.error().text();
    return all;
  }
  std::vector<Path> segments() const {
    std::vector<Path> all;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) all.push_back(entry.path());
    std::sort(all.begin(), all.end());
    return all;
  }

  FakeClock clock_;
  // In memory where there is such a folder: what the kernel has is safe from kill -9 there as well, and syncs are free.
  Path folder_ = (::access("/dev/shm", W_OK) == 0 ? Path("/dev/shm") : std::filesystem::temp_directory_path()) /
                 short_id("ledger-test");
};

// While it lives, no file of this process can grow beyond `bytes`.
class FileLimit {
 public:
  explicit FileLimit(rlim_t bytes) {
    before_handler_ = ::signal(SIGXFSZ, SIG_IGN);
    EXPECT_EQ(::getrlimit(RLIMIT_FSIZE, &before_), 0);
    const rlimit lower{bytes, before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &lower), 0);
  }
  ~FileLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, before_handler_);
  }
  FileLimit(const FileLimit&) = delete;
  FileLimit& operator=(const FileLimit&) = delete;

 private:
  rlimit before_{};
  sighandler_t before_handler_ = SIG_DFL;
};

TEST_F(LedgerTest, KeepsWhatTheDiskRefusesAndWritesItInOrder) {
  auto ledger = open();
  ASSERT_TRUE(ledger->append(record("a")).ok());
  {
    const FileLimit full(std::filesystem::file_size(segments().at(0)) + 100);
    EXPECT_EQ(ledger->append(record("b")).error().code, ledger->ready().error().code);
    EXPECT_FALSE(ledger->append(record("c")).ok());
    EXPECT_FALSE(ledger->ready().ok());
    const auto synced = ledger->sync();
    ASSERT_FALSE(synced.ok());
    EXPECT_THAT(synced.error().message, HasSubstr("2 usage records"));
    EXPECT_THAT(synced.error().hint, HasSubstr("\"id\":\"b\""));
  }
  EXPECT_TRUE(ledger->ready().ok());
  EXPECT_TRUE(ledger->append(record("d")).ok());
  EXPECT_THAT(ids(*ledger), testing::ElementsAre("a", "b", "c", "d"));
  ledger.reset();
  EXPECT_THAT(ids(*open()), testing::ElementsAre("a", "b", "c", "d"));
}

TEST_F(LedgerTest, ReadsBackEveryField) {
  auto written = record("r-1");
  written.memory_mb = 512;
  written.queue_ms = 1.5;
  written.restore_ms = 7.25;
  written.init_ms = 20.5;
  written.billed_init_ms = 21;
  written.cpu_ms = 3.5;
  written.peak_memory_mb = 40.5;
  written.bytes_in = 6 << 20;
  written.bytes_out = 12;
  auto ledger = open();
  ASSERT_TRUE(ledger->append(written).ok());
  std::optional<UsageRecord> back;
  ASSERT_TRUE(ledger
                  ->read("default", WallTime{}, WallTime::max(),
                         [&](const UsageRecord& one) {
                           back = one;
                           return true;
                         })
                  .ok());
  ASSERT_TRUE(back);
  EXPECT_EQ(record_json(*back), record_json(written));
}

TEST_F(LedgerTest, KeepsTenantsAndTimesApart) {
  auto ledger = open();
  const auto start = clock_.wall();
  ASSERT_TRUE(ledger->append(record("a")).ok());
  clock_.advance(hours{1});
  ASSERT_TRUE(ledger->append(record("b")).ok());
  auto other = record("c");
  other.tenant = "other";
  ASSERT_TRUE(ledger->append(other).ok());
  EXPECT_EQ(ids(*ledger), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(ids(*ledger, start, start + hours{1}), std::vector<std::string>{"a"});
  EXPECT_EQ(ids(*ledger, start + hours{1}, start + hours{2}), std::vector<std::string>{"b"});
}

TEST_F(LedgerTest, StopsReadingWhenToldTo) {
  auto ledger = open();
  for (const char* id : {"a", "b", "c"}) ASSERT_TRUE(ledger->append(record(id)).ok());
  int seen = 0;
  ASSERT_TRUE(
      ledger->read("default", WallTime{}, WallTime::max(), [&](const UsageRecord&) { return ++seen < 2; }).ok());
  EXPECT_EQ(seen, 2);
}

TEST_F(LedgerTest, CountsAnIdOnce) {
  auto ledger = open();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(ledger->append(record("same")).ok());
  EXPECT_EQ(ids(*ledger).size(), 1U);
  BillQuery query{"default", WallTime{}, clock_.wall() + hours{1}, {}};
  const auto bill = ledger->bill(query, PricePlan{});
  ASSERT_TRUE(bill.ok());
  EXPECT_EQ((*bill)["lines"][0]["invocations"], 1);
}

TEST_F(LedgerTest, BeginsASegmentEachDayAndFindsAcrossThem) {
  auto ledger = open();
  const auto start = clock_.wall();
  for (int day = 0; day < 4; ++day) {
    ASSERT_TRUE(ledger->append(record("day-" + std::to_string(day))).ok());
    clock_.advance(hours{24});
  }
  EXPECT_EQ(segments().size(), 4U);
  EXPECT_EQ(ids(*ledger).size(), 4U);
  EXPECT_EQ(ids(*ledger, start + hours{24}, start + hours{72}), (std::vector<std::string>{"day-1", "day-2"}));
  ledger = open();
  ASSERT_TRUE(ledger->append(record("later")).ok());
  EXPECT_EQ(ids(*ledger).size(), 5U);
}

// Whatever was on its way when the power went: whole records stay, and the next goes behind them.
TEST_F(LedgerTest, DropsATornTailAtEveryByte) {
  {
    auto ledger = open();
    for (const char* id : {"a", "b", "c"}) ASSERT_TRUE(ledger->append(record(id)).ok());
  }
  const auto file = segments().at(0);
  const auto content = *read_file(file);
  const size_t line = content.size() / 3;
  for (size_t size = 2 * line; size <= content.size(); ++size) {
    ASSERT_TRUE(write_file_durably(file, content.substr(0, size)).ok());
    auto ledger = open();
    const bool whole = size == content.size();
    ASSERT_EQ(ids(*ledger).size(), whole ? 3U : 2U) << size;
    ASSERT_TRUE(ledger->append(record("d")).ok());
    ASSERT_EQ(ids(*ledger).back(), "d") << size;
    ASSERT_EQ(ids(*ledger).size(), whole ? 4U : 3U) << size;
  }
}

TEST_F(LedgerTest, DropsGarbageAtTheEnd) {
  {
    auto ledger = open();
    ASSERT_TRUE(ledger->append(record("a")).ok());
  }
  const auto file = segments().at(0);
  const auto content = *read_file(file);
  ASSERT_TRUE(write_file_durably(file, content + std::string(300, '\0') + "\n").ok());
  auto ledger = open();
  EXPECT_EQ(ids(*ledger), std::vector<std::string>{"a"});
}

TEST_F(LedgerTest, SaysWhereAFileIsDamaged) {
  {
    auto ledger = open();
    for (const char* id : {"a", "b"}) ASSERT_TRUE(ledger->append(record(id)).ok());
  }
  const auto file = segments().at(0);
  auto content = *read_file(file);
  content[content.find("\"a\"") + 1] = 'x';
  ASSERT_TRUE(write_file_durably(file, content).ok());
  const auto ledger = open();
  const auto read = ledger->read("default", WallTime{}, WallTime::max(), [](const UsageRecord&) { return true; });
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code, Code::data_loss);
  EXPECT_THAT(read.error().message, HasSubstr("at byte 0"));
}

// The child says over a pipe what was appended; then it dies by kill -9 in the middle of its work.
TEST_F(LedgerTest, WhatWasAppendedSurvivesKill9) {
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(remove_tree(folder_).ok());
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(ends[0]);
      auto ledger = open_ledger(folder_, clock_);
      for (int i = 0;; ++i) {
        if (!(*ledger)->append(record("r-" + std::to_string(i))).ok()) ::_exit(1);
        if (::write(ends[1], "x", 1) != 1) ::_exit(1);
      }
    }
    ::close(ends[1]);
    const UniqueFd pipe(ends[0]);
    size_t acknowledged = 0;
    char buffer[64];
    while (acknowledged < 100 + static_cast<size_t>(round) * 37) {
      const ssize_t count = ::read(pipe.get(), buffer, sizeof buffer);
      ASSERT_GT(count, 0);
      acknowledged += static_cast<size_t>(count);
    }
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    ssize_t count = 0;
    while ((count = ::read(pipe.get(), buffer, sizeof buffer)) > 0) acknowledged += static_cast<size_t>(count);
    const auto ledger = open();
    const auto found = ids(*ledger);
    EXPECT_GE(found.size(), acknowledged);
    EXPECT_LE(found.size(), acknowledged + 1) << "at most the one whose word did not get out";
    for (size_t i = 0; i < found.size(); ++i) ASSERT_EQ(found[i], "r-" + std::to_string(i));
  }
}

TEST_F(LedgerTest, GroupsAndComparesWithServersThatAlwaysRun) {
  auto ledger = open();
  const auto start = clock_.wall();
  for (int i = 0; i < 10; ++i) {
    auto one = record("a-" + std::to_string(i), "a");
    one.memory_mb = 1024;
    one.billed_ms = 100;
    ASSERT_TRUE(ledger->append(one).ok());
  }
  clock_.advance(hours{12});
  auto training = record("b-0", "b");
  training.kind = "training";
  training.memory_mb = 512;
  training.billed_ms = 2000;
  training.billed_init_ms = 500;
  ASSERT_TRUE(ledger->append(training).ok());
  clock_.advance(hours{12});
  BillQuery query{"default", start, start + hours{24 * 30}, {"function", "kind"}};
  const auto bill = ledger->bill(query, PricePlan{});
  ASSERT_TRUE(bill.ok());
  const auto& lines = (*bill)["lines"];
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0]["function"], "a");
  EXPECT_EQ(lines[0]["invocations"], 10);
  EXPECT_NEAR(lines[0]["gb_seconds"].get<double>(), 1.0, 1e-12);
  EXPECT_NEAR(lines[0]["execution"].get<double>(), 0.0000166667, 1e-12);
  EXPECT_NEAR(lines[0]["requests"].get<double>(), 10 * 0.2e-6, 1e-15);
  EXPECT_EQ(lines[1]["kind"], "training");
  EXPECT_NEAR(lines[1]["init"].get<double>(), 0.5 * 0.5 * 0.0000166667, 1e-12);
  EXPECT_NEAR((*bill)["total"].get<double>(), lines[0]["total"].get<double>() + lines[1]["total"].get<double>(), 1e-15);
  // Until now, not until the end of the month: 24 h of 1 GB and 12 h of 0.5 GB.
  EXPECT_NEAR((*bill)["always_on"]["total"].get<double>(), 30.0 * 0.0000166667 * 3600, 1e-9);
  EXPECT_EQ((*bill)["always_on"]["functions"], 2);
}

TEST_F(LedgerTest, RefusesAGroupingItDoesNotKnow) {
  const auto ledger = open();
  const auto bill = ledger->bill({"default", WallTime{}, WallTime::max(), {"colour"}}, PricePlan{});
  ASSERT_FALSE(bill.ok());
  EXPECT_THAT(bill.error().text(), HasSubstr("\"colour\""));
  EXPECT_THAT(bill.error().text(), HasSubstr("function, day and kind"));
}

TEST(CostOf, EachPartOnALineOfItsOwn) {
  UsageRecord record;
  record.memory_mb = 2048;
  record.billed_ms = 1;
  record.billed_init_ms = 3;
  record.restore_ms = 10;
  PricePlan plan;
  plan.per_gb_second = 1;
  plan.init_per_gb_second = 10;
  plan.restore_per_gb_second = 100;
  plan.per_million_requests = 1e6;
  const auto cost = cost_of(record, plan);
  EXPECT_DOUBLE_EQ(cost.execution, 0.002);
  EXPECT_DOUBLE_EQ(cost.init, 0.06);
  EXPECT_DOUBLE_EQ(cost.restore, 2.0);
  EXPECT_DOUBLE_EQ(cost.requests, 1.0);
  EXPECT_DOUBLE_EQ(cost.total(), 3.062);
}

class PricePlanTest : public LedgerTest {
 protected:
  Result<PricePlan> load(const std::string& text) {
    EXPECT_TRUE(write_file_durably(folder_ / "prices.json", text).ok());
    return load_price_plan(folder_ / "prices.json");
  }
};

TEST_F(PricePlanTest, WritesTheDefaultOnceAndReadsItBack) {
  const auto file = folder_ / "config" / "prices.json";
  ASSERT_TRUE(write_default_price_plan(file).ok());
  const auto plan = load_price_plan(file);
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  EXPECT_DOUBLE_EQ(plan->per_gb_second, PricePlan{}.per_gb_second);
  ASSERT_TRUE(write_file_durably(file, R"({"name":"mine"})").ok());
  ASSERT_TRUE(write_default_price_plan(file).ok());
  EXPECT_EQ(load_price_plan(file)->name, "mine");
}

TEST_F(PricePlanTest, AbsentFieldsKeepTheirDefault) {
  const auto plan = load(R"({"currency":"EUR","per_gb_second":0.5})");
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->currency, "EUR");
  EXPECT_DOUBLE_EQ(plan->per_gb_second, 0.5);
  EXPECT_DOUBLE_EQ(plan->per_million_requests, 0.20);
}

TEST_F(PricePlanTest, SaysWhatIsWrong) {
  EXPECT_THAT(load("{").error().text(), HasSubstr("prices.json"));
  EXPECT_THAT(load("[]").error().text(), HasSubstr("not a JSON object"));
  EXPECT_THAT(load(R"({"per_gb_second":-1})").error().text(),
              HasSubstr("\"per_gb_second\" is -1; a price is 0 or more"));
  EXPECT_THAT(load(R"({"per_gb_second":"x"})").error().text(), HasSubstr("must be a number"));
  EXPECT_THAT(load(R"({"per_gb_secnod":1})").error().text(), HasSubstr("unknown field \"per_gb_secnod\""));
  EXPECT_FALSE(load_price_plan(folder_ / "nowhere.json").ok());
}

}  // namespace
}  // namespace sundog::meter
