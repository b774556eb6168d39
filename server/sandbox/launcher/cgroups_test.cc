// The paths of version 2 on plain folders that hold its files, since a machine has the controllers in one version only;
// and what a hierarchy without controllers gives (cgroup.kill) on the real one, where there is one.
#include "sandbox/launcher/cgroups.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace sundog::sandbox::launcher {
namespace {

namespace fs = std::filesystem;

constexpr int kPlain = O_CREAT | O_APPEND;

class CgroupsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "cgroups are root's";
    folder_ = fs::temp_directory_path() / ("sundog-cgroups-" + std::to_string(getpid()));
    fs::create_directories(folder_ / "v2");
    write("v2/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n");
    write("mounts", "cgroup2 " + (folder_ / "v2").string() + " cgroup2 rw,nosuid 0 0\n");
  }
  void TearDown() override {
    if (!folder_.empty()) fs::remove_all(folder_);
  }
  void write(const std::string& file, const std::string& text) const { std::ofstream(folder_ / file) << text; }
  std::string read(const std::string& file) const {
    std::ostringstream text;
    text << std::ifstream(folder_ / file).rdbuf();
    return text.str();
  }
  std::string mounts() const { return (folder_ / "mounts").string(); }

  fs::path folder_;
};

TEST_F(CgroupsTest, Version2GetsItsLimits) {
  Cgroups cgroups("t", "", mounts().c_str(), kPlain);
  EXPECT_EQ(cgroups.version(), 2);
  EXPECT_TRUE(cgroups.has(Cgroups::kMemory | Cgroups::kCpu | Cgroups::kPids | Cgroups::kKill));
  cgroups.begin();
  EXPECT_EQ(read("v2/cgroup.subtree_control"), "+memory+cpu+pids") << "each by itself";
  EXPECT_EQ(read("v2/sundog-t/cgroup.subtree_control"), "+memory+cpu+pids");
  CellDescriptors cell;
  const char* why = "";
  ASSERT_EQ(cgroups.make(7, {256 << 20, 1500, 64}, cell, why), 0) << why;
  EXPECT_EQ(read("v2/sundog-t/c7/memory.max"), "268435456");
  EXPECT_EQ(read("v2/sundog-t/c7/memory.swap.max"), "0");
  EXPECT_EQ(read("v2/sundog-t/c7/cpu.max"), "150000 100000");
  EXPECT_EQ(read("v2/sundog-t/c7/cpu.weight"), "150");
  EXPECT_EQ(read("v2/sundog-t/c7/pids.max"), "64");
  ASSERT_EQ(cell.attach.size(), 1U) << "one hierarchy, one place to enter";
  EXPECT_EQ(::write(cell.attach[0], "0", 1), 1);
  EXPECT_EQ(read("v2/sundog-t/c7/cgroup.procs"), "0");
  cell.close_all();
  cgroups.kill(7);
  EXPECT_EQ(read("v2/sundog-t/c7/cgroup.kill"), "1");
}

TEST_F(CgroupsTest, AControllerThatIsMissingIsNamed) {
  write("v2/cgroup.controllers", "cpuset cpu pidsx memory\n");
  const Cgroups cgroups("t", "", mounts().c_str(), kPlain);
  EXPECT_TRUE(cgroups.has(Cgroups::kMemory | Cgroups::kCpu));
  EXPECT_FALSE(cgroups.has(Cgroups::kPids)) << "pidsx is another";
}

TEST_F(CgroupsTest, InADelegatedOneOnlyWhatThatHasIsAskedFor) {
  fs::create_directories(folder_ / "v2/user.slice/ours");
  write("v2/user.slice/ours/cgroup.controllers", "memory pids\n");
  Cgroups cgroups("t", (folder_ / "v2/user.slice/ours").c_str(), mounts().c_str(), kPlain);
  EXPECT_EQ(cgroups.version(), 2);
  EXPECT_TRUE(cgroups.has(Cgroups::kMemory | Cgroups::kPids | Cgroups::kKill));
  EXPECT_FALSE(cgroups.has(Cgroups::kCpu));
  cgroups.begin();
  EXPECT_FALSE(fs::exists(folder_ / "v2/cgroup.subtree_control")) << "the root is somebody else's";
  EXPECT_EQ(read("v2/user.slice/ours/cgroup.subtree_control"), "+memory+pids");
  EXPECT_EQ(read("v2/user.slice/ours/sundog-t/cgroup.subtree_control"), "+memory+pids");
  CellDescriptors cell;
  const char* why = "";
  ASSERT_EQ(cgroups.make(7, {256 << 20, 1500, 64}, cell, why), 0) << why;
  EXPECT_EQ(read("v2/user.slice/ours/sundog-t/c7/memory.max"), "268435456");
  EXPECT_FALSE(fs::exists(folder_ / "v2/user.slice/ours/sundog-t/c7/cpu.max"));
  cell.close_all();
}

