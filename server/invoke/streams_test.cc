#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "invoke/answers.h"
#include "invoke/test_world.h"

namespace sundog::invoke {
namespace {

using sandbox::Outcome;
using ::testing::HasSubstr;

// A streamed invocation whose sink the test opens and shuts.
struct Streamed {
  explicit Streamed(TestWorld& world, const std::string& function = "f") {
    Invocation invocation;
    invocation.tenant = "default";
    invocation.function = function;
    world.invoker->invoke_streaming(
        invocation,
        [this](const StreamPiece& piece) {
          pieces += piece.bytes;
          version = piece.executed_version;
          resume = piece.resume;
          return !shut;
        },
        [this](Result<InvokeResult> done) {
          ASSERT_TRUE(done.ok()) << done.error().message;
          result = *std::move(done);
        });
    world.loop.run_pending();
  }
  std::string pieces, version;
  std::function<void()> resume;
  bool shut = false;
  std::optional<InvokeResult> result;
};

struct StreamsTest : testing::Test {
  StreamsTest() {
    world.functions.deploy("f");
    world.sandbox.hold_invocations = true;
  }
  sandbox::FakeInstance& instance() { return *world.sandbox.busy_instances().at(0); }
  TestWorld world;
};

TEST_F(StreamsTest, PiecesComeBeforeTheEnd) {
  Streamed streamed(world);
  instance().events().on_stream("first ");
  EXPECT_EQ(streamed.pieces, "first ");
  EXPECT_EQ(streamed.version, "$LATEST");
  EXPECT_FALSE(streamed.result);
  instance().events().on_stream("second");
  instance().finish(TestWorld::outcome(Outcome::Kind::ok, ""));
  world.loop.run_pending();
  ASSERT_TRUE(streamed.result);
  EXPECT_EQ(streamed.pieces, "first second");
  EXPECT_EQ(streamed.result->payload, "");
  EXPECT_EQ(streamed.result->usage.bytes_out, 12);
}

TEST_F(StreamsTest, ASinkThatIsFullHoldsTheInstance) {
  Streamed streamed(world);
  streamed.shut = true;
  instance().events().on_stream("a");
  EXPECT_TRUE(instance().held);
  streamed.shut = false;
  streamed.resume();
  EXPECT_FALSE(instance().held);
  instance().events().on_stream("b");
  EXPECT_FALSE(instance().held);
  // A late call belongs to an invocation that is over.
  const auto late = streamed.resume;
  instance().finish(TestWorld::outcome(Outcome::Kind::ok, ""));
  world.loop.run_pending();
  Streamed next(world);
  next.shut = true;
  instance().events().on_stream("c");
  late();
  EXPECT_TRUE(instance().held);
}

TEST_F(StreamsTest, ADeadlineEndsWhatIsHeld) {
  Streamed streamed(world);
  streamed.shut = true;
  instance().events().on_stream("a");
  world.loop.advance(std::chrono::seconds{3});
  ASSERT_TRUE(streamed.result);
  EXPECT_THAT(streamed.result->payload, HasSubstr("Sandbox.Timedout"));
  EXPECT_EQ(streamed.result->usage.bytes_out, 1 + int64_t(streamed.result->payload.size()));
  streamed.resume();
  EXPECT_EQ(world.alive(), 0U);
}

TEST_F(StreamsTest, AnErrorComesAfterThePieces) {
  Streamed streamed(world);
  instance().events().on_stream("a");
  instance().finish(TestWorld::outcome(Outcome::Kind::handler_error, R"({"errorType":"ValueError"})"));
  world.loop.run_pending();
  ASSERT_TRUE(streamed.result);
  EXPECT_EQ(streamed.result->function_error, "Unhandled");
  EXPECT_EQ(streamed.result->payload, R"({"errorType":"ValueError"})");
}

TEST_F(StreamsTest, AStreamHasALimit) {
  Streamed streamed(world);
  const std::string piece(1 << 20, 'x');
  for (int i = 0; i < 200; ++i) instance().events().on_stream(piece);
  EXPECT_FALSE(streamed.result);
  instance().events().on_stream("y");
  world.loop.run_pending();
  ASSERT_TRUE(streamed.result);
  EXPECT_EQ(streamed.pieces.size(), size_t(kStreamLimit));
  EXPECT_THAT(streamed.result->payload, HasSubstr("Function.ResponseSizeTooLarge"));
  EXPECT_EQ(world.alive(), 0U);
}

TEST_F(StreamsTest, InvokeGathersWhatStreams) {
  const auto whole = world.call("f");
  world.loop.run_pending();
  instance().events().on_stream("[1,");
  instance().events().on_stream("2]");
  instance().finish(TestWorld::outcome(Outcome::Kind::ok, ""));
  world.loop.run_pending();
  ASSERT_TRUE(whole->result);
  EXPECT_EQ(whole->result->payload, "[1,2]");
  EXPECT_EQ(whole->result->usage.bytes_out, 5);

  const auto large = world.call("f");
  world.loop.run_pending();
  instance().events().on_stream(std::string(kAnswerLimit, 'x'));
  instance().events().on_stream("y");
  instance().finish(TestWorld::outcome(Outcome::Kind::ok, ""));
  world.loop.run_pending();
  ASSERT_TRUE(large->result);
  EXPECT_THAT(large->result->payload, HasSubstr("Function.ResponseSizeTooLarge"));
  EXPECT_EQ(world.alive(), 1U) << "the instance goes on";
}

}  // namespace
}  // namespace sundog::invoke
