#include "net/request_parser.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace sundog::net {
namespace {

// Feeds `text` in pieces of `step` bytes, keeping what the parser left, as a connection does; gives what stays over.
std::string feed_in_pieces(RequestParser& parser, std::string_view text, size_t step) {
  std::string pending;
  while (!text.empty()) {
    pending.append(text.substr(0, step));
    text.remove_prefix(std::min(step, text.size()));
    for (size_t used = 1; used > 0 && !pending.empty() && !parser.done();) {
      const auto consumed = parser.feed(pending);
      if (!consumed.ok()) {
        ADD_FAILURE() << consumed.error().message << " in pieces of " << step;
        return pending;
      }
      used = *consumed;
      pending.erase(0, used);
    }
  }
  return pending;
}

constexpr std::string_view kHead = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";

TEST(RequestParser, TakesChunkedBodiesInPiecesOfAnySize) {
  const std::pair<std::string_view, std::string_view> bodies[] = {
      {"0\r\n\r\n", ""},
      {"0\r\nTrailer: x\r\n\r\n", ""},
      {"1\r\na\r\n0\r\n\r\n", "a"},
      {"3;note=x\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde"},
  };
  for (const auto& [body, decoded] : bodies) {
    const std::string text = std::string(kHead) + std::string(body);
    for (size_t step = 1; step <= text.size(); ++step) {
      RequestParser parser(1024);
      EXPECT_EQ(feed_in_pieces(parser, text, step), "") << body;
      EXPECT_TRUE(parser.done()) << body << " in pieces of " << step;
      EXPECT_EQ(parser.body(), decoded) << body << " in pieces of " << step;
    }
  }
}

TEST(RequestParser, LeavesTheNextRequestAlone) {
  const std::string next = "GET /next HTTP/1.1\r\n";
  RequestParser parser(1024);
  EXPECT_EQ(feed_in_pieces(parser, std::string(kHead) + "1\r\na\r\n0\r\n\r\n" + next, 4096), next);
  EXPECT_TRUE(parser.done());
}

}  // namespace
}  // namespace sundog::net
