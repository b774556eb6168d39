// What a cell's files say, in the words of either version of cgroups.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sandbox/launcher_client.h"

namespace sundog::sandbox {
namespace {

UniqueFd file_of(std::string_view text) {
  UniqueFd file(memfd_create("cell", MFD_CLOEXEC));
  EXPECT_EQ(write(file.get(), text.data(), text.size()), ssize_t(text.size()));
  return file;
}

TEST(Cell, ReadsVersion2) {
  Cell cell;
  cell.peak = file_of("268435456\n");
  cell.usage = file_of("4096\n");
  cell.oom = file_of("low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n");
  cell.cpu = file_of("usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n");
  EXPECT_EQ(cell.peak_bytes(), 256 << 20);
  EXPECT_EQ(cell.usage_bytes(), 4096);
  EXPECT_EQ(cell.oom_kills(), 1);
  EXPECT_EQ(cell.cpu_time(), std::chrono::microseconds(1500));
}

TEST(Cell, ReadsVersion1) {
  Cell cell;
  cell.peak = file_of("1048576\n");
  cell.oom = file_of("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
  cell.cpu = file_of("1500000\n");
  EXPECT_EQ(cell.peak_bytes(), 1 << 20);
  EXPECT_EQ(cell.oom_kills(), 3);
  EXPECT_EQ(cell.cpu_time(), Millis(1) + std::chrono::microseconds(500));
}

TEST(Cell, KnowsNothingWithoutCgroups) {
  const Cell cell;
  EXPECT_EQ(cell.peak_bytes() + cell.usage_bytes() + cell.oom_kills(), 0);
  EXPECT_EQ(cell.cpu_time(), Duration{});
}

}  // namespace
}  // namespace sundog::sandbox
