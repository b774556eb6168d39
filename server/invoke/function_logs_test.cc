#include "invoke/function_logs.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>

#include "store/test_folder.h"

namespace sundog::invoke {
namespace {

using testing::HasSubstr;

class LogsTest : public testing::Test {
 protected:
  void open(int64_t per_function = 10 << 20, int64_t per_invocation = 1 << 20) {
    logs_.reset();
    logs_ = open_function_logs(clock_, pool_, {folder_.path() / "logs", per_function, per_invocation});
  }
  std::vector<LogLine> read(int64_t after = 0, size_t limit = 100'000, const std::string& function = "f") const {
    auto lines = logs_->read("t", function, after, limit);
    EXPECT_TRUE(lines.ok());
    return *lines;
  }
  int64_t on_disk() const {
    int64_t bytes = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path())) {
      if (entry.is_regular_file()) bytes += static_cast<int64_t>(entry.file_size());
    }
    return bytes;
  }

  FakeClock clock_;
  Pool pool_{"logs", {.threads = 1}};
  store::TestFolder folder_;
  std::unique_ptr<FunctionLogs> logs_;
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

TEST_F(LogsTest, SaysHowManyLinesTheDiskRefused) {
  open();
  logs_->append("t", "f", "r", "before");
  ASSERT_EQ(read().size(), 1U);
  {
    const FileLimit full(static_cast<rlim_t>(on_disk()) + 10);
    logs_->append("t", "f", "r", "lost\nlost as well");
    ASSERT_TRUE(logs_->read("t", "f", 0, 10).ok());
  }
  logs_->append("t", "f", "r", "after");
  read();
  open();
  const auto lines = read();
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0].text, "before");
  EXPECT_THAT(lines[1].text, HasSubstr("2 lines before this one were not kept"));
  EXPECT_EQ(lines[2].text, "after");
}

TEST_F(LogsTest, ReadsWhatWasAppendedAtOnce) {
  open();
  logs_->append("t", "f", "r1", "one\ntwo\n");
  logs_->append("t", "f", "r1", "three");
  logs_->append("t", "other", "r2", "elsewhere");
  const auto lines = read();
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0].text, "one");
  EXPECT_EQ(lines[2].text, "three");
  EXPECT_EQ(lines[2].request_id, "r1");
  EXPECT_LT(lines[0].sequence, lines[1].sequence);
  EXPECT_EQ(read(lines[0].sequence, 1)[0].text, "two");
  EXPECT_TRUE(read(lines[2].sequence).empty());
}

TEST_F(LogsTest, AnUnknownFunctionHasNoLines) {
  open();
  EXPECT_TRUE(read(0, 10, "nobody").empty());
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "logs" / "t" / "nobody"));
}

TEST_F(LogsTest, TheSequenceGoesOnAfterARestart) {
  open();
  logs_->append("t", "f", "r", "before");
  const auto sequence = read().at(0).sequence;
  open();
  logs_->append("t", "f", "r", "after");
  const auto lines = read();
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0].text, "before");
  EXPECT_EQ(lines[1].sequence, sequence + 1);
}

TEST_F(LogsTest, ATornLastLineIsDropped) {
  open();
  logs_->append("t", "f", "r", "whole");
  logs_.reset();
  const auto file = folder_.path() / "logs" / "t" / "f" / "newer.log";
  const auto content = *read_file(file);
  ASSERT_TRUE(write_file_durably(file, content + R"({"s":2,"t":1,"r":"r","x":"to)").ok());
  open();
  logs_->append("t", "f", "r", "next");
  const auto lines = read();
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[1].text, "next");
}

TEST_F(LogsTest, AFunctionsLogIsBoundedAndKeepsTheNewest) {
  open(64 << 10);
  for (int i = 0; i < 5000; ++i) logs_->append("t", "f", "", "line " + std::to_string(i));
  const auto lines = read();
  EXPECT_LE(on_disk(), 70 << 10);
  ASSERT_FALSE(lines.empty());
  EXPECT_LT(lines.size(), 5000U);
  EXPECT_EQ(lines.back().text, "line 4999");
  EXPECT_EQ(lines.back().sequence, 5000);
  for (size_t i = 1; i < lines.size(); ++i) ASSERT_EQ(lines[i].sequence, lines[i - 1].sequence + 1);
}

