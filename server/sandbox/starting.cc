#include "sandbox/starting.h"

#include <sys/wait.h>

#include "sandbox/egress_proxy.h"

namespace sundog::sandbox {
namespace {

const std::string kRuntime = "/opt/sundog/runtime/sundog/runtime";
const std::string kExtension = "/opt/sundog/native/_native.abi3.so";

std::string environment_folder(size_t index) {
  return "/opt/sundog/env/" + std::to_string(index);
}

}  // namespace

Limits for_init(Limits limits) {
  limits.cpu_millis = std::max(limits.cpu_millis, 1000);
  return limits;
}

int plain_status(int64_t status) {
  const int raw = int(status);
  return WIFSIGNALED(raw) ? 128 + WTERMSIG(raw) : WEXITSTATUS(raw);
}

void Starting::adopt(std::unique_ptr<LocalInstance> instance, Duration limit,
                     Callback<std::unique_ptr<Instance>> on_ready) {
  auto* key = instance.get();
  instances[key] = std::move(instance);
  const auto timer = loop.run_after(limit, [key] { key->kill(); });
  key->on_ready([this, key, timer, on_ready = std::move(on_ready)](const Status& status) {
    loop.cancel(timer);
    auto found = instances.find(key);
    std::unique_ptr<Instance> ready = std::move(found->second);
    instances.erase(found);
    if (status.ok()) return on_ready(std::move(ready));
    // Not from inside its own callback.
    loop.post([dead = std::shared_ptr<Instance>(std::move(ready))] {});
    on_ready(status.error());
  });
}

std::shared_ptr<void> Starting::let_out(std::vector<UniqueFd> handed, const std::vector<std::string>& allow,
                                        const std::string& tenant, const std::string& name) const {
  auto policy = EgressPolicy::parse(allow);
  std::shared_ptr<void> way_out;
  if (policy.ok() && handed.size() == 1) way_out = egress.add(std::move(handed[0]), std::move(*policy), tenant, name);
  if (!way_out) log.warn("no_way_out", {{"function", name}});
  return way_out;
}

uint32_t Starting::rules_left_out() const {
  if (!options.insecure_test) return 0;
  const auto& out = options.left_out;
  uint32_t rules = 0;
  for (const auto& [left_out, rule] : {std::pair{out.seccomp, launcher::kRuleSeccomp},
                                       {out.user_namespace, launcher::kRuleUserNamespace},
                                       {out.network, launcher::kRuleNetwork},
                                       {out.read_only, launcher::kRuleReadOnly},
                                       {out.tree, launcher::kRuleTree},
                                       {out.pids, launcher::kRulePids},
                                       {out.ipc, launcher::kRuleIpc},
                                       {out.uts, launcher::kRuleUts},
                                       {out.rights, launcher::kRuleRights},
                                       {out.setuid, launcher::kRuleSetuid}}) {
    if (left_out) rules |= rule;
  }
  return rules;
}

TreeStart Starting::interpreter_tree(const EnvironmentKey& key, uint64_t cell, UniqueFd socket, UniqueFd output) const {
  TreeStart tree;
  tree.kind = launcher::TreeKind::python_template;
  std::error_code ignored;
  const Path interpreter = std::filesystem::canonical(key.python, ignored);
  const Path prefix = interpreter.parent_path().parent_path();
  tree.argv = {interpreter.string(), "-I", "-S", "-B", "-X", "utf8", kRuntime + "/template.py", kExtension};
  tree.environment = {"PATH=/usr/bin:/bin", "LANG=C.UTF-8"};
  if (prefix != "/usr") tree.mounts.push_back({prefix, prefix.string(), false});
  tree.mounts.push_back({options.runtime, kRuntime, false});
  tree.mounts.push_back({options.native_extension, kExtension, false});
  for (size_t i = 0; i < key.site_packages.size(); ++i) {
    tree.mounts.push_back({key.site_packages[i], environment_folder(i), false});
  }
  tree.network = key.network;
  tree.without_rules = rules_left_out();
  tree.cell = cell;
  tree.socket = std::move(socket);
  tree.output = std::move(output);
  return tree;
}

TreeStart Starting::python_tree(const TemplateSpec& spec, uint64_t cell, UniqueFd socket, UniqueFd output) const {
  auto tree = interpreter_tree(key_of(spec), cell, std::move(socket), std::move(output));
  tree.mounts.push_back({spec.code, "/var/task", false});
  tree.limits = for_init(spec.limits);
  return tree;
}

TreeStart Starting::environment_tree(const EnvironmentKey& key, const Limits& limits, uint64_t cell, UniqueFd socket,
                                     UniqueFd output) const {
  auto tree = interpreter_tree(key, cell, std::move(socket), std::move(output));
  tree.limits = limits;
  return tree;
}

Json Starting::environment_configuration(const EnvironmentKey& key) const {
  auto paths = Json::array();
  for (size_t i = 0; i < key.site_packages.size(); ++i) paths.push_back(environment_folder(i));
  return {{"paths", paths},
          {"variables", key.variables},
          {"landlock", !(options.insecure_test && options.left_out.landlock)},
          {"filters", !(options.insecure_test && options.left_out.seccomp)},
          {"own_network", key.network == Network::none && (rules_left_out() & launcher::kRuleNetwork) == 0}};
}

Frame Starting::configuration(const TemplateSpec& spec, bool alone) const {
  auto paths = Json::array({"/var/task"});
  for (size_t i = 0; i < spec.site_packages.size(); ++i) paths.push_back(environment_folder(i));
  Frame frame;
  frame.type = FrameType::configure;
  frame.head = dump({{"handler", spec.handler},
                     {"paths", paths},
                     {"environment", spec.environment},
                     {"tmp_options", "size=" + std::to_string((spec.limits.tmp_bytes + 1023) / 1024) + "k,mode=1777"},
                     {"private_tmp", private_tmp()},
                     {"landlock", !(options.insecure_test && options.left_out.landlock)},
                     {"filters", !(options.insecure_test && options.left_out.seccomp)},
                     {"way_out", spec.network == Network::egress},
                     {"alone", alone}});
  return frame;
}

}  // namespace sundog::sandbox
