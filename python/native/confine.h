// What a template and an instance do to themselves: namespaces, Landlock scopes, the narrowing filters, a private /tmp.
//
//   environment's template  confine_environment()             before the packages are imported
//   function's template     confine_template()                in a tree of its own, or
//                           become_template()                 after the fork from its environment's template
//   instance                enter_instance() | enter_alone()  before the handler runs
//
// Threads     the process has one; each function once in its process.
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

// In a tree whose function has the network "egress": the listener that is its way out, for the server, which must be
// made, handed over and closed here before anything of the user's runs. -1 with errno.
int open_way_out();

// What is in force afterwards; -1 for a failure.
enum InForce : int { kScopes = 1, kSealedMounts = 2 };
int confine_template(const TemplateRules& rules, const char*& step);

struct EnvironmentRules {
  bool landlock = true, filters = true;
  bool own_network = true;  // its functions get a network namespace each
};
int confine_environment(const EnvironmentRules& rules, const char*& step);

struct FunctionRules {
  int code = -1;             // a detached mount, for /var/task
  std::vector<int> cgroups;  // both are closed
  unsigned tmp_megabytes = 512;
  bool own_network = true;
  bool private_tmp = true;  // of its instances
};
// In the child: enters the cgroups, makes namespaces of its own with the code, a /tmp and a loopback in them, gives up
// every right over them, and leaves to its forks no more than a private /tmp of the same size.
int become_template(const FunctionRules& rules, const char*& step);

// Enters the cgroups by their descriptors (and closes them), makes /tmp and /dev/shm its own, then gives up the means.
int enter_instance(const std::vector<int>& cgroups, const char*& step);

// The same for an instance that shares its namespaces with no sibling: it keeps the /tmp that is there.
int enter_alone(const char*& step);

}  // namespace sundog::native
