#include "sandbox/egress_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sundog::sandbox {
namespace {

EgressRequest request_of(std::string_view bytes) {
  auto parsed = parse_egress_request(bytes);
  EXPECT_TRUE(parsed.ok() && *parsed) << bytes << (parsed.ok() ? "incomplete" : parsed.error().text());
  return parsed.ok() && *parsed ? **parsed : EgressRequest();
}

TEST(EgressRequest, ATunnel) {
  const auto request = request_of("CONNECT api.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\nrest");
  EXPECT_TRUE(request.tunnel);
  EXPECT_EQ(request.host, "api.example.com");
  EXPECT_EQ(request.port, 443);
  EXPECT_EQ(request.head, "");
  EXPECT_EQ(request.bytes, 49U);
  EXPECT_EQ(request_of("CONNECT [2606::1]:8443 HTTP/1.0\r\n\r\n").host, "2606::1");
}

TEST(EgressRequest, APlainRequestKeepsNothingForTheProxy) {
  const auto request = request_of(
      "POST http://api.example.com:8080/a?b=c#d HTTP/1.1\r\nHost: other.example\r\nProxy-Authorization: x\r\n"
      "Connection: keep-alive\r\nContent-Length: 2\r\n\r\nhi");
  EXPECT_FALSE(request.tunnel);
  EXPECT_EQ(request.host, "api.example.com");
  EXPECT_EQ(request.port, 8080);
  EXPECT_EQ(request.head,
            "POST /a?b=c HTTP/1.1\r\nHost: api.example.com:8080\r\nConnection: close\r\nContent-Length: 2\r\n\r\n");
  const auto bare = request_of("GET http://a.example HTTP/1.1\r\n\r\n");
  EXPECT_EQ(bare.port, 80);
  EXPECT_THAT(bare.head, ::testing::StartsWith("GET / HTTP/1.1\r\nHost: a.example\r\n"));
  EXPECT_THAT(request_of("GET http://a.example?q HTTP/1.1\r\n\r\n").head,
              ::testing::StartsWith("GET /?q HTTP/1.1\r\n"));
}

TEST(EgressRequest, WaitsForTheWholeHead) {
  for (const char* part : {"", "CONNECT", "CONNECT a:1 HTTP/1.1\r\n", "CONNECT a:1 HTTP/1.1\r\nx: y\r\n\r"}) {
    const auto parsed = parse_egress_request(part);
    ASSERT_TRUE(parsed.ok()) << part;
    EXPECT_FALSE(*parsed) << part;
  }
  EXPECT_EQ(parse_egress_request(std::string(kMaxEgressHead, 'x')).error().code, Code::too_large);
}

TEST(EgressRequest, RefusesWhatIsNone) {
  for (const char* bytes :
       {"GET / HTTP/1.1\r\n\r\n", "CONNECT a HTTP/1.1\r\n\r\n", "CONNECT a:0 HTTP/1.1\r\n\r\n",
        "CONNECT a:99999 HTTP/1.1\r\n\r\n", "CONNECT http://a:1 HTTP/1.1\r\n\r\n", "CONNECT a@b:1 HTTP/1.1\r\n\r\n",
        "GET https://a/ HTTP/1.1\r\n\r\n", "GET http:///x HTTP/1.1\r\n\r\n", "GET http://u:p@a/ HTTP/1.1\r\n\r\n",
        "GET http://a/ HTTP/2\r\n\r\n", "GET http://a/b c HTTP/1.1\r\n\r\n", "G T http://a/ HTTP/1.1\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\n folded: x\r\n\r\n", "GET http://a/ HTTP/1.1\r\nname\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nx: a\nHost: b\r\n\r\n", "GET http://a/ HTTP/1.1\r\nx y: a\r\n\r\n",
        "CONNECT [::1:1 HTTP/1.1\r\n\r\n", "GET http://[::1]x/ HTTP/1.1\r\n\r\n", "\r\n\r\n"}) {
    EXPECT_FALSE(parse_egress_request(bytes).ok()) << bytes;
  }
}

}  // namespace
}  // namespace sundog::sandbox
