#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <thread>

#include "base/ids.h"
#include "meter/bill.h"
#include "meter/record_line.h"
#include "meter/roll_up.h"
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
  std::unique_ptr<Ledger> open(Log& log = Log::none()) {
    auto ledger = open_ledger(folder_, clock_, log);
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
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      if (entry.path().extension() == ".ledger") all.push_back(entry.path());
    }
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
  const auto found = bill(*ledger, query, PricePlan{}, clock_.wall());
  ASSERT_TRUE(found.ok());
  EXPECT_EQ((*found)["lines"][0]["invocations"], 1);
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

// Its segment stands behind that of a later day.
TEST_F(LedgerTest, FindsWhatStandsBeforeARecordThatCameLate) {
  auto ledger = open();
  auto late = record("late");
  clock_.advance(hours{48});
  ASSERT_TRUE(ledger->append(record("a")).ok());
  ASSERT_TRUE(ledger->append(late).ok());
  EXPECT_EQ(ids(*ledger, clock_.wall() - hours{1}), std::vector<std::string>{"a"});
  EXPECT_EQ(ids(*ledger, WallTime{}, clock_.wall() - hours{1}), std::vector<std::string>{"late"});
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
      auto ledger = open_ledger(folder_, clock_, Log::none());
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
  const auto found = bill(*ledger, query, PricePlan{}, clock_.wall());
  ASSERT_TRUE(found.ok());
  const auto& lines = (*found)["lines"];
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0]["function"], "a");
  EXPECT_EQ(lines[0]["invocations"], 10);
  EXPECT_NEAR(lines[0]["gb_seconds"].get<double>(), 1.0, 1e-12);
  EXPECT_NEAR(lines[0]["execution"].get<double>(), 0.0000166667, 1e-12);
  EXPECT_NEAR(lines[0]["requests"].get<double>(), 10 * 0.2e-6, 1e-15);
  EXPECT_EQ(lines[1]["kind"], "training");
  EXPECT_NEAR(lines[1]["init"].get<double>(), 0.5 * 0.5 * 0.0000166667, 1e-12);
  EXPECT_NEAR((*found)["total"].get<double>(), lines[0]["total"].get<double>() + lines[1]["total"].get<double>(),
              1e-15);
  // Until now, not until the end of the month: 24 h of 1 GB and 12 h of 0.5 GB.
  EXPECT_NEAR((*found)["always_on"]["total"].get<double>(), 30.0 * 0.0000166667 * 3600, 1e-9);
  EXPECT_EQ((*found)["always_on"]["functions"], 2);
}

TEST_F(LedgerTest, RefusesAGroupingItDoesNotKnow) {
  const auto ledger = open();
  const auto found = bill(*ledger, {"default", WallTime{}, WallTime::max(), {"colour"}}, PricePlan{}, clock_.wall());
  ASSERT_FALSE(found.ok());
  EXPECT_THAT(found.error().text(), HasSubstr("\"colour\""));
  EXPECT_THAT(found.error().text(), HasSubstr("function, day and kind"));
}

// As the first release wrote them.
constexpr const char* kOldLine =
    R"(59c1856e {"id":"r-1","tenant":"default","function":"f","version":"3","kind":"function","request_id":"r","outcome":"ok","ended_ms":1790000000000,"memory_mb":256,"queue_ms":1,"restore_ms":5,"init_ms":0,"handler_ms":12,"billed_ms":12,"billed_init_ms":0,"cpu_ms":9,"peak_memory_mb":40,"bytes_in":8,"bytes_out":2})";

TEST(RecordLine, ReadsALineOfTheFirstFormat) {
  const auto record = parse_record_line(kOldLine);
  ASSERT_TRUE(record.ok()) << record.error().text();
  EXPECT_EQ(record->id, "r-1");
  EXPECT_EQ(record->version, "3");
  EXPECT_EQ(epoch_millis(record->ended), 1'790'000'000'000);
  EXPECT_EQ(record->memory_mb, 256);
  EXPECT_EQ(record->billed_ms, 12);
  EXPECT_EQ(record->billed_restore_ms, 5);
  EXPECT_EQ(record->instance, "");
}

TEST(RecordLine, RefusesWhatIsNotRight) {
  const auto line = [](const std::string& json) { return checksum(json) + " " + json; };
  EXPECT_EQ(parse_record_line(line(R"({"v":3})")).error().code, Code::unsupported);
  EXPECT_TRUE(is_whole_line(line(R"({"v":3})")));
  for (const char* json : {"[]", "{", R"({"memory_mb":-1})", R"({"billed_ms":1.5})", R"({"ended_ms":9e18})",
                           R"({"id":1})", R"({"cpu_ms":"x"})", R"({"memory_mb":4000000000})"}) {
    EXPECT_FALSE(parse_record_line(line(json)).ok()) << json;
  }
  EXPECT_EQ(parse_record_line("00000000 {}").error().code, Code::data_loss);
}

