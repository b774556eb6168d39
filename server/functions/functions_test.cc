#include "functions/functions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "functions/fake_environments.h"
#include "functions/test_zip.h"
#include "store/file_blobs.h"
#include "store/sqlite_catalog.h"
#include "store/test_folder.h"

namespace sundog::functions {
namespace {

using store::On;
using store::TestFolder;
using testing::ElementsAre;
using testing::HasSubstr;

Config config_named(const std::string& name) {
  Config config;
  config.name = name;
  config.handler = "app.handler";
  config.role = "arn:aws:iam::000000000000:role/any";
  return config;
}

class FunctionsTest : public testing::Test {
 protected:
  FunctionsTest() {
    catalog_ = *store::open_sqlite_catalog(folder_.path() / "catalog.db");
    blobs_ = *store::open_file_blobs(folder_.path() / "blobs");
    reopen();
  }

  void reopen() {
    functions_.reset();
    functions_ = *open_functions(*catalog_, *blobs_, environments_, clock_, {.folder = folder_.path() / "code"});
    functions_->on_change([this](const std::string&, const std::string& name) {
      const std::lock_guard lock(mutex_);
      changes_.push_back(name);
    });
    functions_->on_deploy([this](const VersionPtr& version) {
      const std::lock_guard lock(mutex_);
      deploys_.push_back(version->config.name + ":" + version->version);
    });
  }

  Version create(const std::string& name, bool publish = false) {
    auto made = functions_->create("acme", config_named(name), handler_zip(), publish);
    EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().text());
    return *made;
  }

  Version describe(const std::string& name, const std::string& text) {
    auto changed = functions_->update_config("acme", name, "", [&](Config& config) -> Status {
      config.description = text;
      return done;
    });
    EXPECT_TRUE(changed.ok()) << (changed.ok() ? "" : changed.error().text());
    return *changed;
  }

  std::string ran(const std::string& name, const std::string& qualifier, double dice = 0) {
    const auto resolved = functions_->resolve("acme", name, qualifier, dice);
    return resolved.ok() ? resolved->version->version : std::string(sundog::name(resolved.error().code));
  }

  TestFolder folder_{On::memory};
  FakeClock clock_;
  FakeEnvironments environments_;
  std::unique_ptr<store::Catalog> catalog_;
  std::unique_ptr<store::Blobs> blobs_;
  std::mutex mutex_;
  std::vector<std::string> changes_, deploys_;
  std::unique_ptr<Functions> functions_;
};

TEST_F(FunctionsTest, WhatWasCreatedIsThereAfterARestart) {
  const Version made = create("risk");
  EXPECT_EQ(made.state, State::active);
  EXPECT_EQ(made.arn(), "arn:aws:lambda:local:000000000000:function:risk");
  EXPECT_TRUE(std::filesystem::exists(made.code_folder / "app.py"));
  reopen();
  const auto found = functions_->get("acme", "risk", "");
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->identity(), made.identity());
  EXPECT_EQ(found->config.handler, "app.handler");
  EXPECT_FALSE(functions_->get("other", "risk", "").ok());
}

TEST_F(FunctionsTest, LostCodeIsExtractedAgainFromItsBlob) {
  const Version made = create("risk");
  functions_.reset();
  ASSERT_TRUE(remove_tree(made.code_folder).ok());
  reopen();
  EXPECT_TRUE(std::filesystem::exists(made.code_folder / "app.py"));
}