TEST_F(CgroupsTest, Version1IsTakenBeforeAVersion2WithoutControllers) {
  fs::create_directories(folder_ / "v1");
  write("v2/cgroup.controllers", "hugetlb\n");
  write("mounts", "cgroup " + (folder_ / "v1").string() + " cgroup rw,memory,cpu,cpuacct,pids 0 0\ncgroup2 " +
                      (folder_ / "v2").string() + " cgroup2 rw 0 0\n");
  const Cgroups cgroups("t", "", mounts().c_str(), kPlain);
  EXPECT_EQ(cgroups.version(), 1);
  EXPECT_TRUE(cgroups.has(Cgroups::kMemory | Cgroups::kCpu | Cgroups::kPids | Cgroups::kAccount));
  EXPECT_FALSE(cgroups.has(Cgroups::kKill));
}

TEST_F(CgroupsTest, WithoutAnyNothingIsAvailable) {
  write("mounts", "proc /proc proc rw 0 0\n");
  Cgroups cgroups("t", "", mounts().c_str());
  EXPECT_FALSE(cgroups.available());
  EXPECT_EQ(cgroups.version(), 0);
  CellDescriptors cell;
  const char* why = "";
  EXPECT_EQ(cgroups.make(1, {1 << 20, 1000, 1}, cell, why), 0);
  EXPECT_EQ(cell.attach.size(), 0U);
  EXPECT_TRUE(cgroups.try_remove(1));
}

// The kernel's own version 2, of which cgroup.kill needs no controller.
TEST_F(CgroupsTest, TheRealCgroupKillEndsATree) {
  std::ifstream table("/proc/self/mounts");
  std::string real;
  for (std::string line; std::getline(table, line) && real.empty();) {
    if (line.find(" cgroup2 ") != std::string::npos) real = line;
  }
  if (real.empty()) GTEST_SKIP() << "this machine has no cgroup2 mounted";
  write("mounts", real + "\n");
  Cgroups cgroups(("test-" + std::to_string(getpid())).c_str(), "", mounts().c_str());
  if (!cgroups.available() || cgroups.has(Cgroups::kMemory))
    GTEST_SKIP() << "it has controllers: leftovers_test has it";
  cgroups.begin();
  CellDescriptors cell;
  const char* why = "";
  ASSERT_EQ(cgroups.make(1, {64 << 20, 1000, 64}, cell, why), 0) << why;
  int entered[2];
  ASSERT_EQ(pipe(entered), 0);
  const pid_t child = fork();
  if (child == 0) {
    if (::write(cell.attach[0], "0", 1) != 1 || ::write(entered[1], "x", 1) != 1) _exit(1);
    // It forks as long as it lives; should nothing kill them, time does.
    alarm(30);
    for (int children = 0; children < 500; ++children) {
      if (fork() == 0) {
        alarm(30);
        pause();
        _exit(0);
      }
      usleep(10'000);
    }
    pause();
    _exit(0);
  }
  close(entered[1]);
  char byte = 0;
  ASSERT_EQ(::read(entered[0], &byte, 1), 1);
  close(entered[0]);
  cell.close_all();
  EXPECT_FALSE(cgroups.try_remove(1)) << "somebody is in it";  // and is killed
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  bool gone = false;
  for (int look = 0; look < 2000 && !gone; ++look) {
    gone = cgroups.try_remove(1);
    usleep(1000);
  }
  EXPECT_TRUE(gone);
  cgroups.end();
}

}  // namespace
}  // namespace sundog::sandbox::launcher