TEST(RecordLine, WritesWhatReadsAsTheSame) {
  UsageRecord record;
  record.id = "r-\"quoted\"\n";
  record.function = "naïve";
  record.instance = "i-1";
  record.handler_ms = 0.1 + 0.2;
  record.cpu_ms = 1e-9;
  record.bytes_in = 6 << 20;
  const auto line = record_line(record);
  const auto back = parse_record_line(std::string_view(line).substr(0, line.size() - 1));
  ASSERT_TRUE(back.ok()) << back.error().text();
  EXPECT_EQ(record_json(*back), record_json(record));
}

TEST_F(LedgerTest, KeepsALineOfANewerSundogAndSaysSo) {
  {
    auto ledger = open();
    ASSERT_TRUE(ledger->append(record("a")).ok());
  }
  const std::string newer = R"({"v":9,"id":"b"})";
  const auto file = segments().at(0);
  ASSERT_TRUE(write_file_durably(file, *read_file(file) + checksum(newer) + " " + newer + "\n").ok());
  const auto size = std::filesystem::file_size(file);
  auto ledger = open();
  EXPECT_EQ(std::filesystem::file_size(file), size);
  const auto read = ledger->read("default", WallTime{}, WallTime::max(), [](const UsageRecord&) { return true; });
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code, Code::unsupported);
  EXPECT_THAT(read.error().message, HasSubstr("format 9"));
}

