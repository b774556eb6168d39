#include "functions/environments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <set>

#include "functions/environment_builder.h"
#include "functions/pip_settings.h"
#include "functions/requirements.h"
#include "store/sqlite_catalog.h"
#include "store/test_folder.h"

namespace sundog::functions {
namespace {

using store::On;
using store::TestFolder;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// Plays uv: notes its arguments; resolves each name to 1.0, and "alike" like "same"; fails for "bad", never ends for
// "slow"; `--target` gets one module a package.
constexpr std::string_view kFakeUv = R"(#!/bin/sh
folder=$(dirname "$0")
echo "$@" >> "$folder/calls"
for last; do :; done
case "$2" in
compile)
  while [ $# -gt 0 ]; do [ "$1" = --output-file ] && out=$2; shift; done
  if grep -q bad "$last"; then echo "no solution found: bad was not in https://me:secret@index/simple"; exit 1; fi
  if grep -q slow "$last"; then echo $$ > "$folder/pid"; sleep 600 & wait; fi
  sed -e 's/alike/same/' -e 's/$/==1.0/' "$last" > "$out"
  ;;
install)
  while [ $# -gt 0 ]; do [ "$1" = --target ] && target=$2; shift; done
  while read -r line; do echo "x = 1" > "$target/${line%%=*}.py"; done < "$last"
  umask 077; mkdir "$target/private"; echo secret > "$target/private/file"
  ;;
esac
)";

class EnvironmentsTest : public testing::Test {
 protected:
  EnvironmentsTest() {
    EXPECT_TRUE(write_file_durably(uv(), kFakeUv, 0755).ok());
    catalog_ = *store::open_sqlite_catalog(folder_.path() / "catalog.db");
    reopen();
  }

  Path uv() const { return folder_.path() / "uv"; }
  std::string calls() const {
    const auto text = read_file(folder_.path() / "calls");
    return text.ok() ? *text : "";
  }

  void reopen(Millis timeout = Millis{60'000}) {
    environments_.reset();
    environments_ = *open_environments(*catalog_, clock_, pool_,
                                       {.folder = folder_.path() / "environments",
                                        .uv = uv(),
                                        .pythons = {{"3.11", "/usr/bin/python3.11"}},
                                        .build_timeout = timeout});
    environments_->on_built([this](const Environment&) {
      const std::lock_guard lock(mutex_);
      ++built_;
      changed_.notify_all();
    });
  }

  Environment ensure(std::vector<std::string> packages) {
    auto made = environments_->ensure("3.11", std::move(packages));
    EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().text());
    return *made;
  }

  // Waits for the build to end.
  Environment ended(const std::string& id) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(30),
                                  [&] { return environments_->get(id)->state != Environment::State::building; }));
    return *environments_->get(id);
  }

  TestFolder folder_{On::memory};
  FakeClock clock_;
  Pool pool_{"build", {.threads = 3}};
  std::unique_ptr<store::Catalog> catalog_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int built_ = 0;
  std::unique_ptr<Environments> environments_;
};

TEST_F(EnvironmentsTest, BuildsOnceAndRemembers) {
  const Environment asked = ensure({"pandas", "numpy>=2", "pandas "});
  EXPECT_EQ(asked.state, Environment::State::building);
  EXPECT_THAT(asked.packages, ElementsAre("numpy>=2", "pandas"));
  const Environment ready = ended(asked.id);
  ASSERT_EQ(ready.state, Environment::State::ready) << ready.log;
  EXPECT_THAT(ready.resolved, Contains("pandas==1.0"));
  EXPECT_TRUE(std::filesystem::exists(ready.folder / "pandas.py"));
  EXPECT_FALSE(std::filesystem::is_empty(ready.folder / "__pycache__"));
  EXPECT_GT(ready.bytes, 0);
  const std::string before = calls();
  EXPECT_THAT(before, HasSubstr("--no-build"));
  EXPECT_THAT(before, HasSubstr("--link-mode copy"));
  EXPECT_EQ(ensure({"numpy>=2", "pandas"}).state, Environment::State::ready);
  reopen();
  EXPECT_EQ(ensure({"pandas", "numpy>=2"}).state, Environment::State::ready);
  EXPECT_EQ(environments_->get(asked.id)->folder, ready.folder);
  EXPECT_EQ(calls(), before);
}

