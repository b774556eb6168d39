// FakeEnvironments: environments whose builds a test ends by hand. For tests only.
#pragma once

#include <map>
#include <mutex>

#include "functions/environments.h"

namespace sundog::functions {

class FakeEnvironments final : public Environments {
 public:
  void set(const Environment& environment) {
    std::vector<std::function<void(const Environment&)>> callbacks;
    {
      const std::lock_guard lock(mutex_);
      environments_[environment.id] = environment;
      if (environment.state != Environment::State::building) callbacks = callbacks_;
    }
    for (const auto& callback : callbacks) callback(environment);
  }

  Result<Environment> ensure(const std::string& python_version, std::vector<std::string> packages) override {
    Environment environment{.id = "env" + std::to_string(packages.size()), .python = python_version};
    environment.packages = std::move(packages);
    set(environment);
    return environment;
  }
  Result<Environment> get(const std::string& id) const override {
    const std::lock_guard lock(mutex_);
    const auto found = environments_.find(id);
    if (found != environments_.end()) return found->second;
    return fail(Code::not_found, "No environment \"" + id + "\".");
  }
  void on_built(std::function<void(const Environment&)> callback) override {
    const std::lock_guard lock(mutex_);
    callbacks_.push_back(std::move(callback));
  }
  Result<Path> python(const std::string& version) const override {
    if (version == "3.11") return Path("/usr/bin/python3.11");
    return fail(Code::invalid_argument, "Python \"" + version + "\" is not on this machine.");
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Environment> environments_;
  std::vector<std::function<void(const Environment&)>> callbacks_;
};

}  // namespace sundog::functions
