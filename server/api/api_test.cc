// Api and the server's own routes, without a socket.
#include "api/api.h"

#include <gtest/gtest.h>

#include "api/bill_routes.h"
#include "api/server_routes.h"
#include "api/sigv4.h"
#include "base/crypto.h"
#include "base/ids.h"
#include "invoke/fake_invoker.h"
#include "learn/fake_functions.h"
#include "meter/fake_ledger.h"
#include "net/fake_http.h"
#include "store/sqlite_catalog.h"

namespace sundog::api {
namespace {

using net::FakeResponder;

class TwoInstances final : public invoke::FakeInvoker {
 public:
  Json fleet() const override {
    return {{"instances", {{{"function", "f"}, {"tenant", "default"}}, {{"function", "g"}, {"tenant", "acme"}}}},
            {"templates", Json::array()},
            {"queued", 0}};
  }
};

class ApiTest : public ::testing::Test {
 protected:
  ApiTest() : folder_(std::filesystem::temp_directory_path() / short_id("api-test")) {
    EXPECT_TRUE(make_directories(folder_).ok());
    catalog_ = *store::open_sqlite_catalog(folder_ / "catalog.db");
    auto keys = Keys::open(*catalog_, clock_, folder_);
    EXPECT_TRUE(keys.ok());
    for (const auto role : {Role::viewer, Role::invoker, Role::deployer, Role::admin}) {
      made_[role] = *(*keys)->create("default", std::string(name(role)), role);
    }
    other_ = *(*keys)->create("acme", "", Role::admin);
    api_ = std::make_unique<Api>(clock_, Log::none(), std::move(*keys), Api::Options{.threads = 2, .queue_limit = 2});
    add_bill_routes(api_->router(), {clock_, ledger_, plans_, budgets_, *catalog_, functions_, invoker_});
    add_server_routes(*api_, clock_, invoker_, [] { return Json::array({{{"check", "cgroups"}}}); },
                      {.version = "0.1.0", .data_folder = folder_, .pythons = {"3.11"}});
  }
  ~ApiTest() override {
    api_.reset();
    catalog_.reset();
    EXPECT_TRUE(remove_tree(folder_).ok());
  }

  // As HttpServer does it: asks the policy, then the handler.
  std::shared_ptr<FakeResponder> call(net::Request request) {
    auto responder = std::make_shared<FakeResponder>();
    EXPECT_TRUE(net::parse_target(request).ok());
    if (request.method != "GET") {
      auto policy = api_->body_policy()(request);
      if (policy.refuse) {
        responder->send(std::move(*policy.refuse));
        return responder;
      }
    }
    api_->handler()(std::move(request), responder);
    EXPECT_TRUE(responder->wait());
    return responder;
  }
  std::shared_ptr<FakeResponder> call(std::string method, std::string target, const std::string& token = "",
                                      std::string body = "") {
    net::Request request;
    request.method = std::move(method);
    request.target = std::move(target);
    request.headers = {{"host", "localhost"}, {"content-length", std::to_string(body.size())}};
    if (!token.empty()) request.headers.emplace_back("authorization", "Bearer " + token);
    request.body = std::move(body);
    return call(std::move(request));
  }
  const std::string& token(Role role) { return made_.at(role).token; }
  static Json json(const std::shared_ptr<FakeResponder>& responder) { return Json::parse(responder->body()); }

