// EnvironmentTemplates: which environments' templates run, what they import, and when they end.
//
// What an environment's template imports is learned from its functions: each tells which modules of the environment its
// init imported, and the template imports them too, off the way of any invocation, so that the next function has them
// copy-on-write. What was learned is kept beside the data, for the next run.
//
// Ownership   one per LocalSandbox.
// Threads     the loop thread; writes a small file there when it has learned something.
// Failure     a template that cannot be had, or that what it imported made unfit to fork: functions then begin in trees
//             of their own, or over a template without those modules.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sandbox/local_environment.h"

namespace sundog::sandbox {

class EnvironmentTemplates {
 public:
  explicit EnvironmentTemplates(Starting& starting);
  ~EnvironmentTemplates();

  // Why functions of this spec do not share; empty: of() may be called.
  std::string why_not(const TemplateSpec& spec) const;
  // The running one, or one that has just been started.
  std::shared_ptr<LocalEnvironment> of(const TemplateSpec& spec);
  // `modules`: names, as a process that ran a user's code claims to have imported them.
  void learn(const TemplateSpec& spec, const Json& modules);

  // As Sandbox has them.
  std::string shared_by(const TemplateSpec& spec) const { return why_not(spec).empty() ? key_of(spec).text() : ""; }
  std::vector<SharedTemplate> shared() const;
  int64_t memory_bytes() const;
  int64_t to_come(const std::string& id) const;
  void end(const std::string& id);
  void on_change(std::function<void()> callback) { on_change_ = std::move(callback); }
  Json describe() const;

 private:
  struct Known {
    EnvironmentKey key;
    std::shared_ptr<LocalEnvironment> running;
    std::vector<std::string> modules;  // to import, in this order
    std::set<std::string> learned;     // those and the refused ones
    std::set<std::string> refused;     // not importable, or unfit to be forked with
    std::string reason;                // why the last one ended
    size_t told = 0, imported = 0;     // of `modules`, to the running one and by it
    int64_t bytes = 0, usual = 0;      // counted for the running one; what it took with all that it imports
    MonoTime used{}, not_before{};
    net::Loop::Id preload_timer = 0;
  };
  Known& known_of(const EnvironmentKey& key);
  void start(Known& known);
  void tell(Known& known);
  void on_preloaded(Known& known, const std::vector<std::string>& failed, const std::string& reason,
                    const std::string& culprit);
  void on_end(Known& known, const std::string& reason);
  void refuse(Known& known, const std::vector<std::string>& modules, const std::string& reason);
  void end(Known& known);
  void bury(std::shared_ptr<LocalEnvironment> ended);
  void measure(Known& known);
  void changed();
  void look();
  void keep_to_budget();
  Path file_of(const Known& known) const;
  void load(Known& known) const;
  void save(const Known& known) const;
  void forget_removed() const;

  Starting& starting_;
  std::map<std::string, std::unique_ptr<Known>> known_;
  std::vector<std::shared_ptr<LocalEnvironment>> ended_;
  std::function<void()> on_change_;
  bool telling_ = false;
  net::Loop::Id timer_ = 0;
  std::shared_ptr<bool> here_ = std::make_shared<bool>(true);
};

}  // namespace sundog::sandbox
