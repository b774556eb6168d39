#include "store/sqlite.h"

#include <sqlite3.h>

namespace sundog::store {
namespace {

Code code_of(int rc) {
  switch (rc & 0xff) {
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_CANTOPEN:
    case SQLITE_NOMEM:
    case SQLITE_PROTOCOL:
    case SQLITE_NOLFS:
    case SQLITE_READONLY:
      return Code::unavailable;
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return Code::permission_denied;
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return Code::data_loss;
    case SQLITE_TOOBIG:
      return Code::too_large;
    default:
      return Code::internal;
  }
}

std::string hint_of(int rc) {
  switch (rc & 0xff) {
    case SQLITE_FULL:
      return "Free some space under the data directory; the server goes on by itself.";
    case SQLITE_IOERR:
      return "Check the disk of the data directory (dmesg, free space) and try again.";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return "Is another process using this data directory? Stop it and try again.";
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
      return "Check that the server may write to the data directory.";
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return "Restore this file from a backup, or start with another --data directory.";
    default:
      return {};
  }
}

}  // namespace

Error Database::error(int rc) const {
  std::string why = sqlite3_errstr(rc);
  if (connection_ != nullptr && (sqlite3_errcode(connection_) & 0xff) == (rc & 0xff)) why = sqlite3_errmsg(connection_);
  if ((rc & 0xff) == SQLITE_NOTADB) {
    return fail(Code::data_loss, file_.string() + " is not a file of Sundog's: it is no SQLite database.", hint_of(rc));
  }
  return fail(code_of(rc), "Cannot use " + file_.string() + ": " + why + ".", hint_of(rc));
}

Result<std::unique_ptr<Database>> Database::open(const Path& file, const Schema& schema, const SqliteOptions& options) {
  SUNDOG_CHECK(make_directories(file.parent_path()));
  std::unique_ptr<Database> database(new Database(file));
  SUNDOG_CHECK(database->connect(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, options));
  SUNDOG_CHECK(database->prepare_file(schema));
  SUNDOG_CHECK(fsync_directory(file.parent_path()));
  return database;
}

Result<std::unique_ptr<Database>> Database::open_reader(const Path& file, const SqliteOptions& options) {
  std::unique_ptr<Database> database(new Database(file));
  // Read-write because a reader of a WAL file takes part in its shared memory; query_only keeps it from writing.
  SUNDOG_CHECK(database->connect(SQLITE_OPEN_READWRITE, options));
  SUNDOG_CHECK(database->run("PRAGMA query_only=ON"));
  return database;
}

Status Database::connect(int flags, const SqliteOptions& options) {
  const char* vfs = options.vfs.empty() ? nullptr : options.vfs.c_str();
  const int rc = sqlite3_open_v2(file_.c_str(), &connection_, flags | SQLITE_OPEN_NOMUTEX, vfs);
  if (rc != SQLITE_OK) return error(rc);
  sqlite3_extended_result_codes(connection_, 1);
  sqlite3_busy_timeout(connection_, static_cast<int>(options.busy_timeout.count()));
  return done;
}

// The checks come before the first write, so that a file of someone else's stays as it is.
Status Database::prepare_file(const Schema& schema) {
  SUNDOG_TRY(version, pragma("PRAGMA user_version"));
  SUNDOG_TRY(application, pragma("PRAGMA application_id"));
  SUNDOG_TRY(tables, pragma("SELECT count(*) FROM sqlite_schema"));
  const bool fresh = version == 0 && application == 0 && tables == 0;
  if (!fresh && application != schema.application_id) {
    return fail(Code::unsupported, file_.string() + " is a SQLite database, but does not hold " + schema.holds + ".",
                "Start with another --data directory, or move this file away.");
  }
  const auto known = static_cast<int64_t>(schema.steps.size());
  if (version > known) {
    return fail(Code::unsupported,
                file_.string() + " was written by a newer Sundog (schema " + std::to_string(version) +
                    "; this one knows up to " + std::to_string(known) + ").",
                "Start the newer version again, or restore a backup from before the upgrade.");
  }
  SUNDOG_CHECK(run("PRAGMA journal_mode=WAL"));
  SUNDOG_CHECK(run("PRAGMA synchronous=FULL"));
  SUNDOG_CHECK(run("PRAGMA journal_size_limit=67108864"));
  SUNDOG_CHECK(run("PRAGMA temp_store=MEMORY"));
  return migrate(schema);
}

Status Database::migrate(const Schema& schema) {
  while (true) {
    SUNDOG_CHECK(run("BEGIN IMMEDIATE"));
    const auto version = pragma("PRAGMA user_version");
    if (!version.ok() || *version >= static_cast<int64_t>(schema.steps.size())) {
      rollback();
      return version.ok() ? Status(done) : Status(version.error());
    }
    const std::string step = schema.steps[static_cast<size_t>(*version)] +
                             ";PRAGMA application_id=" + std::to_string(schema.application_id) +
                             ";PRAGMA user_version=" + std::to_string(*version + 1) + ";COMMIT";
    const auto stepped = run(step.c_str());
    if (!stepped.ok()) {
      rollback();
      return stepped;
    }
  }
}

Result<int64_t> Database::pragma(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  int rc = sqlite3_prepare_v2(connection_, sql, -1, &statement, nullptr);
  if (rc == SQLITE_OK) rc = sqlite3_step(statement);
  const int64_t value = rc == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
  Result<int64_t> result = value;
  if (rc != SQLITE_ROW) result = error(rc);
  sqlite3_finalize(statement);
  return result;
}

Database::~Database() {
  for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close_v2(connection_);
}

Status Database::run(const char* sql) {
  const int rc = sqlite3_exec(connection_, sql, nullptr, nullptr, nullptr);
  if (rc != SQLITE_OK) return error(rc);
  return done;
}

void Database::rollback() {
  // SQLite rolls back by itself after some failures (a full disk); a second ROLLBACK would only complain.
  if (sqlite3_get_autocommit(connection_) == 0) sqlite3_exec(connection_, "ROLLBACK", nullptr, nullptr, nullptr);
}

int64_t Database::changes() const {
  return sqlite3_changes64(connection_);
}

Query Database::query(std::string_view sql) {
  const auto cached = statements_.find(sql);
  if (cached != statements_.end()) {
    assert(sqlite3_stmt_busy(cached->second) == 0);
    return {*this, cached->second, SQLITE_OK};
  }
  sqlite3_stmt* statement = nullptr;
  const int rc = sqlite3_prepare_v3(connection_, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                                    &statement, nullptr);
  if (rc == SQLITE_OK) statements_.emplace(sql, statement);
  return {*this, statement, rc};
}

Query::~Query() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

Query& Query::bind(int64_t value) {
  if (rc_ == SQLITE_OK) rc_ = sqlite3_bind_int64(statement_, ++bound_, value);
  return *this;
}

Query& Query::bind(std::string_view text) {
  const char* data = text.empty() ? "" : text.data();  // a null pointer would bind NULL
  if (rc_ == SQLITE_OK) {
    rc_ = sqlite3_bind_text64(statement_, ++bound_, data, text.size(), SQLITE_STATIC, SQLITE_UTF8);
  }
  return *this;
}

Query& Query::bind_blob(std::string_view bytes) {
  const char* data = bytes.empty() ? "" : bytes.data();
  if (rc_ == SQLITE_OK) rc_ = sqlite3_bind_blob64(statement_, ++bound_, data, bytes.size(), SQLITE_STATIC);
  return *this;
}

Result<bool> Query::row() {
  if (rc_ != SQLITE_OK) return database_.error(rc_);
  const int rc = sqlite3_step(statement_);
  if (rc == SQLITE_ROW) return true;
  if (rc == SQLITE_DONE) return false;
  return database_.error(rc);
}

Status Query::run() {
  while (true) {
    SUNDOG_TRY(more, row());
    if (!more) return done;
  }
}

int64_t Query::integer(int column) const {
  return sqlite3_column_int64(statement_, column);
}

std::string Query::text(int column) const {
  const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_, column));
  const auto size = static_cast<size_t>(sqlite3_column_bytes(statement_, column));
  return data == nullptr ? std::string() : std::string(data, size);
}

}  // namespace sundog::store
