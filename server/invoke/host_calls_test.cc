#include "invoke/host_calls.h"

#include <gmock/gmock.h>

#include "invoke/test_world.h"

namespace sundog::invoke {
namespace {

using testing::HasSubstr;

class HostCallsTest : public testing::Test {
 protected:
  // An invocation that stays running, so that it can call its host.
  void start(std::set<std::string> blobs = {}) {
    world_.functions.deploy("f", [](auto& version) { version.config.timeout_s = 900; });
    world_.sandbox.hold_invocations = true;
    Invocation invocation;
    invocation.tenant = "default";
    invocation.function = "f";
    invocation.granted_blobs = std::move(blobs);
    invocation.tags = {{"run", "run-1"}};
    answer_ = world_.call(std::move(invocation));
    world_.loop.run_pending();
    instance_ = world_.sandbox.busy_instances().at(0);
  }
  Result<sandbox::HostReply> call(const std::string& name, Json arguments = Json::object()) {
    std::optional<Result<sandbox::HostReply>> reply;
    instance_->host_call({name, std::move(arguments), {}},
                         [&](Result<sandbox::HostReply> result) { reply = std::move(result); });
    if (!world_.loop.run_until([&] { return reply.has_value(); })) return fail(Code::deadline_exceeded, "no reply");
    return *std::move(reply);
  }

  TestWorld world_;
  std::shared_ptr<Answer> answer_;
  sandbox::FakeInstance* instance_ = nullptr;
};

TEST_F(HostCallsTest, OpensWhatWasGrantedAndNothingElse) {
  const auto granted = world_.blobs->put("granted bytes")->id;
  const auto secret = world_.blobs->put("someone else's")->id;
  start({granted});
  auto opened = call("blob.open", {{"blob", granted}});
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  EXPECT_EQ(opened->result["bytes"], 13);
  ASSERT_EQ(opened->fds.size(), 1U);
  char text[32];
  EXPECT_EQ(::read(opened->fds[0].get(), text, sizeof text), 13);
  const auto refused = call("blob.open", {{"blob", secret}});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::permission_denied);
  EXPECT_EQ(call("blob.open", {{"blob", 7}}).error().code, Code::invalid_argument);
}

TEST_F(HostCallsTest, ACommittedFileIsABlobThatItMayOpen) {
  start();
  auto created = call("file.create");
  ASSERT_TRUE(created.ok()) << created.error().text();
  ASSERT_EQ(::write(created->fds.at(0).get(), "made here", 9), 9);
  const auto committed = call("file.commit", {{"handle", created->result["handle"]}});
  ASSERT_TRUE(committed.ok()) << committed.error().text();
  EXPECT_EQ(committed->result["bytes"], 9);
  EXPECT_TRUE(call("blob.open", {{"blob", committed->result["blob"]}}).ok());
  const auto again = call("file.commit", {{"handle", created->result["handle"]}});
  EXPECT_EQ(again.error().code, Code::not_found);
  EXPECT_EQ(call("file.commit", {{"handle", -1}}).error().code, Code::not_found);
  EXPECT_EQ(call("file.commit", {{"handle", int64_t{1} << 40}}).error().code, Code::not_found);
}

TEST_F(HostCallsTest, TheResultSaysWhichBlobsItsAnswerMayName) {
  const auto granted = world_.blobs->put("granted bytes")->id;
  start({granted});
  auto created = call("file.create");
  ASSERT_EQ(::write(created->fds.at(0).get(), "made here", 9), 9);
  const std::string made = call("file.commit", {{"handle", created->result["handle"]}})->result["blob"];
  instance_->finish(TestWorld::outcome(sandbox::Outcome::Kind::ok));
  ASSERT_TRUE(world_.loop.run_until([&] { return answer_->result.has_value(); }));
  EXPECT_EQ(answer_->result->granted_blobs, (std::set<std::string>{granted, made}));
}

TEST_F(HostCallsTest, OneInvocationHoldsSoManyFiles) {
  start();
  for (int i = 0; i < 64; ++i) ASSERT_TRUE(call("file.create").ok());
  EXPECT_EQ(call("file.create").error().code, Code::resource_exhausted);
}

TEST_F(HostCallsTest, RegisteredHandlersGetTheInvocation) {
  world_.invoker->add_host_call("run.metrics", [](const Invocation& who, const sandbox::HostCall& call,
                                                  const Callback<sandbox::HostReply>& reply) {
    sandbox::HostReply answer;
    answer.result = {{"run", who.tags.at("run")}, {"step", call.arguments["step"]}};
    reply(std::move(answer));
  });
  start();
  const auto reply = call("run.metrics", {{"step", 3}});
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->result, (Json{{"run", "run-1"}, {"step", 3}}));
  EXPECT_EQ(call("no.such").error().code, Code::not_found);
}

TEST_F(HostCallsTest, FunctionsCallFunctions) {
  start();
  world_.functions.deploy("g");
  world_.sandbox.hold_invocations = false;
  const auto reply = call("invoke", {{"function", "g"}, {"payload", {{"x", 1}}}});
  ASSERT_TRUE(reply.ok()) << reply.error().text();
  EXPECT_EQ(reply->result, (Json{{"payload", {{"x", 1}}}, {"function_error", ""}}));
  EXPECT_EQ(call("invoke", {{"function", "nobody"}}).error().code, Code::not_found);
}

TEST_F(HostCallsTest, ButNotForEver) {
  // Each invocation of "again" calls "again".
  world_.functions.deploy("again");
  std::vector<Error> errors;
  world_.sandbox.hold_invocations = true;
  world_.call("again");
  for (int depth = 0; depth < 20; ++depth) {
    world_.loop.run_pending();
    auto* deepest = world_.sandbox.busy_instances().back();
    if (!errors.empty()) break;
    deepest->host_call({"invoke", {{"function", "again"}}, {}}, [&](const Result<sandbox::HostReply>& reply) {
      if (!reply.ok()) errors.push_back(reply.error());
    });
  }
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_THAT(errors[0].message, HasSubstr("8 deep"));
  EXPECT_EQ(world_.sandbox.busy_instances().size(), 9U);
}

TEST_F(HostCallsTest, AReplyAfterTheEndGoesNowhere) {
  start();
  bool replied = false;
  instance_->host_call({"file.create", {}, {}}, [&](const Result<sandbox::HostReply>&) { replied = true; });
  instance_->finish(TestWorld::outcome(sandbox::Outcome::Kind::ok));
  // The outcome is on the loop before the pool's answer can be run.
  world_.loop.run_pending();
  EXPECT_TRUE(answer_->result);
  const bool before = replied;
  EXPECT_FALSE(world_.loop.run_until([&] { return replied && !before; }, Millis{100}));
}

}  // namespace
}  // namespace sundog::invoke
