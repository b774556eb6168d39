// The catalog contract over every back end, and what is particular to the SQLite one: its file.
#include <sqlite3.h>

#include <fstream>

#include "store/catalog_contract.h"
#include "store/sqlite_catalog.h"
#include "store/sqlite_queue.h"

namespace sundog::store {
namespace {

class SqliteCatalogHome final : public CatalogHome {
 public:
  Result<std::unique_ptr<Catalog>> open() override { return open_sqlite_catalog(folder_.path() / "catalog.db"); }

 private:
  TestFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(Sqlite, CatalogContract,
                         testing::Values(CatalogBackEnd{"sqlite",
                                                        [] { return std::make_unique<SqliteCatalogHome>(); }}),
                         [](const auto& info) { return info.param.name; });

void run_sql(const Path& file, const char* sql) {
  sqlite3* connection = nullptr;
  ASSERT_EQ(sqlite3_open(file.c_str(), &connection), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(connection, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(connection);
  sqlite3_close(connection);
}

TEST(SqliteCatalogFile, RefusesWhatIsNotADatabaseAndLeavesItAlone) {
  const TestFolder folder;
  const Path file = folder.path() / "catalog.db";
  const std::string text(5000, 'x');
  std::ofstream(file) << text;
  const auto opened = open_sqlite_catalog(file);
  EXPECT_CODE(opened, Code::data_loss);
  EXPECT_NE(opened.error().message.find("no SQLite database"), std::string::npos) << opened.error().message;
  EXPECT_EQ(*read_file(file), text);
}

TEST(SqliteCatalogFile, RefusesADatabaseOfSomethingElse) {
  const TestFolder folder;
  const Path file = folder.path() / "catalog.db";
  run_sql(file, "CREATE TABLE songs(title TEXT)");
  EXPECT_CODE(open_sqlite_catalog(file), Code::unsupported);
  SystemClock clock;
  EXPECT_OK(open_sqlite_queue(folder.path() / "queue.db", clock));
  EXPECT_CODE(open_sqlite_catalog(folder.path() / "queue.db"), Code::unsupported);
}

TEST(SqliteCatalogFile, RefusesANewerSchemaWithAClearSentence) {
  const TestFolder folder;
  const Path file = folder.path() / "catalog.db";
  EXPECT_OK(open_sqlite_catalog(file));
  run_sql(file, "PRAGMA user_version=99");
  const auto opened = open_sqlite_catalog(file);
  EXPECT_CODE(opened, Code::unsupported);
  EXPECT_NE(opened.error().message.find("newer Sundog (schema 99; this one knows up to 1)"), std::string::npos)
      << opened.error().message;
  EXPECT_FALSE(opened.error().hint.empty());
}

TEST(SqliteCatalogFile, SaysWhenTheFolderCannotBeMade) {
  const TestFolder folder;
  std::ofstream(folder.path() / "file") << "x";
  EXPECT_FALSE(open_sqlite_catalog(folder.path() / "file" / "catalog.db").ok());
}

TEST(SqliteCatalogFile, AnotherProcessThatHoldsTheFileIsUnavailable) {
  const TestFolder folder;
  const Path file = folder.path() / "catalog.db";
  SUNDOG_VALUE(catalog, open_sqlite_catalog(file, {.busy_timeout = Millis{50}}));
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open(file.c_str(), &other), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
  EXPECT_CODE(catalog->put("k", 1), Code::unavailable);
  sqlite3_close(other);
  EXPECT_OK(catalog->put("k", 1));
}

// Steps of a made-up schema, to see the mechanism that every later schema version relies on.
Schema versions(size_t count) {
  const std::vector<std::string> steps{"CREATE TABLE t(a INTEGER); INSERT INTO t VALUES(1)",
                                       "ALTER TABLE t ADD COLUMN b INTEGER NOT NULL DEFAULT 5", "UPDATE t SET b=b+a"};
  return {"numbers", 77, {steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(count)}};
}

TEST(Migration, BringsAnOlderFileForwardStepByStep) {
  const TestFolder folder;
  const Path file = folder.path() / "numbers.db";
  EXPECT_OK(Database::open(file, versions(1), {}));
  SUNDOG_VALUE(database, Database::open(file, versions(3), {}));
  auto query = database->query("SELECT a, b, (SELECT user_version FROM pragma_user_version) FROM t");
  SUNDOG_VALUE(found, query.row());
  ASSERT_TRUE(found);
  EXPECT_EQ(query.integer(0), 1);
  EXPECT_EQ(query.integer(1), 6);
  EXPECT_EQ(query.integer(2), 3);
}

TEST(Migration, AStepThatFailsLeavesTheFileAtTheVersionBefore) {
  const TestFolder folder;
  const Path file = folder.path() / "numbers.db";
  EXPECT_OK(Database::open(file, versions(1), {}));
  Schema broken = versions(2);
  broken.steps.emplace_back("UPDATE t SET b=7; UPDATE nowhere SET b=1");
  EXPECT_FALSE(Database::open(file, broken, {}).ok());
  SUNDOG_VALUE(database, Database::open(file, versions(2), {}));
  auto query = database->query("SELECT b, (SELECT user_version FROM pragma_user_version) FROM t");
  SUNDOG_VALUE(found, query.row());
  ASSERT_TRUE(found);
  EXPECT_EQ(query.integer(0), 5);
  EXPECT_EQ(query.integer(1), 2);
}

}  // namespace
}  // namespace sundog::store
