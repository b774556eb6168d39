// On plain folders that hold the files of version 2; tools/vm runs it on the kernel's own, as root and rootless.
#include "sandbox/delegated_cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

namespace sundog::sandbox {
namespace {

namespace fs = std::filesystem;

class DelegatedCgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("sundog-delegated-" + std::to_string(getpid()));
    fs::create_directories(own());
    write("mounts", "proc /proc proc rw 0 0\ncgroup2 " + (folder_ / "v2").string() + " cgroup2 rw,nsdelegate 0 0\n");
    write("self", "1:name=other:/elsewhere\n0::/user.slice/ours\n");
    for (const char* file : {"cgroup.procs", "cgroup.subtree_control"}) write(own() / file, "");
  }
  void TearDown() override { fs::remove_all(folder_); }

  Path own() const { return folder_ / "v2" / "user.slice" / "ours"; }
  void write(const Path& file, const std::string& text) const { std::ofstream(folder_ / file) << text; }
  std::string read(const Path& file) const {
    std::ostringstream text;
    text << std::ifstream(folder_ / file).rdbuf();
    return text.str();
  }
  Path found() const { return delegated_cgroup(folder_ / "mounts", folder_ / "self"); }

  Path folder_;
};

TEST_F(DelegatedCgroupTest, AUsersIsItsOwnAndRootsIsTheRootOfTheHierarchy) {
  EXPECT_EQ(found(), geteuid() == 0 ? Path() : own());
}

TEST_F(DelegatedCgroupTest, WhatSystemdMarksIsRootsToo) {
  if (geteuid() != 0) GTEST_SKIP() << "root alone writes such marks";
  if (setxattr(own().c_str(), "trusted.delegate", "1", 1, 0) != 0) GTEST_SKIP() << "no such marks in this file system";
  EXPECT_EQ(found(), own());
  setxattr(own().c_str(), "trusted.delegate", "0", 1, 0);
  EXPECT_EQ(found(), Path());
  setxattr(own().c_str(), "trusted.delegate", "1", 1, 0);
  ASSERT_EQ(chown(own().c_str(), 61'007, 61'007), 0);
  EXPECT_EQ(found(), Path()) << "a user's own, out of which root came by sudo";
}

TEST_F(DelegatedCgroupTest, AContainersRootIsNotTheHierarchys) {
  write("v2/cgroup.type", "domain\n");
  EXPECT_EQ(found(), own());
  write("self", "0::/\n");
  EXPECT_EQ(found(), Path()) << "its files are not there to be written";
  for (const char* file : {"v2/cgroup.procs", "v2/cgroup.subtree_control"}) write(file, "");
  EXPECT_EQ(found(), folder_ / "v2");
  write("self", "0::/as/seen/from/outside\n");
  EXPECT_EQ(found(), folder_ / "v2");
}

TEST_F(DelegatedCgroupTest, AUnitOfSystemdsThatIsNotDelegatedIsNotTaken) {
  write("v2/cgroup.type", "domain\n");  // else root would not look
  const Path unit = folder_ / "v2" / "user.slice" / "terminal-of-nobody.scope";
  fs::create_directories(unit);
  for (const char* file : {"cgroup.procs", "cgroup.subtree_control"}) write(unit / file, "");
  write("self", "0::/user.slice/terminal-of-nobody.scope\n");
  EXPECT_EQ(found(), Path());
  if (setxattr(unit.c_str(), "user.delegate", "1", 1, 0) != 0) GTEST_SKIP() << "no such marks in this file system";
  EXPECT_EQ(found(), unit);
}

TEST_F(DelegatedCgroupTest, ASecondServerFindsTheSame) {
  write("v2/cgroup.type", "domain\n");
  fs::create_directories(own() / "sundog.processes");
  write("self", "0::/user.slice/ours/sundog.processes\n");
  EXPECT_EQ(found(), own());
}

TEST_F(DelegatedCgroupTest, WithoutVersion2ThereIsNone) {
  write("mounts", "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n");
  EXPECT_EQ(found(), Path());
  write("self", "4:memory:/\n");
  EXPECT_EQ(found(), Path());
}

TEST_F(DelegatedCgroupTest, AnEmptyOneHasRoom) {
  EXPECT_TRUE(make_room(own()).ok());
  EXPECT_TRUE(fs::is_directory(own() / "sundog.processes"));
}

TEST_F(DelegatedCgroupTest, ProcessesThatStayAreToldAtLast) {
  write(own() / "cgroup.procs", "41\n42\n");  // a plain file: whoever is moved stays listed
  const auto moved = make_room(own());
  ASSERT_FALSE(moved.ok());
  EXPECT_THAT(moved.error().text(), ::testing::HasSubstr("there are always new ones"));
  EXPECT_EQ(read(own() / "sundog.processes" / "cgroup.procs"), "42") << "each is written by itself";
}

TEST_F(DelegatedCgroupTest, ProcessesThatCannotBeSeenAreTold) {
  write(own() / "cgroup.procs", "0\n");
  const auto moved = make_room(own());
  ASSERT_FALSE(moved.ok());
  EXPECT_THAT(moved.error().text(), ::testing::HasSubstr("another pid namespace"));
  EXPECT_THAT(moved.error().text(), ::testing::HasSubstr("Delegate=yes"));
}

}  // namespace
}  // namespace sundog::sandbox
