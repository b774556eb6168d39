#include "api/event_stream.h"

#include <gtest/gtest.h>

#include "base/crypto.h"

namespace sundog::api {
namespace {

// The bytes are those that botocore's own parser takes apart again.
TEST(EventStream, FramesAsBotocoreReads) {
  EXPECT_EQ(
      hex(event_message("PayloadChunk", "application/octet-stream", "hello")),
      "0000006f0000005af5fe871f0b3a6576656e742d7479706507000c5061796c6f61644368756e6b0d3a636f6e74656e742d74797065070018"
      "6170706c69636174696f6e2f6f637465742d73747265616d0d3a6d6573736167652d747970650700056576656e7468656c6c6f29e71260");
  EXPECT_EQ(hex(event_message("InvokeComplete", "application/json", "{}")),
            "00000066000000541f56c8690b3a6576656e742d7479706507000e496e766f6b65436f6d706c6574650d3a636f6e74656e742d7479"
            "70650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b7d7006d467");
}

TEST(EventStream, CarriesAnyBytesAndNone) {
  const std::string bytes("\0\xff\r\n", 4);
  EXPECT_NE(event_message("PayloadChunk", "a/b", bytes).find(bytes), std::string::npos);
  const auto whole = event_message("PayloadChunk", "a/b", "");
  EXPECT_EQ(static_cast<unsigned char>(whole[3]), whole.size());
}

}  // namespace
}  // namespace sundog::api
