// Database, Query: SQLite as the embedded stores use it. Internal to store/: callers see Catalog and Queue.
//
// Ownership   each back end owns its connections; a Query borrows one of its Database's cached statements.
// Threads     a Database and its queries belong to one thread at a time (the back end's mutex or its writer thread).
// Durability  WAL with synchronous=FULL: COMMIT returned ok  =>  it survives kill -9 and power loss.
// Failure     unavailable (disk full, I/O error, file locked by another process) · data_loss (not a database,
// malformed) ·
//             unsupported (written by a newer Sundog, or by something else)
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace sundog::store {

// What a file holds. steps[i] brings version i to i + 1; the last version is steps.size().
struct Schema {
  std::string holds;  // "a catalog", for error messages
  int application_id = 0;
  std::vector<std::string> steps;
};

struct SqliteOptions {
  Millis busy_timeout{5000};
  std::string vfs;  // SQLite's name of a file layer; empty is the system's. Tests put one in between that fails.
};

class Query;

class Database {
 public:
  // Opens or creates `file`, and migrates an older schema step by step.
  static Result<std::unique_ptr<Database>> open(const Path& file, const Schema& schema, const SqliteOptions& options);
  // A second connection, for reading only, to a file that open() has prepared.
  static Result<std::unique_ptr<Database>> open_reader(const Path& file, const SqliteOptions& options);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // `sql` must be a literal: the prepared statement is kept under it. One use of each statement at a time.
  Query query(std::string_view sql);
  Status run(const char* sql);
  // Leaves the database without a transaction, whatever happened before.
  void rollback();
  int64_t changes() const;
  Error error(int rc) const;

 private:
  friend class Query;
  explicit Database(Path file) : file_(std::move(file)) {}
  Status connect(int flags, const SqliteOptions& options);
  Status prepare_file(const Schema& schema);
  Status migrate(const Schema& schema);
  Result<int64_t> pragma(const char* sql);

  Path file_;
  sqlite3* connection_ = nullptr;
  std::unordered_map<std::string_view, sqlite3_stmt*> statements_;
};

// One use of a statement: bind in order, then row() until false, or run(). Bound text is not copied: it must outlive
// the Query. The destructor gives the statement back.
class Query {
 public:
  ~Query();
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  Query& bind(int64_t value);
  Query& bind(std::string_view text);
  Query& bind_blob(std::string_view bytes);

  Result<bool> row();
  Status run();

  int64_t integer(int column) const;
  std::string text(int column) const;

 private:
  friend class Database;
  Query(Database& database, sqlite3_stmt* statement, int rc) : database_(database), statement_(statement), rc_(rc) {}

  Database& database_;
  sqlite3_stmt* statement_;
  int rc_;  // the first failure while preparing or binding; reported by row()
  int bound_ = 0;
};

}  // namespace sundog::store
