// What a template and an instance do to themselves: Landlock scopes, the narrowing filters, a private /tmp.
//
// Threads     confine_template() once, before any user code; enter_instance() in the child right after the fork.
// Failure     errno, with the step in `step`.
#pragma once

#include <vector>

namespace sundog::native {

struct TemplateRules {
  const char* tmp_options = "";  // of tmpfs: "size=…,mode=1777"
  bool private_tmp = true;
  bool landlock = true;
  bool filters = true;  // of template and instance; only a test of the rules leaves them out
};

// What is in force afterwards; -1 for a failure.
enum InForce : int { kScopes = 1, kSealedMounts = 2 };
int confine_template(const TemplateRules& rules, const char*& step);

// Enters the cgroups by their descriptors (and closes them), makes /tmp and /dev/shm its own, then gives up the means.
int enter_instance(const std::vector<int>& cgroups, const char*& step);

// The same for an instance that shares its tree with no sibling: it keeps the tree's own /tmp.
int enter_alone(const char*& step);

}  // namespace sundog::native
