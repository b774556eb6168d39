// What an instance may use up: each bomb ends within its limit, its neighbours go on, and the same work within a larger
// limit succeeds.
#include "seal_fixture.h"

namespace sundog::sandbox {
namespace {

class BombsTest : public SealTest {
 protected:
  static constexpr int kSmallMb = 64, kLargeMb = 640;
  struct Bombed {
    Outcome outcome;
    int64_t megabytes = 0;  // that it said it had got, if it lived to say so
  };
  std::shared_ptr<TemplateStart> parked_with(int memory_mb, int max_pids = 1024) {
    auto spec = attempts();
    spec.limits.memory_bytes = int64_t{memory_mb} << 20;
    spec.limits.max_pids = max_pids;
    auto started = start(spec);
    EXPECT_TRUE(started->parked) << started->failure.message << started->output;
    return started;
  }
  Bombed set_off(Template& parked, const std::string& what, int64_t amount) {
    Witness witness;
    const auto instance = fork(parked, witness);
    Bombed bombed{invoke(*instance, dump({{"do", what}, {"with", amount}}))};
    if (bombed.outcome.kind == Outcome::Kind::ok) {
      const auto answer = Json::parse(bombed.outcome.payload)["got"];
      bombed.megabytes = answer.is_number() ? answer.get<int64_t>() : 0;
    }
    return bombed;
  }
};

// Each kind of memory that a process can make the kernel hold, its buffers included.
TEST_F(BombsTest, MemoryOfEveryKindCounts) {
  struct Bomb {
    const char* name;
    int most = kSmallMb;        // that it may get within the small limit
    int wanted = 2 * kSmallMb;  // what it gets within the large one
  };
  const Bomb bombs[] = {
      {"fill_heap"},
      {"fill_tmp"},
      {"fill_shm"},
      {"fill_memfd"},
      {"fill_shared_mapping"},
      {"fill_pipes", kSmallMb, kSmallMb - 8},  // the kernel itself lets a user fill no more than 64 MB
      {"fill_unix_sockets"},
      // A limit of their own on version 1, past which each socket still has its least.
      {"fill_tcp_sockets", 2 * kSmallMb, 4 * kSmallMb},
      {"fill_udp_sockets", 2 * kSmallMb, 2 * kSmallMb}};
  const auto small = parked_with(kSmallMb), large = parked_with(kLargeMb);
  Witness neighbour_witness;
  const auto neighbour = fork(*small->parked, neighbour_witness);
  for (const auto& [bomb, most, wanted] : bombs) {
    const auto blocked = set_off(*small->parked, bomb, int64_t{4} * kSmallMb);
    EXPECT_TRUE(blocked.outcome.kind == Outcome::Kind::out_of_memory || blocked.megabytes < most)
        << bomb << " got " << blocked.megabytes << " MB of a limit of " << kSmallMb;
    const auto through = set_off(*large->parked, bomb, wanted);
    EXPECT_GE(through.megabytes, wanted) << bomb << " is vacuous: " << through.outcome.payload
                                         << through.outcome.detail;
    EXPECT_EQ(attempt(*neighbour, "use_files"), "hello") << "after " << bomb;
  }
  EXPECT_TRUE(small->parked->alive());
}

TEST_F(BombsTest, ProcessesAndThreadsAreCounted) {
  const auto small = parked_with(128, 32), large = parked_with(256, 512);
  for (const char* bomb : {"fork_bomb", "thread_bomb"}) {
    EXPECT_LT(set_off(*small->parked, bomb, 200).megabytes, 32) << bomb;
    EXPECT_EQ(set_off(*large->parked, bomb, 200).megabytes, 200) << bomb << " is vacuous";
  }
}

// What an instance reads or writes of the host's files is the page cache's, which gives way: no bomb, and no death.
TEST_F(BombsTest, ThePageCacheGivesWay) {
  auto spec = attempts();
  std::ofstream(spec.code / "large") << std::string(size_t{2} * kSmallMb << 20, 'x');
  spec.limits.memory_bytes = int64_t{kSmallMb} << 20;
  const auto started = start(spec);
  ASSERT_TRUE(started->parked) << started->failure.message;
  Witness witness;
  const auto instance = fork(*started->parked, witness);
  EXPECT_EQ(attempt(*instance, "read_whole", "/var/task/large"), 2 * kSmallMb) << last_;
  EXPECT_LE(instance->memory_bytes(), int64_t{kSmallMb} << 20);
}

}  // namespace
}  // namespace sundog::sandbox
