// After any number of starts and deaths nothing is left: no process, cgroup, mount or descriptor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>

#include "sandbox/sandbox_fixture.h"

namespace sundog::sandbox {
namespace {

const char* kFunction = R"(
import os, subprocess, sys, time
def handler(event, context):
    if event == "exit": os._exit(1)
    if event == "memory":
        held = []
        while True: held.append(bytearray(8 << 20))
    if event == "daemon":
        for _ in range(3): subprocess.Popen(["sleep", "600"], start_new_session=True)
    if event == "sleep": time.sleep(600)
    return event
)";

struct Counts {
  size_t sandbox_processes = 0, cgroups = 0, mounts = 0, descriptors = 0;
  bool operator==(const Counts&) const = default;
  friend std::ostream& operator<<(std::ostream& out, const Counts& counts) {
    return out << counts.sandbox_processes << " processes, " << counts.cgroups << " cgroups, " << counts.mounts
               << " mounts, " << counts.descriptors << " descriptors";
  }
};

class LeftoversTest : public SandboxTest {
 protected:
  // What descends from us but the launcher itself.
  static size_t sandbox_processes() {
    std::map<int, int> parents;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      if (!std::isdigit(entry.path().filename().string()[0])) continue;
      std::ifstream status(entry.path() / "status");
      for (std::string line; std::getline(status, line);) {
        if (line.rfind("PPid:", 0) == 0) parents[std::atoi(entry.path().filename().c_str())] = std::atoi(&line[5]);
      }
    }
    size_t count = 0;
    for (auto [pid, parent] : parents) {
      if (parent == getpid()) continue;
      while (parent > 1 && parent != getpid()) parent = parents[parent];
      count += parent == getpid() ? 1 : 0;
    }
    return count;
  }
  // One in each hierarchy: version 1 has them below /sys/fs/cgroup, version 2 is one by itself.
  std::vector<Path> our_folders() const {
    std::vector<Path> found;
    const auto look = [&](const Path& hierarchy) {
      if (Path folder = hierarchy / ("sundog-" + cgroup_name_); std::filesystem::exists(folder))
        found.push_back(folder);
    };
    look("/sys/fs/cgroup");
    for (const auto& entry : std::filesystem::directory_iterator("/sys/fs/cgroup")) look(entry.path());
    return found;
  }
  Counts count() const {
    Counts counts;
    counts.sandbox_processes = sandbox_processes();
    for (const auto& folder : our_folders()) {
      std::error_code none;
      for (const auto& cell : std::filesystem::directory_iterator(folder, none)) {
        if (cell.is_directory()) ++counts.cgroups;
      }
    }
    std::ifstream mounts("/proc/self/mounts");
    for (std::string line; std::getline(mounts, line);) ++counts.mounts;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) counts.descriptors += entry.exists();
    return counts;
  }
  size_t hierarchies() const { return our_folders().size(); }
  // The kernel removes what is dead in its own time.
  void expect_back_to(const Counts& before) {
    loop_.run_until([&] { return count() == before; }, std::chrono::seconds(10));
    EXPECT_EQ(count(), before);
  }
};

TEST_F(LeftoversTest, TwoHundredMixedDeaths) {
  const auto started = start(kFunction, 64);
  ASSERT_TRUE(started->parked);
  // At rest: pid 1, the environment's template and the function's, their cells and the one kept ready.
  int quiet = 0;
  ASSERT_TRUE(loop_.run_until([&] {
    quiet = count().cgroups == 3 * hierarchies() ? quiet + 1 : 0;
    return quiet > 20;
  }));
  ASSERT_GT(hierarchies(), 0U);
  const Counts before = count();
  EXPECT_EQ(before.sandbox_processes, 3U);
  for (int i = 0; i < 200; ++i) {
    Witness witness;
    auto instance = fork(*started->parked, witness);
    ASSERT_TRUE(instance) << i;
    std::optional<Outcome> outcome;
    const char* kinds[] = {"\"exit\"", "\"echo\"", "\"daemon\"", "\"sleep\"", "\"echo\"", "\"memory\""};
    begin(*instance, kinds[i % 6], outcome);
    if (i % 6 == 3) instance->kill();
    ASSERT_TRUE(loop_.run_until([&] { return outcome.has_value(); })) << i;
    instance.reset();
  }
  EXPECT_TRUE(started->parked->alive());
  expect_back_to(before);
}

TEST_F(LeftoversTest, TemplatesLeaveNothing) {
  LocalSandboxOptions options;
  options.environment_idle = Millis{1};
  open_sandbox(options);
  const auto before = count();
  for (int i = 0; i < 5; ++i) {
    auto started = start(kFunction, 64);
    Witness witness;
    auto instance = fork(*started->parked, witness);
    EXPECT_EQ(invoke(*instance, "\"daemon\"").kind, Outcome::Kind::ok);
    if (i % 2 == 0) {
      started.reset();
      instance.reset();
    }
  }
  expect_back_to(before);
}

TEST_F(LeftoversTest, AClosedSandboxLeavesNothing) {
  auto started = start(kFunction, 64);
  const size_t others = 0;
  Witness witness;
  auto instance = fork(*started->parked, witness);
  std::optional<Outcome> outcome;
  begin(*instance, "\"sleep\"", outcome);
  ASSERT_GT(count().sandbox_processes, others);
  instance.reset();
  started.reset();
  sandbox_.reset();
  EXPECT_EQ(hierarchies(), 0U);
}

TEST_F(LeftoversTest, ADeadLauncherTakesEverythingWithItAndComesBack) {
  LocalSandboxOptions options;
  options.environment_idle = Millis{1};
  open_sandbox(options);
  auto started = start(kFunction, 64);
  std::string reason;
  started->parked->on_death([&](std::string why) { reason = std::move(why); });
  Witness witness;
  auto instance = fork(*started->parked, witness);
  std::optional<Outcome> outcome;
  begin(*instance, "\"sleep\"", outcome);
  // The launcher is our only child of that name.
  pid_t launcher = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream stat(entry.path() / "stat");
    std::string pid, name, state, parent;
    stat >> pid >> name >> state >> parent;
    if (name.rfind("(sundog-launche", 0) == 0 && parent == std::to_string(getpid())) launcher = std::atoi(pid.c_str());
  }
  ASSERT_GT(launcher, 0);
  ::kill(launcher, SIGKILL);
  ASSERT_TRUE(loop_.run_until([&] { return outcome.has_value() && !reason.empty(); }));
  EXPECT_EQ(outcome->kind, Outcome::Kind::exited);
  EXPECT_FALSE(started->parked->alive());
  auto again = start(kFunction, 64);
  ASSERT_TRUE(again->parked);
  Witness other;
  auto next = fork(*again->parked, other);
  EXPECT_EQ(invoke(*next, "\"echo\"").payload, "\"echo\"");
  next.reset();
  again.reset();
  instance.reset();
  started.reset();
  EXPECT_TRUE(loop_.run_until([&] { return count().cgroups == 0; }, std::chrono::seconds(10))) << count();
}

}  // namespace
}  // namespace sundog::sandbox