TEST_F(FunctionsTest, OfManyCreatesAtOnceOneWins) {
  std::atomic<int> won{0};
  std::atomic<int> conflicts{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const auto made =
          functions_->create("acme", config_named("race"), handler_zip("x = " + std::to_string(i)), false);
      if (made.ok())
        ++won;
      else if (made.error().code == Code::conflict)
        ++conflicts;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(won, 1);
  EXPECT_EQ(conflicts, 7);
}

TEST_F(FunctionsTest, TwoServersOnOneCatalogSeeEachOthersChanges) {
  create("risk");
  auto other = *open_functions(*catalog_, *blobs_, environments_, clock_, {.folder = folder_.path() / "code"});
  describe("risk", "changed here");
  ASSERT_TRUE(other->publish("acme", "risk", "", "", "").ok());
  EXPECT_EQ(other->get("acme", "risk", "1")->config.description, "changed here");
  EXPECT_EQ(other->create("acme", config_named("risk"), handler_zip(), false).error().code, Code::conflict);
}

TEST_F(FunctionsTest, ADamagedRecordIsNamedAndNotForgotten) {
  create("risk");
  create("sound");
  auto record = *catalog_->get("functions/acme/risk");
  record.value = {{"nothing", "of a function"}};
  ASSERT_TRUE(catalog_->put(record.key, record.value).ok());
  const auto opened = open_functions(*catalog_, *blobs_, environments_, clock_, {.folder = folder_.path() / "code"});
  ASSERT_FALSE(opened.ok());
  EXPECT_NE(opened.error().message.find("acme/risk"), std::string::npos) << opened.error().message;
}

TEST_F(FunctionsTest, PublishingTheSameAgainGivesTheSameVersion) {
  create("risk");
  EXPECT_EQ(functions_->publish("acme", "risk", "", "first", "")->version, "1");
  EXPECT_EQ(functions_->publish("acme", "risk", "", "again", "")->version, "1");
  describe("risk", "changed");
  EXPECT_EQ(functions_->publish("acme", "risk", "", "", "")->version, "2");
  EXPECT_EQ(functions_->get("acme", "risk", "1")->config.description, "first");
  EXPECT_EQ(functions_->publish("acme", "risk", "wrong", "", "").error().code, Code::invalid_argument);
}

TEST_F(FunctionsTest, NumbersAreNeverUsedAgain) {
  create("risk", true);
  describe("risk", "b");
  ASSERT_EQ(functions_->publish("acme", "risk", "", "", "")->version, "2");
  ASSERT_TRUE(functions_->remove("acme", "risk", "2").ok());
  EXPECT_EQ(functions_->publish("acme", "risk", "", "", "")->version, "3");
  ASSERT_TRUE(functions_->remove("acme", "risk", "").ok());
  EXPECT_EQ(ran("risk", ""), "not_found");
  EXPECT_EQ(create("risk", true).version, "4");
  reopen();
  EXPECT_EQ(ran("risk", "1"), "not_found");
  EXPECT_EQ(ran("risk", "4"), "4");
}

TEST_F(FunctionsTest, AnAliasSplitsTraffic) {
  create("risk", true);
  describe("risk", "b");
  ASSERT_TRUE(functions_->publish("acme", "risk", "", "", "").ok());
  Alias live{.name = "live", .version = "1", .weights = {{"2", 0.25}}};
  ASSERT_TRUE(functions_->create_alias("acme", "risk", live).ok());
  EXPECT_EQ(functions_->create_alias("acme", "risk", live).error().code, Code::conflict);
  for (int pass = 0; pass < 2; ++pass, reopen()) {
    EXPECT_EQ(ran("risk", "live", 0.0), "2");
    EXPECT_EQ(ran("risk", "live", 0.2499), "2");
    EXPECT_EQ(ran("risk", "live", 0.25), "1");
    EXPECT_EQ(ran("risk", "live", 0.9999), "1");
  }
  EXPECT_EQ(functions_->remove("acme", "risk", "2").error().code, Code::conflict);
  EXPECT_EQ(functions_->remove("acme", "risk", "1").error().code, Code::conflict);
  live.weights.clear();
  ASSERT_TRUE(functions_->update_alias("acme", "risk", live, "").ok());
  EXPECT_TRUE(functions_->remove("acme", "risk", "2").ok());
  ASSERT_TRUE(functions_->remove_alias("acme", "risk", "live").ok());
  EXPECT_EQ(ran("risk", "live"), "not_found");
}

TEST_F(FunctionsTest, AnAliasPointsOnlyAtWhatIsThere) {
  create("risk", true);
  const auto code = [&](Alias alias) {
    const auto made = functions_->create_alias("acme", "risk", std::move(alias));
    return made.ok() ? "ok" : std::string(sundog::name(made.error().code));
  };
  EXPECT_EQ(code({.name = "a", .version = "7"}), "not_found");
  EXPECT_EQ(code({.name = "a", .version = "1", .weights = {{"7", 0.5}}}), "not_found");
  EXPECT_EQ(code({.name = "a", .version = "1", .weights = {{"1", 0.5}}}), "invalid_argument");
  EXPECT_EQ(code({.name = "a", .version = "$LATEST", .weights = {{"1", 0.5}}}), "invalid_argument");
  EXPECT_EQ(code({.name = "12", .version = "1"}), "invalid_argument");
  EXPECT_EQ(code({.name = "a", .version = "x"}), "invalid_argument");
  EXPECT_EQ(code({.name = "a", .version = "$LATEST"}), "ok");
  EXPECT_EQ(ran("risk", "a"), "$LATEST");
}

TEST_F(FunctionsTest, AStaleRevisionIsRefused) {
  const Version first = create("risk");
  const Version second = describe("risk", "b");
  EXPECT_NE(first.revision_id, second.revision_id);
  const auto stale = functions_->update_code("acme", "risk", handler_zip("y = 1"), false, first.revision_id, false);
  EXPECT_EQ(stale.error().message, kStaleRevision);
  EXPECT_TRUE(functions_->update_code("acme", "risk", handler_zip("y = 1"), false, second.revision_id, false).ok());
}

TEST_F(FunctionsTest, ADryRunChangesNothing) {
  const Version first = create("risk");
  const auto dry = functions_->update_code("acme", "risk", handler_zip("y = 1"), false, "", true);
  ASSERT_TRUE(dry.ok());
  EXPECT_NE(dry->code_sha256, first.code_sha256);
  EXPECT_EQ(functions_->get("acme", "risk", "")->code_sha256, first.code_sha256);
  EXPECT_FALSE(std::filesystem::exists(dry->code_folder));
}

TEST_F(FunctionsTest, AFunctionWaitsForItsEnvironment) {
  environments_.set({.id = "e1"});
  Config config = config_named("risk");
  config.environment_id = "e1";
  const auto made = functions_->create("acme", config, handler_zip(), true);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->state, State::pending);
  EXPECT_EQ(made->state_reason_code, "Creating");
  EXPECT_EQ(functions_->publish("acme", "risk", "", "", "").error().code, Code::conflict);
  environments_.set({.id = "e1", .state = Environment::State::ready});
  EXPECT_EQ(functions_->get("acme", "risk", "")->state, State::active);
  EXPECT_EQ(functions_->get("acme", "risk", "1")->state, State::active);
  EXPECT_EQ(functions_->get("acme", "risk", "")->state_reason, "");
  reopen();
  EXPECT_EQ(functions_->get("acme", "risk", "1")->state, State::active);
}

