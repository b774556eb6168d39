#include "net/http.h"

#include <gtest/gtest.h>

namespace sundog::net {
namespace {

TEST(PercentCoding, GoesBothWays) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  EXPECT_EQ(*percent_decode(percent_encode(all, false)), all);
  EXPECT_EQ(percent_encode("a/b c~", true), "a/b%20c~");
  EXPECT_EQ(percent_encode("a/b", false), "a%2Fb");
  for (const auto* bad : {"%", "%1", "%g0", "a%%"}) EXPECT_FALSE(percent_decode(bad).ok()) << bad;
}

TEST(ParseTarget, DecodesPathAndQuery) {
  Request request;
  request.target = "/a%20b/%C3%A9?x=1&y=a%26b&flag&z=p+q&&=v#frag";
  ASSERT_TRUE(parse_target(request).ok());
  EXPECT_EQ(request.path, "/a b/\xC3\xA9");
  EXPECT_EQ(request.query, (Pairs{{"x", "1"}, {"y", "a&b"}, {"flag", ""}, {"z", "p q"}, {"", "v"}}));
  EXPECT_EQ(request.query_value("y"), "a&b");
  EXPECT_EQ(request.query_value("none"), "");
}

TEST(ParseTarget, TakesTheAbsoluteForm) {
  Request request;
  request.target = "http://host:1/p?q=http://x";
  ASSERT_TRUE(parse_target(request).ok());
  EXPECT_EQ(request.path, "/p");
  request.target = "http://host";
  ASSERT_TRUE(parse_target(request).ok());
  EXPECT_EQ(request.path, "/");
}

TEST(ParseTarget, RefusesWhatNoRouteCanMean) {
  for (const auto* target : {"", "x", "/a/..", "/a/./b", "/%2e%2e/", "/a%0ab", "/a%00", "/%", "/a?x=%z"}) {
    Request request;
    request.target = target;
    EXPECT_FALSE(parse_target(request).ok()) << target;
  }
  Request dots;
  dots.target = "/a/...b/..c";
  EXPECT_TRUE(parse_target(dots).ok());
}

}  // namespace
}  // namespace sundog::net
