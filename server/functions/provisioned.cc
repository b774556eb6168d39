// Of StoredFunctions: provisioned concurrency.
#include <algorithm>

#include "base/kill_point.h"
#include "functions/naming.h"
#include "functions/stored_functions.h"

namespace sundog::functions {
namespace {

// The published version that a qualifier names; null if there is none.
VersionPtr version_of(const FunctionState& state, const std::string& qualifier) {
  const auto alias = state.aliases.find(qualifier);
  const auto number = version_number(alias == state.aliases.end() ? qualifier : alias->second.version);
  const auto published = number ? state.versions.find(*number) : state.versions.end();
  return published == state.versions.end() ? nullptr : published->second.version;
}

Status check(const FunctionState& state, const std::string& name, const std::string& qualifier, int count) {
  if (count < 1) {
    return fail(Code::invalid_argument,
                "ProvisionedConcurrentExecutions is " + std::to_string(count) + ", but must be at least 1.");
  }
  const VersionPtr version = version_of(state, qualifier);
  if (!version) return fail(Code::not_found, "Function not found: " + function_arn(name, qualifier));
  int64_t all = count;
  for (const auto& [other, one] : state.provisioned) {
    if (other == qualifier) continue;
    if (version_of(state, other) == version) {
      return fail(Code::conflict, "Version " + version->version + " has provisioned concurrency as \"" + other + "\".",
                  "Delete that first.");
    }
    all += one.count;
  }
  if (state.reserved_concurrency && all > *state.reserved_concurrency) {
    return fail(Code::invalid_argument,
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for "
                "function, which is " +
                    std::to_string(*state.reserved_concurrency) + ".");
  }
  return done;
}

}  // namespace

Status StoredFunctions::set_provisioned(const std::string& tenant, const std::string& name,
                                        const std::string& qualifier, std::optional<int> count) {
  if (qualifier.empty() || qualifier == kLatest) {
    return fail(Code::invalid_argument,
                "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
                "Give a version's number or an alias as Qualifier.");
  }
  SUNDOG_CHECK(change(tenant, name, [&](FunctionState& state, std::vector<store::Write>&) -> Status {
    if (!count) {
      state.provisioned.erase(qualifier);
      return done;
    }
    SUNDOG_CHECK(check(state, name, qualifier, *count));
    state.provisioned[qualifier] = {*count, clock_.wall()};
    return done;
  }));
  kill_point("functions.provisioned");
  changed(tenant, name);
  return done;
}

std::vector<Provisioned> StoredFunctions::provisioned(const std::string& tenant, const std::string& name) const {
  const auto now = snapshot();
  std::vector<Provisioned> all;
  const auto add = [&](const FunctionState& state) {
    for (const auto& [qualifier, one] : state.provisioned) {
      auto version = version_of(state, qualifier);
      if (version) all.push_back({qualifier, one.count, one.last_modified, std::move(version)});
    }
  };
  if (name.empty()) {
    for (const auto& [key, state] : now->functions) add(*state);
  } else if (const auto found = now->functions.find({tenant, name}); found != now->functions.end()) {
    add(*found->second);
  }
  return all;
}

}  // namespace sundog::functions
