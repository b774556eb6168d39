#include "api/lambda_shapes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/blob_routes.h"
#include "base/crypto.h"
#include "functions/fake_environments.h"

namespace sundog::api {
namespace {

using testing::HasSubstr;

Json create_body() {
  return {{"FunctionName", "risk"}, {"Runtime", "python3.11"}, {"Role", "r"}, {"Handler", "app.handler"}};
}

std::string refusal(const Json& body, Role role = Role::deployer, const std::string& tenant = "default") {
  const auto config = config_from_create(body, {.tenant = tenant, .key_id = "", .role = role});
  return config.ok() ? "accepted" : config.error().message;
}

TEST(LambdaShapes, ReadsACreateRequest) {
  Json body = create_body();
  body["MemorySize"] = 512;
  body["Environment"] = {{"Variables", {{"A", "b"}}}};
  body["Layers"] = {"arn:aws:lambda:local:000000000000:layer:sundog-environment-abc:1"};
  body["Tags"] = {{"sundog:kind", "training"},
                  {"sundog:network", "egress"},
                  {"sundog:allow", "a.example, *.b.example:8443"},
                  {"team", "x"}};
  body["VpcConfig"] = {{"SubnetIds", Json::array()}, {"SecurityGroupIds", Json::array()}};
  const auto config = config_from_create(body, {.tenant = "default", .key_id = "", .role = Role::deployer});
  ASSERT_TRUE(config.ok()) << config.error().text();
  EXPECT_EQ(config->memory_mb, 512);
  EXPECT_EQ(config->environment_id, "abc");
  EXPECT_EQ(config->kind, functions::Kind::training);
  EXPECT_EQ(config->network, sandbox::Network::egress);
  EXPECT_EQ(config->allow, (std::vector<std::string>{"a.example", "*.b.example:8443"}));
  EXPECT_EQ(config->variables.at("A"), "b");
  EXPECT_EQ(config->tags.size(), 4U);
}

TEST(LambdaShapes, OnlyAnAdminGivesTheHostsNetwork) {
  Json body = create_body();
  body["Tags"] = {{"sundog:network", "host"}};
  EXPECT_THAT(refusal(body), HasSubstr("Only an admin"));
  EXPECT_THAT(refusal(body, Role::admin, "other"), HasSubstr("of tenant \"default\""));
  EXPECT_EQ(refusal(body, Role::admin), "accepted");
}

TEST(LambdaShapes, OnlyAnAdminLetsAFunctionReachWhatIsNotPublic) {
  const auto allow = [](const std::string& list, Role role, const std::string& tenant = "default") {
    Json body = create_body();
    body["Tags"] = {{"sundog:network", "egress"}, {"sundog:allow", list}};
    return refusal(body, role, tenant);
  };
  EXPECT_EQ(allow("api.example.com,localhost:80,0.0.0.0/0:443", Role::deployer), "accepted")
      << "none of these leads inside";
  for (const char* inside : {"api.example.com,127.0.0.1:80", "10.0.0.0/8:*", "169.254.169.254:80", "[::1]:80"}) {
    EXPECT_THAT(allow(inside, Role::deployer), HasSubstr("Only an admin")) << inside;
    EXPECT_THAT(allow(inside, Role::admin, "other"), HasSubstr("Only an admin")) << inside;
    EXPECT_EQ(allow(inside, Role::admin), "accepted") << inside;
  }
  EXPECT_THAT(allow("http://api.example.com", Role::admin), HasSubstr("\"http://api.example.com\""));
  EXPECT_THAT(allow("a.example,,b.example", Role::admin), HasSubstr("neither a name nor an address"));
}

TEST(LambdaShapes, UntaggingTakesTheListBack) {
  functions::Config config;
  const Principal who{.tenant = "default", .key_id = "", .role = Role::deployer};
  ASSERT_TRUE(apply_tags(config, {{"sundog:network", "egress"}, {"sundog:allow", "a.example"}}, who).ok());
  ASSERT_TRUE(apply_tags(config, {{"sundog:allow", "b.example"}}, who).ok());
  EXPECT_EQ(config.allow, std::vector<std::string>{"b.example"}) << "a list replaces the last one";
  ASSERT_TRUE(remove_tags(config, {"sundog:network", "sundog:allow"}).ok());
  EXPECT_TRUE(config.allow.empty());
  EXPECT_EQ(config.network, sandbox::Network::none);
}

TEST(LambdaShapes, RefusesWhatIsNotThereByName) {
  const auto with = [](const std::string& key, Json value) {
    Json body = create_body();
    body[key] = std::move(value);
    return refusal(body);
  };
  EXPECT_THAT(with("DeadLetterConfig", {{"TargetArn", "x"}}), HasSubstr("DeadLetterConfig"));
  EXPECT_THAT(with("PackageType", "Image"), HasSubstr("Image"));
  EXPECT_THAT(with("SnapStart", {{"ApplyOn", "PublishedVersions"}}), HasSubstr("SnapStart"));
  EXPECT_THAT(with("Architectures", {"sparc"}), HasSubstr("Architectures"));
  EXPECT_THAT(with("Layers", {"arn:aws:lambda:x:1:layer:y:1"}), HasSubstr("no environment"));
  EXPECT_THAT(with("Layers", {"a", "b"}), HasSubstr("one environment"));
  EXPECT_THAT(with("MemorySize", "big"), HasSubstr("MemorySize"));
  EXPECT_THAT(with("Tags", {{"sundog:colour", "red"}}), HasSubstr("sundog:colour"));
  EXPECT_THAT(with("FunctionName", "risk:live"), HasSubstr("no qualifier"));
}

TEST(LambdaShapes, ReadsTheZip) {
  EXPECT_EQ(*zip_from({{"ZipFile", base64("PK\x03\x04")}}), "PK\x03\x04");
  EXPECT_THAT(zip_from({{"S3Bucket", "b"}}).error().message, HasSubstr("S3Bucket is not there"));
  EXPECT_THAT(zip_from({{"ImageUri", "i"}}).error().message, HasSubstr("ImageUri is not there"));
  EXPECT_THAT(zip_from({{"ZipFile", "!!"}}).error().message, HasSubstr("base64"));
  EXPECT_FALSE(zip_from(Json()).ok());
}

TEST(LambdaShapes, ShowsAVersion) {
  functions::FakeEnvironments environments;
  environments.set({.id = "abc", .state = functions::Environment::State::ready, .bytes = 42});
  functions::Version version;
  version.config.name = "risk";
  version.config.environment_id = "abc";
  version.version = "3";
  version.state_reason_code = "Creating";
  const Json shown = configuration_json(version, "live", environments);
  EXPECT_EQ(shown["FunctionArn"], "arn:aws:lambda:local:000000000000:function:risk:live");
  EXPECT_EQ(shown["State"], "Pending");
  EXPECT_EQ(shown["StateReasonCode"], "Creating");
  EXPECT_EQ(shown["Layers"][0]["CodeSize"], 42);
  EXPECT_FALSE(shown.contains("Environment"));
  EXPECT_FALSE(shown.contains("Sundog"));
  version.start_reason = "1 thread was left running by init";
  EXPECT_EQ(configuration_json(version, "", environments)["Sundog"],
            Json({{"Start", "init"}, {"StartReason", "1 thread was left running by init"}}));
}

TEST(LambdaShapes, AnAliasKeepsWhatARequestLeavesOut) {
  functions::Alias alias{.name = "live", .version = "1", .description = "d", .weights = {{"2", 0.1}}};
  ASSERT_TRUE(apply_alias(alias, {{"Description", "e"}}).ok());
  EXPECT_EQ(alias.weights.size(), 1U);
  ASSERT_TRUE(apply_alias(alias, {{"RoutingConfig", Json::object()}}).ok());
  EXPECT_TRUE(alias.weights.empty());
  EXPECT_FALSE(apply_alias(alias, {{"RoutingConfig", {{"AdditionalVersionWeights", {{"2", "x"}}}}}}).ok());
}

TEST(BlobRange, WhatAHeaderAsks) {
  const auto asked = [](std::string_view header, int64_t size = 100) {
    const Span span = span_of(header, size);
    if (span.kind == Span::Kind::unsatisfiable) return std::string("416");
    return (span.kind == Span::Kind::part ? "206 " : "200 ") + std::to_string(span.offset) + "+" +
           std::to_string(span.length);
  };
  EXPECT_EQ(asked(""), "200 0+100");
  EXPECT_EQ(asked("bytes=0-9"), "206 0+10");
  EXPECT_EQ(asked("bytes=90-"), "206 90+10");
  EXPECT_EQ(asked("bytes=-7"), "206 93+7");
  EXPECT_EQ(asked("bytes=-700"), "206 0+100");
  EXPECT_EQ(asked("bytes=99-9223372036854775807"), "206 99+1");
  EXPECT_EQ(asked("bytes=100-"), "416");
  EXPECT_EQ(asked("bytes=-0"), "416");
  EXPECT_EQ(asked("bytes=0-", 0), "416");
  for (const std::string_view odd :
       {"bytes=9-1", "bytes=a-b", "bytes=1-2,4-5", "bytes=", "bytes=-", "items=0-1", "bytes=5"}) {
    EXPECT_EQ(asked(odd), "200 0+100") << odd;
  }
}

}  // namespace
}  // namespace sundog::api
