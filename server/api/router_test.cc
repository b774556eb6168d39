#include "api/router.h"

#include <gtest/gtest.h>

#include "api/errors.h"
#include "net/fake_http.h"

namespace sundog::api {
namespace {

using Params = std::map<std::string, std::string, std::less<>>;

class RouterTest : public testing::Test {
 protected:
  RouterTest() {
    for (const auto* pattern : {"/", "/v1/datasets", "/v1/datasets/{name}", "/v1/datasets/{name}/versions/{version}",
                                "/v1/datasets/mine/versions", "/v1/files/{rest*}", "/v2/models/{name}/infer"}) {
      router_.add("GET", pattern, Role::viewer, [](const std::shared_ptr<Call>&) {});
    }
    router_.add("POST", "/v1/datasets", Role::deployer, [](const std::shared_ptr<Call>&) {});
  }
  // "PATTERN name=value …", "405 ALLOWED" or "404".
  std::string at(std::string_view method, std::string_view path) const {
    Params params;
    bool exists = false;
    const auto* match = router_.match(method, path, params, exists);
    if (match == nullptr) return exists ? "405 " + router_.allowed(path) : "404";
    auto text = match->pattern;
    for (const auto& [name, value] : params) text += " " + name + "=" + value;
    return text;
  }
  Router router_;
};

TEST_F(RouterTest, FindsPatternsAndParameters) {
  EXPECT_EQ(at("GET", "/"), "/");
  EXPECT_EQ(at("GET", "/v1/datasets"), "/v1/datasets");
  EXPECT_EQ(at("GET", "/v1/datasets/"), "/v1/datasets");
  EXPECT_EQ(at("GET", "/v1/datasets?limit=3"), "/v1/datasets");
  EXPECT_EQ(at("GET", "http://host/v1/datasets"), "/v1/datasets");
  EXPECT_EQ(at("GET", "/v1/datasets/a%20b"), "/v1/datasets/{name} name=a b");
  EXPECT_EQ(at("GET", "/v1/datasets/x/versions/3"), "/v1/datasets/{name}/versions/{version} name=x version=3");
  EXPECT_EQ(at("HEAD", "/v1/datasets/x"), "/v1/datasets/{name} name=x");
}

TEST_F(RouterTest, PrefersALiteralAndGoesBackWhereItLeadsNowhere) {
  EXPECT_EQ(at("GET", "/v1/datasets/mine/versions"), "/v1/datasets/mine/versions");
  EXPECT_EQ(at("GET", "/v1/datasets/mine/versions/1"), "/v1/datasets/{name}/versions/{version} name=mine version=1");
  EXPECT_EQ(at("GET", "/v1/datasets/mine"), "/v1/datasets/{name} name=mine");
}

TEST_F(RouterTest, AnEncodedSlashStaysInsideItsSegment) {
  EXPECT_EQ(at("GET", "/v1/datasets/a%2Fversions%2F1"), "/v1/datasets/{name} name=a/versions/1");
  EXPECT_EQ(at("GET", "/v2/models/arn%3Ax/infer"), "/v2/models/{name}/infer name=arn:x");
}

TEST_F(RouterTest, TakesTheRestOfAPath) {
  EXPECT_EQ(at("GET", "/v1/files/a/b%20c/d"), "/v1/files/{rest*} rest=a/b c/d");
  EXPECT_EQ(at("GET", "/v1/files"), "404");
}

TEST_F(RouterTest, TellsNoPathFromAnotherMethod) {
  EXPECT_EQ(at("DELETE", "/v1/datasets"), "405 GET, POST");
  EXPECT_EQ(at("GET", "/v1/nothing"), "404");
  EXPECT_EQ(at("GET", "/v1/datasets//versions/1"), "404");
  EXPECT_EQ(at("GET", "/v1/datasets/a/b"), "404");
}

TEST(Call, ReadsJsonObjectsOnly) {
  Call call;
  EXPECT_EQ(*call.json(), Json::object());
  call.request.body = R"({"a":1})";
  EXPECT_EQ((*call.json())["a"], 1);
  for (const auto* bad : {"[1]", "1", "{", "{}x", "\xff", R"({"a":})"}) {
    call.request.body = bad;
    const auto json = call.json();
    ASSERT_FALSE(json.ok()) << bad;
    EXPECT_EQ(json.error().code, Code::invalid_argument);
    EXPECT_TRUE(error_response(json.error(), ErrorShape::lambda).headers[1].second == "InvalidRequestContentException");
  }
  call.request.body = std::string(100'000, '[');
  EXPECT_FALSE(call.json().ok());
}

TEST(Call, ReadsNumbersFromTheQuery) {
  Call call;
  call.request.query = {{"n", "12"}, {"bad", "12x"}, {"huge", "99999999999999999999"}};
  EXPECT_EQ(*call.query_int("n", 1), 12);
  EXPECT_EQ(*call.query_int("absent", 7), 7);
  EXPECT_FALSE(call.query_int("bad", 1).ok());
  EXPECT_FALSE(call.query_int("huge", 1).ok());
}

TEST(Call, ReadsWhatOfAListIsAskedFor) {
  Call call;
  EXPECT_EQ(call.list_query()->limit, 100U);
  EXPECT_EQ(call.list_query()->after, "");
  call.request.query = {{"limit", "1000"}, {"after", "risk-1.b:live_2"}};
  EXPECT_EQ(call.list_query()->limit, 1000U);
  EXPECT_EQ(call.list_query()->after, "risk-1.b:live_2");
  EXPECT_EQ(*call.query_limit(5, 10'000), 1000U);
  for (const std::string bad : {"0", "-1", "1001", "ten", "1.5", "99999999999999999999"}) {
    call.request.query = {{"limit", bad}};
    EXPECT_EQ(call.list_query().error().code, Code::invalid_argument) << bad;
  }
  for (const auto& bad : {std::string("../t/x"), std::string("a b"), std::string("a\0b", 3), std::string(201, 'a')}) {
    call.request.query = {{"after", bad}};
    EXPECT_EQ(call.list_query().error().code, Code::invalid_argument) << bad;
  }
}

TEST(Roles, HaveNamesInOrder) {
  for (const auto role : {Role::viewer, Role::invoker, Role::deployer, Role::admin}) {
    EXPECT_EQ(*role_from(name(role)), role);
  }
  EXPECT_LT(Role::viewer, Role::admin);
  EXPECT_FALSE(role_from("root").ok());
}

TEST(Errors, HaveOneRowForEachCode) {
  for (int i = 0; i <= static_cast<int>(Code::internal); ++i) {
    EXPECT_EQ(error_row(static_cast<Code>(i)).code, static_cast<Code>(i));
  }
}

TEST(Errors, AreWordedInBothShapes) {
  const auto error = fail(Code::resource_exhausted, "No room.", "Wait.");
  const auto sundog = error_response(error, ErrorShape::sundog);
  EXPECT_EQ(sundog.status, 429);
  EXPECT_EQ(Json::parse(sundog.body),
            Json::parse(R"({"error":{"code":"resource_exhausted","message":"No room.","hint":"Wait."}})"));
  EXPECT_EQ(sundog.headers.back(), (std::pair<std::string, std::string>{"Retry-After", "1"}));
  const auto lambda = error_response(error, ErrorShape::lambda);
  EXPECT_EQ(lambda.status, 429);
  EXPECT_EQ(lambda.headers[1], (std::pair<std::string, std::string>{"x-amzn-ErrorType", "TooManyRequestsException"}));
  EXPECT_EQ(Json::parse(lambda.body)["Type"], "User");
  EXPECT_TRUE(Json::parse(lambda.body)["Message"].get<std::string>().starts_with("No room."));
  EXPECT_EQ(shape_of_path("/2015-03-31/functions"), ErrorShape::lambda);
  EXPECT_EQ(shape_of_path("/v1/keys"), ErrorShape::sundog);
  EXPECT_EQ(shape_of_path("/2015-03-31"), ErrorShape::sundog);
}

}  // namespace
}  // namespace sundog::api