TEST_F(LogsTest, AFloodIsCutAndSaysHowMuchWasDropped) {
  open(10 << 20, 1000);
  logs_->append("t", "f", "quiet", "hello");
  for (int i = 0; i < 100; ++i) logs_->append("t", "f", "loud", std::string(100, 'x'));
  logs_->end("t", "f", "loud", "END\nREPORT");
  logs_->append("t", "f", "quiet", "still here");
  const auto lines = read();
  ASSERT_EQ(lines.size(), 1 + 10 + 1 + 2 + 1U);
  EXPECT_THAT(lines[11].text, HasSubstr("9000 bytes of output were dropped"));
  EXPECT_EQ(lines[12].text, "END");
  EXPECT_EQ(lines[14].text, "still here");
}

TEST_F(LogsTest, FollowersAreToldUntilTheyLetGo) {
  open();
  store::Seen<int> told;
  auto token = logs_->follow("t", "f", [&] { told.add(1); });
  logs_->append("t", "f", "r", "one");
  told.wait_for(1);
  logs_->append("t", "other", "r", "not theirs");
  read(0, 10, "other");
  token.reset();
  logs_->append("t", "f", "r", "two");
  logs_.reset();
  EXPECT_EQ(told.count(), 1U);
}

TEST_F(LogsTest, NamesCannotLeaveTheFolder) {
  open();
  logs_->append("..", "../../x", "r", "text");
  logs_.reset();
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
    EXPECT_EQ(entry.path().filename(), "logs");
  open();
  EXPECT_EQ(logs_->read("..", "../../x", 0, 10)->size(), 1U);
}

size_t open_files() {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

TEST_F(LogsTest, FunctionsThatRestHoldNoFilesAndGoOnWhereTheyWere) {
  open();
  const auto files = open_files();
  const auto each = [](const std::function<void(const std::string&)>& act) {
    for (int number = 0; number < 200; ++number) act("f" + std::to_string(number));
  };
  const auto texts = [this](int64_t after, const std::string& function) {
    std::vector<std::string> out;
    for (const auto& line : read(after, 100, function)) out.push_back(std::to_string(line.sequence) + line.text);
    return out;
  };
  each([this](const std::string& function) { logs_->append("t", function, "r", "one\n"); });
  each([&](const std::string& function) { EXPECT_THAT(texts(0, function), testing::ElementsAre("1one")); });
  EXPECT_LE(open_files(), files + 64);
  each([this](const std::string& function) { logs_->append("t", function, "r", "two\n"); });
  each([&](const std::string& function) { EXPECT_THAT(texts(0, function), testing::ElementsAre("1one", "2two")); });
  each([&](const std::string& function) { EXPECT_THAT(texts(1, function), testing::ElementsAre("2two")); });
  EXPECT_LE(open_files(), files + 64);
  each([this](const std::string& function) { logs_->remove("t", function); });
  EXPECT_EQ(open_files(), files);
  logs_->append("t", "f7", "r", "anew\n");
  EXPECT_THAT(texts(0, "f7"), testing::ElementsAre("1anew"));
}

TEST_F(LogsTest, RemovedMeansGone) {
  open();
  logs_->append("t", "f", "r", "text");
  read();
  logs_->remove("t", "f");
  EXPECT_TRUE(read().empty());
  EXPECT_EQ(on_disk(), 0);
}

TEST_F(LogsTest, TextThatIsNotUtf8IsKeptReadable) {
  open();
  logs_->append("t", "f", "r", "caf\xe9");
  open();
  ASSERT_EQ(read().size(), 1U);
  EXPECT_THAT(read()[0].text, HasSubstr("caf"));
}

}  // namespace
}  // namespace sundog::invoke
