#include "api/sigv4.h"

#include <gtest/gtest.h>

#include "base/crypto.h"
#include "base/file.h"
#include "base/json.h"

namespace sundog::api {
namespace {

struct Vector {
  std::string name, service;
  net::Request request;
};

Json golden() {
  const auto text = read_file(Path(SUNDOG_GOLDEN) / "sigv4" / "vectors.json");
  if (!text.ok()) {
    ADD_FAILURE() << text.error().text();
    return {};
  }
  return *parse_json(*text, "vectors.json");
}

std::vector<Vector> vectors() {
  std::vector<Vector> all;
  const auto file = golden();
  for (const auto& item : file["vectors"]) {
    Vector vector{item["name"], item["service"], {}};
    vector.request.method = item["method"];
    vector.request.target = item["target"];
    vector.request.body = item["body"];
    for (const auto& [name, value] : item["headers"].items()) vector.request.headers.emplace_back(name, value);
    all.push_back(std::move(vector));
  }
  return all;
}

const WallTime kSigned = from_epoch_millis(1'440'938'160'000);  // 2015-08-30T12:36:00Z

Status verify(const Vector& vector, std::string_view secret, WallTime now = kSigned) {
  auto parts = parse_sigv4(vector.request.header("authorization"));
  if (!parts.ok()) return std::move(parts).error();
  return verify_sigv4(
      vector.request, *parts,
      {.secret = secret, .service = vector.service, .payload_hash = sha256_hex(vector.request.body), .now = now});
}

void set_header(net::Request& request, std::string_view name, const std::string& value) {
  for (auto& header : request.headers) {
    if (header.first == name) header.second = value;
  }
}

TEST(Sigv4, AcceptsWhatAwsSigned) {
  const std::string secret = golden()["secret"];
  const auto all = vectors();
  ASSERT_GE(all.size(), 14U);
  for (const auto& vector : all) {
    const auto status = verify(vector, secret);
    EXPECT_TRUE(status.ok()) << vector.name << ": " << (status.ok() ? "" : status.error().text());
  }
}

TEST(Sigv4, RefusesWhateverWasChanged) {
  const std::string secret = golden()["secret"];
  for (const auto& vector : vectors()) {
    EXPECT_FALSE(verify(vector, "another secret").ok()) << vector.name;
    auto changed = vector;
    changed.request.method = "PUT";
    EXPECT_FALSE(verify(changed, secret).ok()) << vector.name;
    changed = vector;
    changed.request.target.insert(1, "x");
    EXPECT_FALSE(verify(changed, secret).ok()) << vector.name;
    changed = vector;
    changed.request.body += "x";
    EXPECT_FALSE(verify(changed, secret).ok()) << vector.name;
    changed = vector;
    set_header(changed.request, "host", "elsewhere");
    EXPECT_FALSE(verify(changed, secret).ok()) << vector.name;
    changed = vector;
    changed.request.headers.emplace_back("x-amz-client-context", "e30=");  // not signed
    EXPECT_FALSE(verify(changed, secret).ok()) << vector.name;
    changed = vector;
    set_header(changed.request, "x-amz-date", "20150830T123601Z");
    EXPECT_FALSE(verify(changed, secret).ok()) << vector.name;
    changed = vector;
    changed.service = "s3";
    EXPECT_FALSE(verify(changed, secret).ok()) << vector.name;
  }
}

TEST(Sigv4, IsGoodForFiveMinutes) {
  const std::string secret = golden()["secret"];
  const auto vector = vectors().front();
  using std::chrono::minutes;
  using std::chrono::seconds;
  EXPECT_TRUE(verify(vector, secret, kSigned + minutes(5)).ok());
  EXPECT_TRUE(verify(vector, secret, kSigned - minutes(5)).ok());
  EXPECT_FALSE(verify(vector, secret, kSigned + minutes(5) + seconds(1)).ok());
  EXPECT_FALSE(verify(vector, secret, kSigned - minutes(5) - seconds(1)).ok());
}

TEST(Sigv4, RefusesMalformedHeaders) {
  const std::string good =
      "AWS4-HMAC-SHA256 Credential=A/20150830/r/s/aws4_request, SignedHeaders=host;x-amz-date, Signature=" +
      std::string(64, 'a');
  ASSERT_TRUE(parse_sigv4(good).ok());
  EXPECT_EQ(parse_sigv4(good)->scope(), "20150830/r/s/aws4_request");
  const std::string signature = ", Signature=" + std::string(64, 'a');
  for (const auto& bad :
       {std::string(), std::string("AWS4-HMAC-SHA256"), std::string("AWS4-HMAC-SHA256 Credential=A"),
        "AWS4-HMAC-SHA256 Credential=A/20150830/r/s/aws5_request, SignedHeaders=host" + signature,
        "AWS4-HMAC-SHA256 Credential=A/2015/r/s/aws4_request, SignedHeaders=host" + signature,
        "AWS4-HMAC-SHA256 Credential=/20150830/r/s/aws4_request, SignedHeaders=host" + signature,
        "AWS4-HMAC-SHA256 Credential=A/20150830/r/s/aws4_request, SignedHeaders=x-amz-date;host" + signature,
        "AWS4-HMAC-SHA256 Credential=A/20150830/r/s/aws4_request" + signature, good.substr(0, good.size() - 1)}) {
    EXPECT_FALSE(parse_sigv4(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace sundog::api