TEST_F(EnvironmentsTest, WhatIsBuiltIsReadableByAll) {
  const Environment ready = ended(ensure({"pandas"}).id);
  struct stat info{};
  ASSERT_EQ(::stat((ready.folder / "private").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0755U);
  ASSERT_EQ(::stat((ready.folder / "private/file").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0644U);
}

TEST_F(EnvironmentsTest, WhatResolvesAlikeSharesAFolder) {
  const Environment first = ended(ensure({"same"}).id);
  const Environment second = ended(ensure({"alike"}).id);
  EXPECT_NE(first.id, second.id);
  EXPECT_EQ(first.content, second.content);
  EXPECT_EQ(first.folder, second.folder);
}

TEST_F(EnvironmentsTest, AFailedBuildTellsWhyAndIsTriedAgainWhenAsked) {
  const Environment failed = ended(ensure({"bad"}).id);
  EXPECT_EQ(failed.state, Environment::State::failed);
  EXPECT_THAT(failed.log, HasSubstr("no solution found"));
  EXPECT_THAT(failed.log, Not(HasSubstr("secret")));
  EXPECT_EQ(ensure({"bad"}).state, Environment::State::building);
  ended(failed.id);
}

TEST_F(EnvironmentsTest, NothingIsAtOnceReady) {
  const Environment ready = ensure({});
  EXPECT_EQ(ready.state, Environment::State::ready);
  EXPECT_TRUE(std::filesystem::is_empty(ready.folder));
  EXPECT_EQ(calls(), "");
}

TEST_F(EnvironmentsTest, ABuildThatTakesTooLongIsKilledWithAllItStarted) {
  reopen(Millis{300});
  const Environment failed = ended(ensure({"slow"}).id);
  EXPECT_EQ(failed.state, Environment::State::failed);
  EXPECT_THAT(failed.log, HasSubstr("did not end"));
  const int group = std::stoi(*read_file(folder_.path() / "pid"));
  // Killed children may be zombies of init for a moment: wait until the group is gone.
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (::kill(-group, 0) == 0 && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
  EXPECT_NE(::kill(-group, 0), 0);
}

TEST_F(EnvironmentsTest, ShuttingDownDoesNotWaitForABuild) {
  const Environment slow = ensure({"slow"});
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!std::filesystem::exists(folder_.path() / "pid") && std::chrono::steady_clock::now() < limit) {
    std::this_thread::yield();
  }
  environments_.reset();  // would take its 600 s otherwise
  EXPECT_LT(std::chrono::steady_clock::now(), limit);
  EXPECT_EQ(catalog_->get("environments/" + slow.id)->value["state"], "building");
}

TEST_F(EnvironmentsTest, AnInterruptedBuildGoesOnAtTheNextStart) {
  const Environment ready = ended(ensure({"pandas"}).id);
  auto record = *catalog_->get("environments/" + ready.id);
  record.value["state"] = "building";
  ASSERT_TRUE(catalog_->put(record.key, record.value).ok());
  ASSERT_TRUE(remove_tree(ready.folder).ok());
  ASSERT_TRUE(make_directories(folder_.path() / "environments/.new-left").ok());
  reopen();
  EXPECT_EQ(ended(ready.id).state, Environment::State::ready);
  EXPECT_TRUE(std::filesystem::exists(ready.folder / "pandas.py"));
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "environments/.new-left"));
}

TEST_F(EnvironmentsTest, ManyAtOnce) {
  std::vector<std::string> ids;
  for (int i = 0; i < 6; ++i) ids.push_back(ensure({"p" + std::to_string(i)}).id);
  for (const auto& id : ids) EXPECT_EQ(ended(id).state, Environment::State::ready);
  EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), 6U);
}

TEST_F(EnvironmentsTest, RefusesWhatIsNoRequirement) {
  for (const std::string bad :
       {"-r /etc/passwd", "--index-url=https://evil", "https://evil/x.whl", "x @ file:///etc", "git+https://x/y", "./x",
        "../x", "/etc/passwd", "x.whl", "", "  ", "a\nb", "a;b$(c)", "pkg==1\\2"}) {
    const auto refused = environments_->ensure("3.11", {bad});
    ASSERT_FALSE(refused.ok()) << bad;
    EXPECT_EQ(refused.error().code, Code::invalid_argument) << bad;
  }
  EXPECT_FALSE(environments_->ensure("2.7", {"numpy"}).ok());
  EXPECT_TRUE(checked_requirements({"uvicorn[standard]>=0.2,<1; python_version >= '3.8'"}).ok());
  EXPECT_EQ(calls(), "");
}

TEST(PipSettings, UvLooksWherePipDoes) {
  const std::string file =
      "[global]\nindex-url = https://index/simple\nfind-links =\n  /a\n  /b\n# no\n"
      "cert=/etc/ca.pem\n[freeze]\nindex-url = https://wrong\n";
  const auto variables = uv_variables({{"HOME", "/root"}}, {file});
  EXPECT_EQ(variables.at("UV_DEFAULT_INDEX"), "https://index/simple");
  EXPECT_EQ(variables.at("UV_FIND_LINKS"), "/a,/b");
  EXPECT_EQ(variables.at("SSL_CERT_FILE"), "/etc/ca.pem");
  EXPECT_EQ(variables.at("HOME"), "/root");
  const auto overridden = uv_variables({{"PIP_INDEX_URL", "https://mine"}, {"SSL_CERT_FILE", "/own"}}, {file});
  EXPECT_EQ(overridden.at("UV_DEFAULT_INDEX"), "https://mine");
  EXPECT_EQ(overridden.at("SSL_CERT_FILE"), "/own");
  EXPECT_FALSE(uv_variables({{"UV_INDEX_URL", "https://uv"}}, {file}).contains("UV_DEFAULT_INDEX"));
}

TEST(PipSettings, CredentialsStayOutOfLogs) {
  EXPECT_EQ(without_credentials("get https://me:pw@host/a?x=a@b and http://host"),
            "get https://***@host/a?x=a@b and http://host");
}

}  // namespace
}  // namespace sundog::functions