  Path folder_;
  FakeClock clock_;
  std::unique_ptr<store::Catalog> catalog_;
  meter::FakeLedger ledger_;
  meter::PricePlans plans_;
  meter::Budgets budgets_{plans_, clock_};
  testing::FakeFunctions functions_;
  TwoInstances invoker_;
  std::map<Role, NewKey> made_;
  NewKey other_;
  std::unique_ptr<Api> api_;
};

TEST_F(ApiTest, EachRoleMayDoWhatTheOnesBeforeItMay) {
  const std::vector<Role> roles = {Role::viewer, Role::invoker, Role::deployer, Role::admin};
  for (const auto least : roles) {
    api_->router().json("GET", "/least/" + std::string(name(least)), least,
                        [](const std::shared_ptr<Call>& c) -> Result<Json> {
                          return Json{{"role", std::string(name(c->principal.role))}};
                        });
  }
  for (const auto least : roles) {
    for (const auto has : roles) {
      const auto answer = call("GET", "/least/" + std::string(name(least)), token(has));
      EXPECT_EQ(answer->status(), has >= least ? 200 : 403) << name(has) << " at " << name(least);
      if (has < least) EXPECT_EQ(json(answer)["error"]["code"], "permission_denied");
    }
  }
}

TEST_F(ApiTest, TakesNoRequestWithoutAGoodKey) {
  const std::string good = token(Role::viewer);
  EXPECT_EQ(call("GET", "/v1/status", good)->status(), 200);
  for (const std::string& bad : {std::string(), std::string("sk-wrong"), good + "x", good.substr(1)}) {
    const auto answer = call("GET", "/v1/status", bad);
    EXPECT_EQ(answer->status(), 401) << bad;
    EXPECT_EQ(json(answer)["error"]["code"], "unauthenticated");
    EXPECT_EQ(answer->header("WWW-Authenticate"), "Bearer");
  }
  net::Request basic{.method = "GET", .target = "/v1/status", .headers = {{"authorization", "Basic eA=="}}};
  EXPECT_EQ(call(basic)->status(), 401);
  EXPECT_EQ(call("GET", "/healthz")->status(), 200);
}

TEST_F(ApiTest, ARevokedKeyEndsAtOnce) {
  EXPECT_EQ(call("DELETE", "/v1/keys/" + made_[Role::viewer].key.id, token(Role::admin))->status(), 200);
  EXPECT_EQ(call("GET", "/v1/status", token(Role::viewer))->status(), 401);
}

TEST_F(ApiTest, SaysWhatPathsTake) {
  EXPECT_EQ(call("GET", "/nothing", token(Role::admin))->status(), 404);
  const auto answer = call("PATCH", "/v1/keys", token(Role::admin));
  EXPECT_EQ(answer->status(), 405);
  EXPECT_EQ(answer->header("Allow"), "GET, POST");
}

TEST_F(ApiTest, MakesListsAndHidesKeysByTenant) {
  const auto made = call("POST", "/v1/keys", token(Role::admin), R"({"role":"invoker","name":"ci"})");
  ASSERT_EQ(made->status(), 200) << made->body();
  EXPECT_EQ(call("GET", "/v1/status", json(made)["token"].get<std::string>())->status(), 200);
  const auto all = call("GET", "/v1/keys", token(Role::admin));
  EXPECT_EQ(json(all)["items"].size(), 6U);
  EXPECT_EQ(all->body().find("token"), std::string::npos);
  EXPECT_EQ(all->body().find("secret"), std::string::npos);
  // Another tenant's admin sees and touches its own only.
  EXPECT_EQ(json(call("GET", "/v1/keys", other_.token))["items"].size(), 1U);
  EXPECT_EQ(call("DELETE", "/v1/keys/" + made_[Role::viewer].key.id, other_.token)->status(), 404);
  EXPECT_EQ(call("POST", "/v1/keys", other_.token, R"({"role":"admin","tenant":"default"})")->status(), 403);
  EXPECT_EQ(call("POST", "/v1/keys", token(Role::admin), R"({"role":"admin","tenant":"new"})")->status(), 200);
  for (const auto* bad :
       {"", "{}", R"({"role":"root"})", R"({"role":1})", "nonsense", R"({"role":"admin","tenant":"a/b"})"}) {
    EXPECT_EQ(call("POST", "/v1/keys", token(Role::admin), bad)->status(), 400) << bad;
  }
  EXPECT_EQ(json(call("GET", "/v1/fleet", other_.token))["instances"].size(), 1U);
  EXPECT_EQ(json(call("GET", "/v1/fleet", token(Role::viewer)))["instances"].size(), 2U);
}

TEST_F(ApiTest, BillsAndShowsUsage) {
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(ledger_.append({.id = std::to_string(i), .tenant = "default", .ended = clock_.wall()}).ok());
  }
  ASSERT_TRUE(ledger_.append({.id = "x", .tenant = "acme", .ended = clock_.wall()}).ok());
  clock_.advance(std::chrono::hours(24));
  const auto bill = json(call("GET", "/v1/bill?by=function,day", token(Role::viewer)));
  EXPECT_EQ(bill["from"], "2026-01-01T00:00:00.000Z");
  EXPECT_EQ(bill["to"], "2026-01-02T00:00:00.000Z");
  ASSERT_EQ(bill["lines"].size(), 1U);
  EXPECT_EQ(bill["lines"][0]["day"], "2026-01-01");
  EXPECT_EQ(bill["lines"][0]["invocations"], 5);
  EXPECT_EQ(json(call("GET", "/v1/bill?from=2025-12-01&to=2026-01-01T01:02:03.500Z", token(Role::viewer)))["to"],
            "2026-01-01T01:02:03.500Z");
  for (const auto* bad :
       {"by=colour", "from=yesterday", "from=2026-13-01", "to=2025-01-01", "from=2026-01-01T25:00:00Z",
        "from=2026-01-01T00:00:00", "by=day,", "month=2026-01&from=2026-01-01", "month=2026-01&to=2026-02-01"}) {
    EXPECT_EQ(call("GET", std::string("/v1/bill?") + bad, token(Role::viewer))->status(), 400) << bad;
  }
  const auto usage = json(call("GET", "/v1/usage?limit=3", token(Role::viewer)))["items"];
  ASSERT_EQ(usage.size(), 3U);
  EXPECT_EQ(usage[2]["id"], "4");
  EXPECT_EQ(call("GET", "/v1/usage?limit=0", token(Role::viewer))->status(), 400);
  EXPECT_EQ(call("GET", "/v1/usage?after=none", token(Role::viewer))->status(), 400);
  std::set<std::string> seen;
  std::string next;
  do {
    const auto page = json(call("GET", "/v1/usage?limit=2&after=" + next, token(Role::viewer)));
    EXPECT_LE(page["items"].size(), 2U);
    for (const auto& item : page["items"]) EXPECT_TRUE(seen.insert(item["id"]).second) << item["id"];
    next = page["next"];
  } while (!next.empty());
  EXPECT_EQ(std::ranges::count(ledger_.records, "default", &meter::UsageRecord::tenant), std::ssize(seen));
}

TEST_F(ApiTest, ABudgetIsForWhatIsThere) {
  const auto set = [&](const std::string& body, const std::string& query = "") {
    return call("PUT", "/v1/budgets" + query, token(Role::admin), body);
  };
  EXPECT_EQ(set(R"({"limit":"1","function":"f"})")->status(), 404);
  EXPECT_EQ(set(R"({"limit":"1","on_alarm":"f"})")->status(), 404);
  EXPECT_EQ(set(R"({"limit":"1"})", "?tenant=a%2Fb")->status(), 400) << "its key would be that of a's function b";
  EXPECT_EQ(call("GET", "/v1/bill?tenant=a%2Fb", token(Role::admin))->status(), 400);
  EXPECT_TRUE(json(call("GET", "/v1/budgets", token(Role::viewer)))["items"].empty());
  functions::Config config;
  config.name = "f";
  ASSERT_TRUE(functions_.create("default", config, "", false).ok());
  EXPECT_EQ(set(R"({"limit":"1","function":"f","on_alarm":"f"})")->status(), 200);
  EXPECT_EQ(set(R"({"limit":"1","function":"f"})", "?tenant=acme")->status(), 404) << "another tenant's";
  EXPECT_EQ(set(R"({"limit":"1"})", "?tenant=acme")->status(), 200);
}

TEST_F(ApiTest, TellsStatusAndChecks) {
  clock_.advance(std::chrono::seconds(7));
  const auto status = json(call("GET", "/v1/status", token(Role::viewer)));
  EXPECT_EQ(status["uptime_s"], 7);
  EXPECT_EQ(status["role"], "viewer");
  EXPECT_EQ(status["tenant"], "default");
  EXPECT_EQ(json(call("GET", "/v1/doctor", token(Role::viewer)))["checks"][0]["check"], "cgroups");
}

TEST_F(ApiTest, CountsRequestsByRouteAndStatus) {
  call("GET", "/v1/status", token(Role::viewer));
  call("GET", "/v1/status", token(Role::viewer));
  call("GET", "/v1/status");
  call("GET", "/nothing");
  api_->metrics().add_samples([] {
    return std::vector<Sample>{{.name = "sundog_instances", .help = "Now.", .labels = {{"state", "idle"}}, .value = 3}};
  });
  const auto text = call("GET", "/metrics")->body();
  const auto has = [&](const std::string& line) { return text.find(line) != std::string::npos; };
  EXPECT_TRUE(has(R"(sundog_http_requests_total{method="GET",route="/v1/status",status="200"} 2)")) << text;
  EXPECT_TRUE(has(R"(sundog_http_requests_total{method="GET",route="/v1/status",status="401"} 1)")) << text;
  EXPECT_TRUE(has(R"(sundog_http_requests_total{method="",route="none",status="404"} 1)")) << text;
  EXPECT_TRUE(has(R"(sundog_instances{state="idle"} 3)")) << text;
}

TEST_F(ApiTest, DrainingTakesHealthChecksOnly) {
  api_->drain();
  EXPECT_EQ(call("GET", "/v1/status", token(Role::viewer))->status(), 503);
  EXPECT_EQ(call("POST", "/v1/keys", token(Role::admin), "{}")->status(), 503);
  const auto health = call("GET", "/healthz");
  EXPECT_EQ(health->status(), 503);
  EXPECT_EQ(json(health)["status"], "draining");
  EXPECT_EQ(call("GET", "/metrics")->status(), 200);
}

TEST_F(ApiTest, RefusesBodiesBeforeTheyCome) {
  api_->router().add("PUT", "/big", Role::deployer,
                     [](const std::shared_ptr<Call>& c) { reply(*c->responder, 200, {}); },
                     {.body_limit = 1000, .stream_body = true});
  net::Request request{.method = "PUT", .target = "/big", .path = "/big"};
  const auto refused = [&] {
    const auto policy = api_->body_policy()(request);
    return policy.refuse ? policy.refuse->status : 0;
  };
  EXPECT_EQ(refused(), 401);
  request.headers = {{"authorization", "Bearer " + token(Role::viewer)}};
  EXPECT_EQ(refused(), 403);
  request.headers = {{"authorization", "Bearer " + token(Role::deployer)}, {"content-length", "1001"}};
  EXPECT_EQ(refused(), 413);
  request.headers[1].second = "99999999999999999999999";
  EXPECT_EQ(refused(), 413);
  request.headers[1].second = "1000";
  EXPECT_EQ(refused(), 0);
  EXPECT_TRUE(api_->body_policy()(request).stream);
}

TEST_F(ApiTest, AFullPoolIs429AndAThrowIs500) {
  std::mutex gate;
  api_->router().json("GET", "/wait", Role::viewer, [&](const std::shared_ptr<Call>&) -> Result<Json> {
    const std::lock_guard lock(gate);
    return Json::object();
  });
  api_->router().json("GET", "/throw", Role::viewer,
                      [](const std::shared_ptr<Call>&) -> Result<Json> { throw std::runtime_error("boom"); });
  EXPECT_EQ(call("GET", "/throw", token(Role::viewer))->status(), 500);
  net::Request request{.method = "GET",
                       .target = "/wait",
                       .path = "/wait",
                       .headers = {{"authorization", "Bearer " + token(Role::viewer)}}};
  std::vector<std::shared_ptr<FakeResponder>> answers;
  {
    const std::lock_guard lock(gate);
    // Two run and wait, two are queued; which of the next is refused depends on how fast the threads take theirs.
    for (int i = 0; i < 8; ++i) {
      answers.push_back(std::make_shared<FakeResponder>());
      api_->handler()(request, answers.back());
    }
  }
  int refused = 0;
  for (const auto& answer : answers) {
    ASSERT_TRUE(answer->wait());
    if (answer->status() != 200) {
      EXPECT_EQ(answer->status(), 429);
      EXPECT_EQ(answer->header("Retry-After"), "1");
      ++refused;
    }
  }
  EXPECT_GE(refused, 4);
  EXPECT_LE(refused, 6);
}

class SignedTest : public ApiTest {
 protected:
  SignedTest() {
    api_->router().json("POST", "/2015-03-31/functions/{name}/invocations", Role::invoker,
                        [](const std::shared_ptr<Call>& c) -> Result<Json> {
                          if (c->param("name") == "none") return fail(Code::not_found, "No such function.");
                          return Json{{"id", c->request_id}};
                        },
                        {.errors = ErrorShape::lambda});
    api_->router().json("PUT", "/stream", Role::viewer,
                        [](const std::shared_ptr<Call>&) -> Result<Json> { return Json::object(); },
                        {.stream_body = true});
  }
  // Signed as boto3 would.
  net::Request signed_request(const std::string& method, const std::string& target, const NewKey& key, std::string body,
                              const std::string& payload_hash = "") {
    net::Request request;
    request.method = method;
    request.target = target;
    request.body = std::move(body);
    auto time = iso_time(clock_.wall());  // 2026-01-01T00:00:00.000Z
    std::erase(time, '-');
    std::erase(time, ':');
    const auto amz_date = time.substr(0, 15) + "Z";
    request.headers = {{"host", "localhost:9000"}, {"x-amz-date", amz_date}};
    Sigv4 parts{key.key.id, time.substr(0, 8), "us-east-1", "lambda", {"host", "x-amz-date"}, ""};
    if (!payload_hash.empty()) {
      request.headers.emplace_back("x-amz-content-sha256", payload_hash);
      parts.signed_headers = {"host", "x-amz-content-sha256", "x-amz-date"};
    }
    const auto hash = payload_hash.empty() ? sha256_hex(request.body) : payload_hash;
    const auto signature =
        sigv4_signature(parts, amz_date, canonical_request(request, parts.signed_headers, hash), key.secret);
    std::string names;
    for (const auto& header : parts.signed_headers) names += (names.empty() ? "" : ";") + header;
    request.headers.emplace_back("authorization", "AWS4-HMAC-SHA256 Credential=" + parts.key_id + "/" + parts.scope() +
                                                      ", SignedHeaders=" + names + ", Signature=" + signature);
    return request;
  }
};

TEST_F(SignedTest, TakesASignedRequestInLambdasShape) {
  const auto answer =
      call(signed_request("POST", "/2015-03-31/functions/score/invocations", made_[Role::invoker], R"({"a":1})"));
  ASSERT_EQ(answer->status(), 200) << answer->body();
  EXPECT_EQ(answer->header("x-amzn-RequestId"), json(answer)["id"].get<std::string>());
  EXPECT_EQ(answer->header("x-amzn-RequestId").size(), 36U);
  const auto missing = call(signed_request("POST", "/2015-03-31/functions/none/invocations", made_[Role::invoker], ""));
  EXPECT_EQ(missing->status(), 404);
  EXPECT_EQ(missing->header("x-amzn-ErrorType"), "ResourceNotFoundException");
}

TEST_F(SignedTest, RefusesWithLambdasNames) {
  const std::string target = "/2015-03-31/functions/score/invocations";
  struct Case {
    std::function<void(net::Request&)> change;
    const char* exception;
  };
  const std::vector<Case> cases = {
      {[](net::Request& r) { r.body = "other"; }, "InvalidSignatureException"},
      {[](net::Request& r) { r.headers.pop_back(); }, "MissingAuthenticationTokenException"},
      {[](net::Request& r) { r.headers.back().second = "AWS4-HMAC-SHA256 nothing"; }, "IncompleteSignatureException"},
      {[](net::Request& r) { r.headers.back().second = "Bearer sk-none"; }, "UnrecognizedClientException"},
      {[](net::Request& r) { r.headers.emplace_back("x-amz-content-sha256", "UNSIGNED-PAYLOAD"); },
       "InvalidSignatureException"},
  };
  for (const auto& [change, exception] : cases) {
    auto request = signed_request("POST", target, made_[Role::invoker], "{}");
    change(request);
    const auto answer = call(request);
    EXPECT_EQ(answer->status(), 403) << exception;
    EXPECT_EQ(answer->header("x-amzn-ErrorType"), exception);
    EXPECT_EQ(json(answer)["Type"], "User");
  }
  const auto viewer = call(signed_request("POST", target, made_[Role::viewer], "{}"));
  EXPECT_EQ(viewer->header("x-amzn-ErrorType"), "AccessDeniedException");
  auto stale = signed_request("POST", target, made_[Role::invoker], "{}");
  clock_.advance(std::chrono::minutes(6));
  EXPECT_EQ(call(stale)->header("x-amzn-ErrorType"), "InvalidSignatureException");
  ASSERT_TRUE(api_->keys().revoke("default", made_[Role::invoker].key.id).ok());
  EXPECT_EQ(call(signed_request("POST", target, made_[Role::invoker], "{}"))->header("x-amzn-ErrorType"),
            "UnrecognizedClientException");
}

TEST_F(SignedTest, AStreamedBodyNeedsAnUnsignedPayload) {
  const auto policy = [&](const net::Request& request) { return api_->body_policy()(request); };
  auto whole = signed_request("PUT", "/stream", made_[Role::viewer], "abc");
  ASSERT_TRUE(policy(whole).refuse);
  EXPECT_EQ(policy(whole).refuse->status, 401);
  auto unsigned_one = signed_request("PUT", "/stream", made_[Role::viewer], "abc", "UNSIGNED-PAYLOAD");
  EXPECT_FALSE(policy(unsigned_one).refuse);
}

}  // namespace
}  // namespace sundog::api
