#include "sandbox/call_headers.h"

#include <gtest/gtest.h>

namespace sundog::sandbox {
namespace {

TEST(CallHeaders, AnInvocationComesAsItWasSent) {
  InvokeHeader header;
  header.deadline_ms = 1'700'000'000'123;
  header.memory_mb = 1769;
  header.request_id = "8ea1-…";
  header.arn = "arn:aws:lambda:local:000000000000:function:f";
  header.name = "f";
  header.version = "$LATEST";
  header.meta = R"({"content":"rows"})";
  const std::string bytes = encode(header);
  const auto read = parse_invoke_header(bytes);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->deadline_ms, header.deadline_ms);
  EXPECT_EQ(read->memory_mb, 1769U);
  EXPECT_EQ(read->request_id, header.request_id);
  EXPECT_EQ(read->arn, header.arn);
  EXPECT_EQ(read->name, "f");
  EXPECT_EQ(read->version, "$LATEST");
  EXPECT_EQ(read->client_context, "");
  EXPECT_EQ(read->meta, header.meta);
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(parse_invoke_header(std::string_view(bytes).substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(parse_invoke_header(bytes + "x").ok());
}

TEST(CallHeaders, ALengthBeyondTheBytesIsRefused) {
  InvokeHeader header;
  header.request_id = "r";
  for (size_t at = 12; at < 36; at += 4) {
    std::string bytes = encode(header);
    for (size_t i = 0; i < 4; ++i) bytes[at + i] = '\xff';
    EXPECT_FALSE(parse_invoke_header(bytes).ok()) << at;
  }
}

TEST(CallHeaders, AResultComesAsItWasSent) {
  for (const bool ok : {false, true}) {
    for (const bool streamed : {false, true}) {
      const auto read = parse_result_header(encode(ResultHeader{ok, streamed, Duration{5}, Duration{7}}));
      ASSERT_TRUE(read.ok());
      EXPECT_EQ(read->ok, ok);
      EXPECT_EQ(read->streamed, streamed);
      EXPECT_EQ(read->handler, Duration{5});
      EXPECT_EQ(read->cpu, Duration{7});
    }
  }
  const auto without = parse_result_header(encode(ResultHeader{true, false, Duration{5}, std::nullopt}));
  ASSERT_TRUE(without.ok());
  EXPECT_FALSE(without->cpu.has_value());
}

TEST(CallHeaders, WhatIsNoResultIsRefused) {
  const std::string good = encode(ResultHeader{true, false, Duration{1}, Duration{1}});
  EXPECT_TRUE(parse_result_header(good).ok());
  EXPECT_FALSE(parse_result_header(good.substr(1)).ok());
  EXPECT_FALSE(parse_result_header(good + good).ok());
  std::string bytes = good;
  bytes[0] = 8;
  EXPECT_FALSE(parse_result_header(bytes).ok()) << "a flag that nobody knows";
  bytes = good;
  bytes[5] = 1;
  EXPECT_FALSE(parse_result_header(bytes).ok()) << "another";
  for (const size_t sign : {15, 23}) {
    bytes = good;
    bytes[sign] = '\x80';
    EXPECT_FALSE(parse_result_header(bytes).ok()) << "a negative time";
  }
}

}  // namespace
}  // namespace sundog::sandbox