class RollUpTest : public LedgerTest {
 protected:
  // Three days, the last of them today; two functions, two tenants.
  void fill(Ledger& ledger) {
    for (int day = 0; day < 3; ++day) {
      for (int i = 0; i < 10 * (day + 1); ++i) {
        auto one = record(std::to_string(day) + "-" + std::to_string(i), i % 3 == 0 ? "f" : "g");
        if (i % 5 == 0) one.tenant = "acme";
        one.billed_ms = i;
        one.billed_init_ms = i % 2;
        one.billed_restore_ms = 3;
        ASSERT_TRUE(ledger.append(one).ok());
        clock_.advance(Millis{1'000});
      }
      if (day < 2) clock_.advance(hours{24});
    }
  }
  UsageQuery everything(const std::string& tenant = "") const { return {tenant, WallTime{}, clock_.wall() + hours{1}}; }
  // Added up from the records alone.
  std::vector<UsageSum> by_hand(const Ledger& ledger, const std::string& tenant) const {
    Adder adder;
    EXPECT_TRUE(ledger
                    .read(tenant, WallTime{}, WallTime::max(),
                          [&](const UsageRecord& one) {
                            adder.add(iso_day(one.ended), one);
                            return true;
                          })
                    .ok());
    return adder.sums();
  }
  Path roll_up(const std::string& day) const { return roll_up_path(folder_, day); }
};

TEST_F(RollUpTest, SumsAreThoseOfTheRecords) {
  auto ledger = open();
  fill(*ledger);
  for (int round = 0; round < 2; ++round) {  // makes the roll-ups, then uses them
    for (const std::string tenant : {"default", "acme"}) {
      const auto sums = ledger->sums(everything(tenant));
      ASSERT_TRUE(sums.ok()) << sums.error().text();
      EXPECT_EQ(*sums, by_hand(*ledger, tenant));
    }
    EXPECT_TRUE(std::filesystem::exists(roll_up("2026-01-01")));
    EXPECT_TRUE(std::filesystem::exists(roll_up("2026-01-02")));
    EXPECT_FALSE(std::filesystem::exists(roll_up("2026-01-03"))) << "the day is not over";
    ledger = open();
  }
  const auto all = ledger->sums(everything());
  ASSERT_TRUE(all.ok());
  int64_t invocations = 0;
  for (const auto& sum : *all) invocations += sum.quantity.invocations;
  EXPECT_EQ(invocations, 60);
}

TEST_F(RollUpTest, ClosedDaysAreNotReadAgain) {
  auto ledger = open();
  fill(*ledger);
  const auto before = ledger->sums(everything("default"));
  ASSERT_TRUE(before.ok());
  // Records of a day that is rolled up may go to an archive.
  ASSERT_TRUE(std::filesystem::remove(segments().at(0)));
  const auto after = ledger->sums(everything("default"));
  ASSERT_TRUE(after.ok());
  EXPECT_EQ(*after, *before);
  const auto verified = ledger->verify(everything("default"));
  ASSERT_TRUE(verified.ok());
  EXPECT_TRUE((*verified)["ok"]);
  EXPECT_EQ((*verified)["days"][0]["state"], "no_records");
  EXPECT_EQ((*verified)["days"][1]["state"], "matches");
  EXPECT_EQ((*verified)["days"][2]["state"], "no_roll_up");
}

// One segment of a day in an archive, or all: what only the roll-up has is never made again from the rest.
TEST_F(RollUpTest, KeepsWhatIsInAnArchive) {
  for (const size_t archived : {1U, 2U}) {
    ASSERT_TRUE(remove_tree(folder_).ok());
    auto ledger = open();
    auto of_the_day = record("a");
    const auto day = iso_day(of_the_day.ended);
    clock_.advance(hours{24});
    ASSERT_TRUE(ledger->append(of_the_day).ok());
    ASSERT_TRUE(ledger->append(record("next-day")).ok());
    of_the_day.id = "b";
    ASSERT_TRUE(ledger->append(of_the_day).ok());
    clock_.advance(hours{24});
    ASSERT_TRUE(ledger->append(record("today")).ok());
    const auto before = *ledger->sums(everything());
    const auto all = segments();
    ASSERT_EQ(all.size(), 4U);
    std::map<Path, std::string> archive;
    for (const auto& path : {all[0], all[1]}) {  // sorted by time: those of the first day
      if (archive.size() == archived) break;
      archive[path] = *read_file(path);
      ASSERT_TRUE(std::filesystem::remove(path));
    }
    EXPECT_EQ(*ledger->sums(everything()), before);
    auto verified = *ledger->verify(everything());
    EXPECT_TRUE(verified["ok"]) << verified;
    EXPECT_EQ(verified["days"][0]["state"], "no_records");
    EXPECT_EQ(verified["days"][0]["records"], 2);

    of_the_day.id = "c";
    ASSERT_TRUE(ledger->append(of_the_day).ok());
    const auto kept = *read_file(roll_up(day));
    const auto sums = ledger->sums(everything());
    ASSERT_FALSE(sums.ok());
    EXPECT_EQ(sums.error().code, Code::data_loss);
    EXPECT_THAT(sums.error().text(), HasSubstr(archive.begin()->first.filename().string()));
    EXPECT_THAT(sums.error().text(), HasSubstr("Put that file back"));
    verified = *ledger->verify(everything());
    EXPECT_FALSE(verified["ok"]);
    EXPECT_EQ(verified["days"][0]["state"], "no_records");
    EXPECT_EQ(*read_file(roll_up(day)), kept);
    // Its first line still says what it counts.
    ASSERT_TRUE(write_file_durably(roll_up(day), kept.substr(0, kept.size() - 1)).ok());
    EXPECT_EQ(ledger->sums(everything()).error().code, Code::data_loss);
    EXPECT_THAT((*ledger->verify(everything()))["days"][0]["problem"].get<std::string>(), HasSubstr("Put back"));

    for (const auto& [path, content] : archive) ASSERT_TRUE(write_file_durably(path, content).ok());
    EXPECT_EQ(*ledger->sums(everything("default")), by_hand(*ledger, "default"));
    EXPECT_EQ((*ledger->verify(everything()))["days"][0]["state"], "matches");
  }
}

TEST_F(RollUpTest, VerifyShowsATenantItsOwnRecordsOnly) {
  auto ledger = open();
  for (const char* id : {"a", "a", "b"}) ASSERT_TRUE(ledger->append(record(id)).ok());
  auto other = record("c");
  other.tenant = "acme";
  ASSERT_TRUE(ledger->append(other).ok());
  clock_.advance(hours{24});
  const auto day = [&](const std::string& tenant) { return (*ledger->verify(everything(tenant)))["days"][0]; };
  EXPECT_EQ(day("")["duplicates"], 1);
  EXPECT_EQ(day("default")["duplicates"], 1);
  EXPECT_EQ(day("acme")["duplicates"], 0);
  EXPECT_EQ(day("acme")["records"], 1);
  ASSERT_TRUE(ledger->sums(everything()).ok());
  ASSERT_TRUE(std::filesystem::remove(segments().at(0)));
  EXPECT_EQ(day("acme")["state"], "no_records");
  EXPECT_EQ(day("acme")["records"], 1);
  EXPECT_EQ(day("acme")["duplicates"], 0);
  EXPECT_EQ(day("default")["records"], 2);
}

TEST_F(RollUpTest, LogsADayThatCannotBeAddedUp) {
  {
    auto ledger = open();
    fill(*ledger);
  }
  for (const char* day : {"2026-01-01", "2026-01-02"}) std::filesystem::remove(roll_up(day));
  const auto file = segments().at(0);
  auto content = *read_file(file);
  content[20] ^= 1;
  ASSERT_TRUE(write_file_durably(file, content).ok());
  Log log(Level::warning);
  testing::internal::CaptureStderr();
  {
    const auto ledger = open(log);
    while (!std::filesystem::exists(roll_up("2026-01-02"))) std::this_thread::yield();
  }
  const auto logged = testing::internal::GetCapturedStderr();
  EXPECT_THAT(logged, HasSubstr("roll_up_not_made"));
  EXPECT_THAT(logged, HasSubstr("at byte 0"));
}

TEST_F(RollUpTest, ARecordThatCameLateMakesItAgain) {
  auto ledger = open();
  fill(*ledger);
  ASSERT_TRUE(ledger->sums(everything()).ok());
  auto late = record("late");
  late.ended = clock_.wall() - hours{24};
  ASSERT_TRUE(ledger->append(late).ok());
  const auto sums = ledger->sums(everything("default"));
  ASSERT_TRUE(sums.ok());
  EXPECT_EQ(*sums, by_hand(*ledger, "default"));
}

TEST_F(RollUpTest, ADamagedOrWrongOneIsFoundAndMadeAgain) {
  auto ledger = open();
  fill(*ledger);
  const auto right = ledger->sums(everything("default"));
  ASSERT_TRUE(right.ok());
  const auto file = roll_up("2026-01-01");
  const auto text = *read_file(file);
  for (size_t size = 0; size < text.size(); size += 7) {
    ASSERT_TRUE(write_file_durably(file, text.substr(0, size)).ok());
    ASSERT_EQ(*ledger->sums(everything("default")), *right) << size;
  }
  ASSERT_TRUE(write_file_durably(file, text.substr(0, text.size() / 2)).ok());
  EXPECT_FALSE((*ledger->verify(everything("default")))["ok"]);
  // Whole, but with one invocation more than there was.
  auto wrong = *read_roll_up(folder_, "2026-01-02", "");
  ++wrong->sums.at(0).quantity.invocations;
  ASSERT_TRUE(write_roll_up(folder_, *wrong).ok());
  ASSERT_TRUE(std::filesystem::remove(file));
  const auto verified = ledger->verify(everything());
  ASSERT_TRUE(verified.ok());
  EXPECT_FALSE((*verified)["ok"]);
  EXPECT_EQ((*verified)["days"][0]["state"], "no_roll_up");
  EXPECT_EQ((*verified)["days"][1]["state"], "differs");
  EXPECT_THAT((*verified)["days"][1]["problem"].get<std::string>(), HasSubstr("Remove the file"));
}

TEST_F(RollUpTest, APartOfADayIsReadRecordByRecord) {
  auto ledger = open();
  fill(*ledger);
  const auto start = FakeClock().wall();
  const auto sums = ledger->sums({"default", start + Millis{2'000}, start + Millis{5'000}});
  ASSERT_TRUE(sums.ok());
  int64_t invocations = 0;
  for (const auto& sum : *sums) invocations += sum.quantity.invocations;
  EXPECT_EQ(invocations, 3);  // those of the third to the fifth second; acme's is the first and the sixth
}

TEST_F(RollUpTest, IsMadeWhenTheDayIsOver) {
  auto ledger = open();
  ASSERT_TRUE(ledger->append(record("a")).ok());
  clock_.advance(hours{24});
  ASSERT_TRUE(ledger->append(record("b")).ok());
  const auto file = roll_up("2026-01-01");
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds{10};
  while (!std::filesystem::exists(file) && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
  EXPECT_TRUE(std::filesystem::exists(file));
}

TEST_F(RollUpTest, CountsAnIdOnce) {
  auto ledger = open();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(ledger->append(record("same")).ok());
  clock_.advance(hours{24});
  for (int round = 0; round < 2; ++round) {
    const auto sums = ledger->sums(everything("default"));
    ASSERT_TRUE(sums.ok());
    ASSERT_EQ(sums->size(), 1U);
    EXPECT_EQ(sums->at(0).quantity.invocations, 1);
  }
  EXPECT_EQ((*ledger->verify(everything()))["days"][0]["duplicates"], 2);
}

}  // namespace
}  // namespace sundog::meter