TEST_F(FunctionsTest, AnEnvironmentThatCannotBeBuiltFailsTheFunction) {
  environments_.set({.id = "e1"});
  Config config = config_named("risk");
  config.environment_id = "e1";
  ASSERT_TRUE(functions_->create("acme", config, handler_zip(), false).ok());
  environments_.set({.id = "e1", .state = Environment::State::failed, .log = "resolving\nno such package: nunpy\n"});
  const auto failed = functions_->get("acme", "risk", "");
  EXPECT_EQ(failed->state, State::failed);
  EXPECT_THAT(failed->state_reason, HasSubstr("no such package: nunpy"));
  environments_.set({.id = "e1", .state = Environment::State::ready});
  EXPECT_EQ(functions_->get("acme", "risk", "")->state, State::active);
}

TEST_F(FunctionsTest, WhileAnUpdateIsInProgressTheOldVersionRuns) {
  const Version first = create("risk");
  environments_.set({.id = "e1"});
  const auto update = functions_->update_config("acme", "risk", "", [](Config& config) -> Status {
    config.environment_id = "e1";
    return done;
  });
  ASSERT_TRUE(update.ok()) << update.error().text();
  EXPECT_EQ(update->state, State::active);
  EXPECT_EQ(update->update, UpdateStatus::in_progress);
  for (int pass = 0; pass < 2; ++pass, reopen()) {
    EXPECT_EQ(functions_->resolve("acme", "risk", "", 0)->version->revision_id, first.revision_id);
    EXPECT_EQ(functions_->update_code("acme", "risk", handler_zip("z = 1"), false, "", false).error().code,
              Code::conflict);
  }
  environments_.set({.id = "e1", .state = Environment::State::ready});
  EXPECT_EQ(functions_->get("acme", "risk", "")->update, UpdateStatus::successful);
  EXPECT_EQ(functions_->resolve("acme", "risk", "", 0)->version->config.environment_id, "e1");
}

