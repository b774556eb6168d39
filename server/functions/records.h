// Records: how functions, versions and aliases are kept in the Catalog (docs/formats/functions.md). Pure; any thread.
//
// Failure     data_loss when a record does not hold what it must; the message names the record.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "functions/function.h"
#include "store/catalog.h"

namespace sundog::functions {

struct Published {
  VersionPtr version;
  std::string digest;  // of the code and settings it was published from, to see that nothing changed since
};

// Everything about one function at one moment. Immutable once it is in a snapshot.
struct FunctionState {
  store::Revision revision = store::kAbsent;  // of its own record: every change of anything below goes through it
  VersionPtr latest;
  VersionPtr previous;  // what $LATEST still runs while its update is in progress or failed; else null
  int64_t next_version = 1;
  std::optional<int> reserved_concurrency;
  struct ProvisionedCount {
    int count = 0;
    WallTime last_modified{};
  };
  std::map<std::string, ProvisionedCount> provisioned;  // by qualifier: a version's number or an alias
  std::map<int64_t, Published> versions;
  std::map<std::string, Alias> aliases;
};
using FunctionStatePtr = std::shared_ptr<const FunctionState>;

inline constexpr std::string_view kFunctionsPrefix = "functions/";
std::string function_key(const std::string& tenant, const std::string& name);
std::string version_key(const std::string& tenant, const std::string& name, int64_t number);
std::string alias_key(const std::string& tenant, const std::string& name, const std::string& alias);
// Remembers the next version's number when a function is deleted: numbers are never used again.
std::string numbers_key(const std::string& tenant, const std::string& name);

Json version_json(const Version& version);
Result<Version> version_from(const Json& json, const Path& code_folder);
Json alias_json(const Alias& alias);
Result<Alias> alias_from(const Json& json);
Json function_json(const FunctionState& state);  // its own record: without versions and aliases

// Reads all records of one function; not_found if there is none.
Result<FunctionState> load_function(const store::Catalog& catalog, const std::string& tenant, const std::string& name,
                                    const Path& code_folder);

// Equal for equal code and settings, whatever the tags and revision.
std::string content_digest(const Version& version);

}  // namespace sundog::functions
