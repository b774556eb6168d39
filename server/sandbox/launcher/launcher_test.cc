// The launcher itself, in a process of this test's: after its start it allocates nothing, whatever is asked of it.
#include "sandbox/launcher/launcher.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "sandbox/launcher/fd_message.h"
#include "sandbox/launcher/protocol.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SUNDOG_OTHER_MALLOC
#endif
#endif

namespace {

// In memory that the launcher shares with the test.
struct Shared {
  pid_t counting = 0;  // the process whose calls are counted; trees, which are pid 1 of their own namespaces, are not
  uint64_t allocations = 0;
};
Shared* shared = nullptr;  // NOLINT(*-avoid-non-const-global-variables): malloc has no other way to it

[[maybe_unused]] void count_allocation() {
  if (shared != nullptr && shared->counting != 0 && shared->counting == getpid()) ++shared->allocations;
}

}  // namespace

#ifndef SUNDOG_OTHER_MALLOC
// The C library's own are behind these names; operator new comes through malloc.
extern "C" {
void* __libc_malloc(size_t bytes);                 // NOLINT(bugprone-reserved-identifier)
void* __libc_calloc(size_t count, size_t bytes);   // NOLINT(bugprone-reserved-identifier)
void* __libc_realloc(void* memory, size_t bytes);  // NOLINT(bugprone-reserved-identifier)
void* malloc(size_t bytes) {
  count_allocation();
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  count_allocation();
  return __libc_calloc(count, bytes);
}
void* realloc(void* memory, size_t bytes) {
  count_allocation();
  return __libc_realloc(memory, bytes);
}
}
#endif

namespace sundog::sandbox::launcher {
namespace {

class LauncherTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "the launcher makes namespaces of distinct users";
    shared = static_cast<Shared*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    ours_ = pair[0];
    pid_ = fork();
    if (pid_ == 0) {
      close(pair[0]);
      LauncherOptions options;
      options.socket = pair[1];
      options.name = "test-" + std::to_string(getppid());
      _exit(serve(options));
    }
    close(pair[1]);
    EXPECT_EQ(Answer(receive().answer), Answer::hello);
    shared->counting = pid_;
  }
  void TearDown() override {
    if (shared == nullptr) return;
    close(ours_);
    int status = 0;
    waitpid(pid_, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    munmap(std::exchange(shared, nullptr), 4096);
  }
  ReplyHeader receive(FdList* fds = nullptr) const {
    ReplyHeader reply;
    pollfd wait{ours_, POLLIN, 0};
    EXPECT_EQ(poll(&wait, 1, 20'000), 1);
    auto received = receive_with_fds(ours_, reinterpret_cast<char*>(&reply), sizeof(reply));
    EXPECT_EQ(received.bytes, ssize_t(sizeof(reply)));
    if (fds != nullptr) {
      *fds = received.fds;
    } else {
      received.fds.close_all();
    }
    return reply;
  }
  // Sends one and gives its reply.
  ReplyHeader ask(Command command, uint64_t subject, std::string_view spec = {}, const RequestHeader& more = {},
                  const FdList& fds = {}) {
    RequestHeader header = more;
    header.command = uint16_t(command);
    header.id = ++id_;
    header.subject = subject;
    header.memory_bytes = 64 << 20;
    header.tmp_bytes = 1 << 20;
    header.cpu_millis = 1000;
    header.max_pids = 64;
    header.spec_bytes = uint32_t(spec.size());
    std::string message(reinterpret_cast<const char*>(&header), sizeof(header));
    message += spec;
    EXPECT_EQ(send_with_fds(ours_, message, fds.begin(), fds.size()), ssize_t(message.size()));
    return receive();
  }
  // Starts a command in a cell, and waits until its tree has ended.
  void run(uint64_t tree, uint64_t cell, std::string_view command, int error) {
    int sockets[2], pipes[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    ASSERT_EQ(pipe2(pipes, O_CLOEXEC), 0);
    FdList fds;
    fds.add(sockets[1]);
    fds.add(pipes[1]);
    RequestHeader more;
    more.cell = cell;
    more.argc = 1;
    more.envc = 1;
    std::string spec(command);
    spec.append(1, '\0').append("A=b").append(1, '\0');
    const auto reply = ask(Command::start, tree, spec, more, fds);
    fds.close_all();
    EXPECT_EQ(reply.error, error) << reply.text.data();
    const auto ended = receive();
    EXPECT_EQ(Answer(ended.answer), Answer::tree_ended);
    EXPECT_EQ(ended.id, tree);
    close(sockets[0]);
    close(pipes[0]);
  }

  int ours_ = -1;
  pid_t pid_ = -1;
  uint64_t id_ = 0;
};

TEST_F(LauncherTest, AllocatesNothingAfterItsStart) {
#ifdef SUNDOG_OTHER_MALLOC
  GTEST_SKIP() << "a sanitizer has a malloc of its own";
#endif
  // The control: that the count works, and that it is the launcher's.
  const uint64_t before = shared->allocations;
  shared->counting = getpid();
  ::operator delete(::operator new(16));
  shared->counting = pid_;
  ASSERT_GT(shared->allocations, before) << "nothing is counted";
  shared->allocations = 0;
  RequestHeader for_tree;
  for_tree.kind = 1;
  for (uint64_t n = 1; n <= 50; ++n) {
    const uint64_t cell = n * 10;
    EXPECT_EQ(ask(Command::make_cell, cell).error, 0);
    EXPECT_EQ(ask(Command::make_cell, cell + 1, {}, for_tree).error, 0);
    run(cell + 2, cell + 1, "/usr/bin/true", 0);
    EXPECT_EQ(ask(Command::kill_cell, cell + 1).error, 0);
    EXPECT_EQ(ask(Command::remove_cell, cell).error, 0);
    EXPECT_EQ(ask(Command::remove_cell, cell + 1).error, 0);
    EXPECT_EQ(ask(Command::kill_tree, cell + 2).error, 0);
    RequestHeader one_mount;
    one_mount.mountc = 1;
    EXPECT_EQ(ask(Command::clone_mount, cell + 3, std::string_view("/usr\0/x\0r\0", 10), one_mount).error, 0);
  }
  // What goes wrong allocates no more: no such command, no such cell, a cell that is there already.
  run(9001, 0, "/usr/bin/no-such-command", ENOENT);
  EXPECT_EQ(ask(Command::make_cell, 9002).error, 0);
  EXPECT_EQ(ask(Command::make_cell, 9002).error, EEXIST);
  EXPECT_EQ(ask(Command::remove_cell, 9002).error, 0);
  EXPECT_EQ(shared->allocations, 0U);
}

TEST_F(LauncherTest, KeepsNoDescriptor) {
  const auto descriptors = [&] {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid_) + "/fd")) {
      count += entry.path().empty() ? 0 : 1;
    }
    return count;
  };
  RequestHeader for_tree;
  for_tree.kind = 1;
  const size_t before = descriptors();
  for (uint64_t n = 1; n <= 20; ++n) {
    EXPECT_EQ(ask(Command::make_cell, n * 10, {}, for_tree).error, 0);
    if (n % 2 == 0)
      run(n * 10 + 1, n * 10, n % 4 == 0 ? "/usr/bin/true" : "/usr/bin/no-such-command", n % 4 == 0 ? 0 : ENOENT);
    EXPECT_EQ(ask(Command::remove_cell, n * 10).error, 0);
  }
  EXPECT_EQ(descriptors(), before);
}

}  // namespace
}  // namespace sundog::sandbox::launcher