TEST_F(FunctionsTest, TellsOfEachVersionOnceItCanRun) {
  const auto told = [&] { return std::exchange(deploys_, {}); };
  const Version made = create("risk");
  EXPECT_THAT(told(), ElementsAre("risk:$LATEST"));
  ASSERT_TRUE(functions_->publish("acme", "risk", "", "", "").ok());
  EXPECT_THAT(told(), ElementsAre("risk:1"));
  ASSERT_TRUE(functions_->update_code("acme", "risk", handler_zip("z = 1"), true, "", false).ok());
  EXPECT_THAT(told(), ElementsAre("risk:$LATEST", "risk:2"));
  describe("risk", "b");
  EXPECT_THAT(told(), ElementsAre("risk:$LATEST"));
  functions_->report_init(*functions_->get("acme", "risk", ""),
                          {.failure = sandbox::InitFailure{"Runtime.ExitError", "1", {}}});
  functions_->report_init(*functions_->get("acme", "risk", ""), {});
  ASSERT_TRUE(functions_->set_reserved_concurrency("acme", "risk", 3).ok());
  ASSERT_TRUE(functions_->create_alias("acme", "risk", {.name = "live", .version = "1"}).ok());
  reopen();
  EXPECT_THAT(told(), ElementsAre());
  environments_.set({.id = "e1", .python = "3.11", .state = Environment::State::building});
  auto config = config_named("later");
  config.environment_id = "e1";
  ASSERT_TRUE(functions_->create("acme", config, handler_zip(), true).ok());
  EXPECT_THAT(told(), ElementsAre());
  environments_.set({.id = "e1", .python = "3.11", .state = Environment::State::ready});
  EXPECT_THAT(told(), ElementsAre("later:$LATEST", "later:1"));
}

TEST_F(FunctionsTest, WhyEachInstanceRunsInitItselfIsKeptUntilTheNextChange) {
  const Version made = create("risk");
  const auto shown = [&](const std::string& qualifier) {
    return functions_->get("acme", "risk", qualifier)->start_reason;
  };
  functions_->report_init(made, {.start_reason = "init left 2 threads running"});
  ASSERT_TRUE(functions_->publish("acme", "risk", "", "", "").ok());
  reopen();
  EXPECT_EQ(shown(""), "init left 2 threads running");
  EXPECT_EQ(shown("1"), "init left 2 threads running") << "it is the same code";
  functions_->report_init(made, {.failure = sandbox::InitFailure{"Runtime.ExitError", "1", {}}});
  EXPECT_EQ(shown(""), "init left 2 threads running") << "what failed says nothing about it";
  functions_->report_init(*functions_->get("acme", "risk", "1"), {});
  EXPECT_EQ(shown("1"), "");
  describe("risk", "another");
  EXPECT_EQ(shown(""), "");
}

TEST_F(FunctionsTest, WhatFailedAtInitMayBePublishedAndIsTriedAnew) {
  const Version made = create("risk");
  functions_->report_init(made, {.failure = sandbox::InitFailure{"Runtime.ExitError", "no database yet", {}}});
  const auto one = functions_->publish("acme", "risk", "", "", "");
  ASSERT_TRUE(one.ok()) << one.error().text();
  EXPECT_EQ(one->state, State::active);
  EXPECT_EQ(one->state_reason, "");
  EXPECT_EQ(functions_->get("acme", "risk", "")->state, State::failed);
}

TEST_F(FunctionsTest, AFailedInitIsShownUntilItWorksAgain) {
  const Version made = create("risk");
  functions_->report_init(
      made, {.failure = sandbox::InitFailure{"Runtime.ImportModuleError", "No module named 'nunpy'", {}}});
  const auto failed = functions_->get("acme", "risk", "");
  EXPECT_EQ(failed->state, State::failed);
  EXPECT_THAT(failed->state_reason, HasSubstr("nunpy"));
  EXPECT_EQ(failed->revision_id, made.revision_id);
  functions_->report_init(made, {});
  EXPECT_EQ(functions_->get("acme", "risk", "")->state, State::active);
  const Version later = describe("risk", "b");
  functions_->report_init(made, {.failure = sandbox::InitFailure{"Runtime.ExitError", "late", {}}});
  EXPECT_EQ(functions_->get("acme", "risk", "")->identity(), later.identity());
  EXPECT_EQ(functions_->get("acme", "risk", "")->state, State::active);
}

