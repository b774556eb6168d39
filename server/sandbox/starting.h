// Starting: what is between a request and an instance or a template that is ready, for every part that starts one.
//
// Ownership   one per LocalSandbox.
// Threads     the loop thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sandbox/local_instance.h"
#include "sandbox/local_sandbox.h"
#include "sandbox/sharing.h"

namespace sundog::sandbox {

class EgressProxy;
class EnvironmentTemplates;

// A wait status as the launcher tells it: exit status, or 128 + signal.
int plain_status(int64_t status);

// While init runs: a whole core whatever the memory size, as on Lambda.
Limits for_init(Limits limits);

// What every part needs, and the instances that are not ready yet.
struct Starting {
  net::Loop& loop;
  Clock& clock;
  Log& log;
  LauncherClient& launcher;
  const LocalSandboxOptions& options;
  EgressProxy& egress;
  EnvironmentTemplates* environments = nullptr;
  std::map<LocalInstance*, std::unique_ptr<LocalInstance>> instances;

  // Keeps the instance until it is ready, has failed, or `limit` is over.
  void adopt(std::unique_ptr<LocalInstance> instance, Duration limit, Callback<std::unique_ptr<Instance>> on_ready);
  TreeStart python_tree(const TemplateSpec& spec, uint64_t cell, UniqueFd socket, UniqueFd output) const;
  TreeStart environment_tree(const EnvironmentKey& key, const Limits& limits, uint64_t cell, UniqueFd socket,
                             UniqueFd output) const;
  Json environment_configuration(const EnvironmentKey& key) const;
  // The CONFIGURE frame; `alone`: the template becomes the instance itself.
  Frame configuration(const TemplateSpec& spec, bool alone) const;
  // Of a function with the network egress: lets out, to what `allow` names, who comes by the listener that its tree
  // has handed over, as long as the result is held. Null (and a line in the log) if that is none.
  std::shared_ptr<void> let_out(std::vector<UniqueFd> handed, const std::vector<std::string>& allow,
                                const std::string& tenant, const std::string& name) const;
  uint32_t rules_left_out() const;
  bool private_tmp() const { return !(options.insecure_test && options.left_out.private_tmp); }

 private:
  TreeStart interpreter_tree(const EnvironmentKey& key, uint64_t cell, UniqueFd socket, UniqueFd output) const;
};

}  // namespace sundog::sandbox
