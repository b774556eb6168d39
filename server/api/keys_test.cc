#include "api/keys.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/ids.h"
#include "store/sqlite_catalog.h"

namespace sundog::api {
namespace {

using namespace std::chrono_literals;

class KeysTest : public testing::Test {
 protected:
  KeysTest() : folder_(std::filesystem::temp_directory_path() / short_id("keys-test")) {
    EXPECT_TRUE(make_directories(folder_).ok());
    reopen();
  }
  ~KeysTest() override {
    keys_.reset();
    catalog_.reset();
    EXPECT_TRUE(remove_tree(folder_).ok());
  }
  // As a restart does.
  void reopen() {
    keys_.reset();
    catalog_.reset();
    auto catalog = store::open_sqlite_catalog(folder_ / "catalog.db");
    ASSERT_TRUE(catalog.ok()) << catalog.error().text();
    catalog_ = std::move(*catalog);
    auto keys = Keys::open(*catalog_, clock_, folder_);
    ASSERT_TRUE(keys.ok()) << keys.error().text();
    keys_ = std::move(*keys);
  }
  unsigned mode_of(const char* file) const {
    struct stat info{};
    EXPECT_EQ(::stat((folder_ / file).c_str(), &info), 0);
    return info.st_mode & 0777;
  }

  Path folder_;
  FakeClock clock_;
  std::unique_ptr<store::Catalog> catalog_;
  std::unique_ptr<Keys> keys_;
};

TEST_F(KeysTest, MakesKeysThatProveTenantAndRoleAfterARestartToo) {
  const auto made = keys_->create("acme", "laptop", Role::deployer);
  ASSERT_TRUE(made.ok()) << made.error().text();
  EXPECT_TRUE(made->key.id.starts_with("AKSD"));
  EXPECT_EQ(made->key.id.size(), 20U);
  EXPECT_TRUE(made->token.starts_with("sk-"));
  for (int restart = 0; restart < 2; ++restart) {
    const auto principal = keys_->by_token(made->token);
    ASSERT_TRUE(principal);
    EXPECT_EQ(principal->tenant, "acme");
    EXPECT_EQ(principal->role, Role::deployer);
    const auto signer = keys_->by_id(made->key.id);
    ASSERT_TRUE(signer);
    EXPECT_EQ(signer->secret, made->secret);
    EXPECT_FALSE(keys_->by_token(made->token + "x"));
    EXPECT_FALSE(keys_->by_token("sk-"));
    EXPECT_FALSE(keys_->by_id("AKSDNOTTHERE"));
    reopen();
  }
}

TEST_F(KeysTest, StoresNeitherTokenNorSecret) {
  const auto made = keys_->create("acme", "laptop", Role::viewer);
  ASSERT_TRUE(made.ok());
  const auto records = catalog_->scan("keys/");
  ASSERT_TRUE(records.ok());
  ASSERT_EQ(records->size(), 1U);
  const auto text = dump(records->front().value);
  EXPECT_EQ(text.find(made->token), std::string::npos);
  EXPECT_EQ(text.find(made->token.substr(3)), std::string::npos);
  EXPECT_EQ(text.find(made->secret), std::string::npos);
}

TEST_F(KeysTest, ARevokedKeyProvesNothingAndIsStillListed) {
  const auto made = keys_->create("acme", "laptop", Role::viewer);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(keys_->revoke("other", made->key.id).error().code, Code::not_found);
  ASSERT_TRUE(keys_->revoke("acme", made->key.id).ok());
  ASSERT_TRUE(keys_->revoke("acme", made->key.id).ok());  // again is no error
  for (int restart = 0; restart < 2; ++restart) {
    EXPECT_FALSE(keys_->by_token(made->token));
    EXPECT_FALSE(keys_->by_id(made->key.id));
    ASSERT_EQ(keys_->list("acme").size(), 1U);
    EXPECT_TRUE(keys_->list("acme").front().revoked);
    EXPECT_TRUE(keys_->list("other").empty());
    reopen();
  }
}

TEST_F(KeysTest, AreListedPageByPage) {
  std::vector<std::string> expected;
  for (int i = 0; i < 5; ++i) {
    expected.push_back(keys_->create("acme", "", Role::viewer)->key.id);
    clock_.advance(Millis{10});
  }
  ASSERT_TRUE(keys_->create("other", "", Role::viewer).ok());
  std::vector<std::string> listed;
  std::string after;
  do {
    const auto page = keys_->page("acme", after, 2);
    ASSERT_TRUE(page.ok());
    EXPECT_LE(page->items.size(), 2U);
    for (const auto& key : page->items) listed.push_back(key.id);
    after = page->next;
  } while (!after.empty());
  EXPECT_EQ(listed, expected);
  EXPECT_EQ(keys_->page("acme", "", 5)->next, "");
  EXPECT_TRUE(keys_->page("nobody", "", 2)->items.empty());
  EXPECT_EQ(keys_->page("", "", 10)->items.size(), 6U);
  EXPECT_EQ(keys_->page("acme", "AKSDNOTTHERE", 2).error().code, Code::invalid_argument);
  EXPECT_EQ(keys_->page("other", expected.front(), 2).error().code, Code::invalid_argument);
}

TEST_F(KeysTest, TheLastAdminKeyStays) {
  const auto first = keys_->create("acme", "one", Role::admin);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(keys_->revoke("acme", first->key.id).error().code, Code::conflict);
  ASSERT_TRUE(keys_->create("acme", "two", Role::admin).ok());
  EXPECT_TRUE(keys_->revoke("acme", first->key.id).ok());
}

TEST_F(KeysTest, RefusesNamesThatAreNone) {
  for (const auto* tenant : {"", "a/b", "..", "a b", "-x"}) {
    EXPECT_FALSE(keys_->create(tenant, "", Role::viewer).ok()) << tenant;
  }
  EXPECT_FALSE(keys_->create("acme", std::string(257, 'x'), Role::viewer).ok());
}

TEST_F(KeysTest, WritesTheLastUseOnceAMinute) {
  const auto made = keys_->create("acme", "laptop", Role::viewer);
  ASSERT_TRUE(made.ok());
  EXPECT_FALSE(keys_->list("acme").front().last_used);
  EXPECT_TRUE(keys_->used(made->key.id));
  ASSERT_TRUE(keys_->write_last_used().ok());
  clock_.advance(30s);
  EXPECT_FALSE(keys_->used(made->key.id));
  const auto used = clock_.wall();
  clock_.advance(30s);
  EXPECT_EQ(keys_->list("acme").front().last_used, used);
  reopen();  // the second use was not written
  EXPECT_EQ(keys_->list("acme").front().last_used, used - 30s);
  EXPECT_TRUE(keys_->used(made->key.id));
  ASSERT_TRUE(keys_->write_last_used().ok());
  reopen();
  EXPECT_EQ(keys_->list("acme").front().last_used, clock_.wall());
  EXPECT_TRUE(keys_->by_token(made->token));
}

TEST_F(KeysTest, MakesAFirstKeyOnceAndKeepsItsUrl) {
  const auto first = keys_->ensure_first_key("http://127.0.0.1:9000");
  ASSERT_TRUE(first.ok()) << first.error().text();
  EXPECT_EQ(mode_of("client.json"), 0600U);
  const auto principal = keys_->by_token(first->at("token").get<std::string>());
  ASSERT_TRUE(principal);
  EXPECT_EQ(principal->tenant, "default");
  EXPECT_EQ(principal->role, Role::admin);
  reopen();
  const auto again = keys_->ensure_first_key("http://127.0.0.1:9001");
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->at("token"), first->at("token"));
  EXPECT_EQ(again->at("url"), "http://127.0.0.1:9001");
  EXPECT_EQ(Json::parse(*read_file(folder_ / "client.json"))["url"], "http://127.0.0.1:9001");
  EXPECT_EQ(keys_->list("").size(), 1U);
  std::filesystem::remove(folder_ / "client.json");
  EXPECT_TRUE(keys_->ensure_first_key("http://127.0.0.1:9001")->is_null());
}

TEST_F(KeysTest, GuardsItsKeyFile) {
  EXPECT_EQ(mode_of("secret.key"), 0600U);
  ASSERT_TRUE(keys_->create("acme", "", Role::viewer).ok());
  const auto file = folder_ / "secret.key";
  ::chmod(file.c_str(), 0640);
  const auto readable = Keys::open(*catalog_, clock_, folder_);
  ASSERT_FALSE(readable.ok());
  EXPECT_EQ(readable.error().code, Code::permission_denied);
  ASSERT_TRUE(write_file_durably(file, std::string(32, 'x'), 0600).ok());
  EXPECT_EQ(Keys::open(*catalog_, clock_, folder_).error().code, Code::data_loss);
  std::filesystem::remove(file);
  EXPECT_EQ(Keys::open(*catalog_, clock_, folder_).error().code, Code::data_loss);
  ASSERT_TRUE(write_file_durably(file, "short", 0600).ok());
  EXPECT_EQ(Keys::open(*catalog_, clock_, folder_).error().code, Code::data_loss);
}

TEST_F(KeysTest, FollowsChangesMadeElsewhere) {
  const auto made = keys_->create("acme", "laptop", Role::viewer);
  ASSERT_TRUE(made.ok());
  auto other = Keys::open(*catalog_, clock_, folder_);
  ASSERT_TRUE(other.ok());
  ASSERT_TRUE((*other)->revoke("acme", made->key.id).ok());
  const auto give_up = std::chrono::steady_clock::now() + 10s;
  while (keys_->by_token(made->token) && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
  EXPECT_FALSE(keys_->by_token(made->token));
}

}  // namespace
}  // namespace sundog::api