TEST_F(FunctionsTest, ListsByPage) {
  for (int i = 0; i < 5; ++i) create("f" + std::to_string(i));
  std::vector<std::string> names;
  std::string after;
  int pages = 0;
  do {
    const auto page = functions_->list("acme", after, 2);
    ASSERT_TRUE(page.ok());
    for (const auto& version : page->items) names.push_back(version.config.name);
    after = page->next;
    ++pages;
  } while (!after.empty());
  EXPECT_THAT(names, ElementsAre("f0", "f1", "f2", "f3", "f4"));
  EXPECT_EQ(pages, 3);
  for (int i = 1; i <= 4; ++i) {
    describe("f0", std::to_string(i));
    ASSERT_TRUE(functions_->publish("acme", "f0", "", "", "").ok());
  }
  const auto first = functions_->versions("acme", "f0", "", 3);
  ASSERT_EQ(first->items.size(), 3U);
  EXPECT_EQ(first->items[0].version, "$LATEST");
  EXPECT_EQ(first->next, "2");
  const auto second = functions_->versions("acme", "f0", first->next, 3);
  ASSERT_EQ(second->items.size(), 2U);
  EXPECT_EQ(second->items[1].version, "4");
  EXPECT_EQ(second->next, "");
}

TEST_F(FunctionsTest, ABuiltinResolvesForAllAndBelongsToNobody) {
  Version builtin;
  builtin.config = config_named("sundog-data");
  builtin.config.runtime = "native";
  builtin.state = State::active;
  functions_->add_builtin(builtin);
  EXPECT_EQ(ran("sundog-data", ""), "$LATEST");
  EXPECT_TRUE(functions_->resolve("other", "sundog-data", "", 0).ok());
  EXPECT_TRUE(functions_->list("acme", "", 10)->items.empty());
  EXPECT_EQ(functions_->remove("acme", "sundog-data", "").error().code, Code::not_found);
  EXPECT_EQ(functions_->create("acme", config_named("sundog-data"), handler_zip(), false).error().code, Code::conflict);
}

