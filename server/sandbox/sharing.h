// Sharing: which functions may begin as forks of one environment's template, and why one may not.
//
// Threads     pure functions.
#pragma once

#include <string>
#include <vector>

#include "sandbox/sandbox.h"

namespace sundog::sandbox {

// Two functions share a template only if all of it is equal. A tenant is the trust domain: what a template imports is
// its tenant's, and so is whatever that leaves in memory.
struct EnvironmentKey {
  std::string tenant;
  Path python;
  std::vector<Path> site_packages;
  Network network = Network::none;
  std::map<std::string, std::string> variables;  // those that may change what an import does

  // Holds the variables' values: not for people's eyes.
  std::string text() const;
};
EnvironmentKey key_of(const TemplateSpec& spec);

// Why a function begins in a process tree of its own; empty: it may share.
std::string why_not_shared(const TemplateSpec& spec);

// A package might have read the variable when it was imported, or the loader and the interpreter at their start.
bool changes_imports(std::string_view variable);

// A dotted name of a module, as a process that ran a user's code claims to have imported it.
bool is_module_name(std::string_view name);

inline constexpr int64_t kMaxSharedTmp = 10'240LL << 20;  // as in python/native/words.h

}  // namespace sundog::sandbox
