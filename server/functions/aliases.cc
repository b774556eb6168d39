// Of StoredFunctions: aliases.
#include "base/ids.h"
#include "base/kill_point.h"
#include "functions/naming.h"
#include "functions/stored_functions.h"
#include "functions/validation.h"

namespace sundog::functions {
namespace {

Error no_alias(const std::string& function, const std::string& alias) {
  return fail(Code::not_found, "Cannot find alias arn: " + function_arn(function, alias),
              "ListAliases shows those that exist.");
}

Status check_for(const Alias& alias, const FunctionState& state) {
  return check_alias(alias, [&](const std::string& version) {
    if (version == kLatest) return true;
    const auto number = version_number(version);
    return number && state.versions.contains(*number);
  });
}

}  // namespace

Result<Alias> StoredFunctions::create_alias(const std::string& tenant, const std::string& function, Alias alias) {
  alias.revision_id = uuid4();
  SUNDOG_CHECK(change(tenant, function, [&](FunctionState& state, std::vector<store::Write>& writes) -> Status {
    if (state.aliases.contains(alias.name)) {
      return fail(Code::conflict, "Alias already exists: " + function_arn(function, alias.name), "Use UpdateAlias.");
    }
    SUNDOG_CHECK(check_for(alias, state));
    state.aliases[alias.name] = alias;
    writes.push_back({alias_key(tenant, function, alias.name), alias_json(alias), store::kAbsent});
    return done;
  }));
  kill_point("functions.alias_created");
  changed(tenant, function);
  return alias;
}

Result<Alias> StoredFunctions::update_alias(const std::string& tenant, const std::string& function, const Alias& alias,
                                            const std::string& revision_id) {
  Alias next = alias;
  next.revision_id = uuid4();
  SUNDOG_CHECK(change(tenant, function, [&](FunctionState& state, std::vector<store::Write>& writes) -> Status {
    const auto found = state.aliases.find(alias.name);
    if (found == state.aliases.end()) return no_alias(function, alias.name);
    if (!revision_id.empty() && found->second.revision_id != revision_id) return stale_revision();
    SUNDOG_CHECK(check_for(next, state));
    found->second = next;
    writes.push_back({alias_key(tenant, function, alias.name), alias_json(next), store::kAnyRevision});
    return done;
  }));
  changed(tenant, function);
  return next;
}

Result<Alias> StoredFunctions::get_alias(const std::string& tenant, const std::string& function,
                                         const std::string& alias) const {
  SUNDOG_TRY(state, find(tenant, function));
  const auto found = state->aliases.find(alias);
  if (found == state->aliases.end()) return no_alias(function, alias);
  return found->second;
}

Status StoredFunctions::remove_alias(const std::string& tenant, const std::string& function, const std::string& alias) {
  SUNDOG_CHECK(change(tenant, function, [&](FunctionState& state, std::vector<store::Write>& writes) -> Status {
    if (state.aliases.erase(alias) == 0) return no_alias(function, alias);
    state.provisioned.erase(alias);
    writes.push_back({alias_key(tenant, function, alias), std::nullopt, store::kAnyRevision});
    return done;
  }));
  changed(tenant, function);
  return done;
}

Result<Page<Alias>> StoredFunctions::aliases(const std::string& tenant, const std::string& function,
                                             const std::string& version, const std::string& after, int limit) const {
  SUNDOG_TRY(state, find(tenant, function));
  Page<Alias> page;
  for (auto it = state->aliases.upper_bound(after); it != state->aliases.end(); ++it) {
    const Alias& alias = it->second;
    if (!version.empty() && alias.version != version && !alias.weights.contains(version)) continue;
    if (static_cast<int>(page.items.size()) == limit) {
      page.next = page.items.back().name;
      break;
    }
    page.items.push_back(alias);
  }
  return page;
}

}  // namespace sundog::functions