TEST_F(FunctionsTest, RefusesWhatLambdaRefuses) {
  const auto code = [&](const std::function<void(Config&)>& edit) {
    Config config = config_named("limits");
    edit(config);
    const auto made = functions_->create("acme", config, handler_zip(), false);
    if (!made.ok()) return made.error().message;
    EXPECT_TRUE(functions_->remove("acme", config.name, "").ok());
    return std::string("ok");
  };
  EXPECT_EQ(code([](Config& c) { c.memory_mb = 128; }), "ok");
  EXPECT_EQ(code([](Config& c) { c.memory_mb = 10'240; }), "ok");
  EXPECT_THAT(code([](Config& c) { c.memory_mb = 127; }), HasSubstr("MemorySize is 127"));
  EXPECT_THAT(code([](Config& c) { c.memory_mb = 10'241; }), HasSubstr("10240"));
  EXPECT_THAT(code([](Config& c) { c.timeout_s = 0; }), HasSubstr("Timeout is 0"));
  EXPECT_THAT(code([](Config& c) { c.timeout_s = 901; }), HasSubstr("900"));
  EXPECT_THAT(code([](Config& c) { c.ephemeral_mb = 511; }), HasSubstr("EphemeralStorage"));
  EXPECT_THAT(code([](Config& c) { c.name = std::string(65, 'a'); }), HasSubstr("names no function"));
  EXPECT_THAT(code([](Config& c) { c.description = std::string(257, 'a'); }), HasSubstr("256"));
  EXPECT_THAT(code([](Config& c) { c.runtime = "native"; }), HasSubstr("\"native\" is not supported"));
  EXPECT_THAT(code([](Config& c) { c.runtime = "python3.4"; }), HasSubstr("3.4"));
  EXPECT_THAT(code([](Config& c) { c.handler = ""; }), HasSubstr("Handler"));
  EXPECT_THAT(code([](Config& c) { c.variables["AWS_REGION"] = "x"; }), HasSubstr("reserved keys"));
  EXPECT_THAT(code([](Config& c) { c.variables["BIG"] = std::string(4094, 'x'); }), HasSubstr("4KB"));
  EXPECT_EQ(code([](Config& c) { c.variables["BIG"] = std::string(4093, 'x'); }), "ok");
  EXPECT_THAT(code([](Config& c) { c.environment_id = "none"; }), HasSubstr("does not exist"));
}

TEST_F(FunctionsTest, EgressAndItsListGoTogether) {
  const auto refusal = [this](sandbox::Network network, std::vector<std::string> allow) {
    auto config = config_named("risk");
    config.network = network;
    config.allow = std::move(allow);
    const auto made = functions_->create("acme", std::move(config), handler_zip(), false);
    return made.ok() ? "accepted" : made.error().message;
  };
  using sandbox::Network;
  EXPECT_THAT(refusal(Network::egress, {}), HasSubstr("needs a list"));
  EXPECT_THAT(refusal(Network::none, {"api.example.com"}), HasSubstr("not the network \"egress\""));
  EXPECT_THAT(refusal(Network::egress, {"http://api.example.com"}), HasSubstr("http://api.example.com"));
  EXPECT_EQ(refusal(Network::egress, {"api.example.com:443", "*.example.org"}), "accepted");
  reopen();
  EXPECT_THAT(functions_->get("acme", "risk", "")->config.allow, ElementsAre("api.example.com:443", "*.example.org"));
}

TEST_F(FunctionsTest, ReservedConcurrencyGoesWithEveryVersion) {
  create("risk", true);
  ASSERT_TRUE(functions_->set_reserved_concurrency("acme", "risk", 3).ok());
  reopen();
  EXPECT_EQ(functions_->resolve("acme", "risk", "1", 0)->reserved_concurrency, 3);
  ASSERT_TRUE(functions_->set_reserved_concurrency("acme", "risk", std::nullopt).ok());
  EXPECT_EQ(functions_->resolve("acme", "risk", "", 0)->reserved_concurrency, std::nullopt);
  EXPECT_FALSE(functions_->set_reserved_concurrency("acme", "risk", -1).ok());
}

TEST_F(FunctionsTest, ProvisionedBelongsToAVersionByOneName) {
  create("risk", true);
  ASSERT_TRUE(functions_->create_alias("acme", "risk", {.name = "live", .version = "1"}).ok());
  EXPECT_EQ(functions_->set_provisioned("acme", "risk", "$LATEST", 1).error().code, Code::invalid_argument);
  EXPECT_EQ(functions_->set_provisioned("acme", "risk", "7", 1).error().code, Code::not_found);
  EXPECT_EQ(functions_->set_provisioned("acme", "risk", "live", 0).error().code, Code::invalid_argument);
  ASSERT_TRUE(functions_->set_provisioned("acme", "risk", "live", 3).ok());
  EXPECT_EQ(functions_->set_provisioned("acme", "risk", "1", 1).error().code, Code::conflict);
  ASSERT_TRUE(functions_->set_reserved_concurrency("acme", "risk", 3).ok());
  EXPECT_EQ(functions_->set_provisioned("acme", "risk", "live", 4).error().code, Code::invalid_argument);
  reopen();
  const auto kept = functions_->provisioned("", "");
  ASSERT_EQ(kept.size(), 1U);
  EXPECT_EQ(kept[0].qualifier, "live");
  EXPECT_EQ(kept[0].count, 3);
  EXPECT_EQ(kept[0].version->version, "1");
  ASSERT_TRUE(functions_->remove_alias("acme", "risk", "live").ok());
  EXPECT_TRUE(functions_->provisioned("acme", "risk").empty());
}

TEST_F(FunctionsTest, TellsWhoListensOfEveryChange) {
  create("risk");
  describe("risk", "b");
  ASSERT_TRUE(functions_->remove("acme", "risk", "").ok());
  EXPECT_THAT(changes_, ElementsAre("risk", "risk", "risk"));
}

TEST(FunctionNames, AllFormsOfLambda) {
  const auto parsed = [](const std::string& text) {
    const auto name = parse_function_name(text);
    return name.ok() ? name->name + "|" + name->qualifier : "refused";
  };
  EXPECT_EQ(parsed("risk"), "risk|");
  EXPECT_EQ(parsed("risk:live"), "risk|live");
  EXPECT_EQ(parsed("risk:$LATEST"), "risk|$LATEST");
  EXPECT_EQ(parsed("arn:aws:lambda:local:000000000000:function:risk"), "risk|");
  EXPECT_EQ(parsed("arn:aws:lambda:us-east-1:123456789012:function:risk:7"), "risk|7");
  EXPECT_EQ(parsed("000000000000:function:risk"), "risk|");
  EXPECT_EQ(parsed("function:risk"), "risk|");
  EXPECT_EQ(parsed(""), "refused");
  EXPECT_EQ(parsed("a/b"), "refused");
  EXPECT_EQ(parsed("../x"), "refused");
  EXPECT_EQ(parsed("risk:"), "refused");
  EXPECT_EQ(parsed("risk:a:b"), "refused");
  EXPECT_EQ(parsed(std::string(65, 'a')), "refused");
}

}  // namespace
}  // namespace sundog::functions
