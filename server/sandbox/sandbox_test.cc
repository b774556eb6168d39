#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sandbox/sandbox_fixture.h"

namespace sundog::sandbox {
namespace {

using Kind = Outcome::Kind;
using ::testing::HasSubstr;

TEST_F(SandboxTest, AnswersAndKeepsItsState) {
  const auto started = start(R"(
print("init runs")
calls = 0
def handler(event, context):
    global calls
    calls += 1
    print("hello", event["who"])
    return {"calls": calls, "id": context.aws_request_id, "left": context.get_remaining_time_in_millis() > 1000}
)");
  ASSERT_TRUE(started->parked);
  EXPECT_THAT(started->output, HasSubstr("init runs"));
  EXPECT_TRUE(started->ready.fork_safe) << started->ready.reason;
  EXPECT_GT(started->ready.memory_bytes, 1 << 20);
  Witness witness;
  auto instance = fork(*started->parked, witness);
  ASSERT_TRUE(instance);
  EXPECT_GT(instance->pid(), 1);
  const auto first = invoke(*instance, R"({"who":"Ada"})");
  ASSERT_EQ(first.kind, Kind::ok) << first.payload << first.detail << witness.output;
  EXPECT_EQ(Json::parse(first.payload)["calls"], 1);
  EXPECT_EQ(Json::parse(first.payload)["left"], true);
  EXPECT_EQ(witness.output, "hello Ada\n");
  EXPECT_GT(first.consumption.handler.count(), 0);
  EXPECT_GT(first.consumption.peak_memory_bytes, 0);
  EXPECT_EQ(Json::parse(invoke(*instance, R"({"who":"Bob"})").payload)["calls"], 2);
  Witness other;
  auto second = fork(*started->parked, other);
  EXPECT_EQ(Json::parse(invoke(*second, R"({"who":"Eve"})").payload)["calls"], 1);
}

}  // namespace
}  // namespace sundog::sandbox
