// Functions in memory: versions, aliases and revisions as the real ones keep them, without code folders. For tests.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/crypto.h"
#include "functions/functions.h"

namespace sundog::testing {

class FakeFunctions final : public functions::Functions {
 public:
  using Version = functions::Version;
  using Alias = functions::Alias;

  Result<Version> create(const std::string& tenant, functions::Config config, std::string zip, bool) override {
    auto& function = functions_[tenant + "/" + config.name];
    if (function) return fail(Code::conflict, "Function already exists");
    function = std::make_unique<Function>();
    Version version;
    version.tenant = tenant;
    version.config = std::move(config);
    set_code(version, zip);
    function->latest = version;
    return version;
  }
  Result<Version> update_code(const std::string& tenant, const std::string& name, std::string zip, bool,
                              const std::string&, bool) override {
    SUNDOG_TRY(function, find(tenant, name));
    set_code(function->latest, zip);
    return function->latest;
  }
  Result<Version> update_config(const std::string& tenant, const std::string& name, const std::string&,
                                std::function<Status(functions::Config&)> change) override {
    SUNDOG_TRY(function, find(tenant, name));
    SUNDOG_CHECK(change(function->latest.config));
    function->latest.revision_id = next_revision();
    return function->latest;
  }
  Status remove(const std::string&, const std::string&, const std::string&) override { return done; }
  Result<Version> get(const std::string& tenant, const std::string& name, const std::string& qualifier) const override {
    SUNDOG_TRY(function, find(tenant, name));
    if (qualifier.empty() || qualifier == "$LATEST") return function->latest;
    const auto alias = function->aliases.find(qualifier);
    const auto number = alias == function->aliases.end() ? qualifier : alias->second.version;
    for (const auto& version : function->published) {
      if (version.version == number) return version;
    }
    return fail(Code::not_found, "Function \"" + name + "\" has no version \"" + qualifier + "\"");
  }
  Result<functions::Page<Version>> list(const std::string&, const std::string&, int) const override {
    return functions::Page<Version>{};
  }
  Result<Version> publish(const std::string& tenant, const std::string& name, const std::string& code_sha256,
                          const std::string& description, const std::string& revision_id) override {
    SUNDOG_TRY(function, find(tenant, name));
    if (before_publish) std::exchange(before_publish, nullptr)();
    const auto& latest = function->latest;
    if (latest.code_sha256 != code_sha256 || latest.revision_id != revision_id) {
      return fail(Code::conflict, "The function changed since");
    }
    auto version = latest;
    version.version = std::to_string(function->published.size() + 1);
    version.config.description = description;
    function->published.push_back(version);
    return version;
  }
  Result<functions::Page<Version>> versions(const std::string&, const std::string&, const std::string&,
                                            int) const override {
    return functions::Page<Version>{};
  }
  Result<Alias> create_alias(const std::string& tenant, const std::string& name, Alias alias) override {
    SUNDOG_TRY(function, find(tenant, name));
    function->aliases[alias.name] = alias;
    return alias;
  }
  Result<Alias> update_alias(const std::string& tenant, const std::string& name, const Alias& alias,
                             const std::string&) override {
    SUNDOG_TRY(function, find(tenant, name));
    if (!function->aliases.contains(alias.name)) return fail(Code::not_found, "No alias " + alias.name);
    function->aliases[alias.name] = alias;
    return alias;
  }
  Result<Alias> get_alias(const std::string& tenant, const std::string& name, const std::string& alias) const override {
    SUNDOG_TRY(function, find(tenant, name));
    const auto found = function->aliases.find(alias);
    if (found == function->aliases.end()) return fail(Code::not_found, "No alias " + alias);
    return found->second;
  }
  Status remove_alias(const std::string&, const std::string&, const std::string&) override { return done; }
  Result<functions::Page<Alias>> aliases(const std::string&, const std::string&, const std::string&, const std::string&,
                                         int) const override {
    return functions::Page<Alias>{};
  }
  Status set_provisioned(const std::string&, const std::string&, const std::string&, std::optional<int>) override {
    return done;
  }
  std::vector<functions::Provisioned> provisioned(const std::string&, const std::string&) const override { return {}; }
  Status set_reserved_concurrency(const std::string&, const std::string&, std::optional<int>) override { return done; }
  Result<functions::Resolved> resolve(const std::string& tenant, const std::string& name, const std::string& qualifier,
                                      double) const override {
    SUNDOG_TRY(version, get(tenant, name, qualifier));
    return functions::Resolved{std::make_shared<const Version>(version), {}};
  }
  void add_builtin(Version) override {}
  void on_change(std::function<void(const std::string&, const std::string&)>) override {}
  void on_deploy(std::function<void(const functions::VersionPtr&)>) override {}
  void report_init(const Version&, const functions::InitReport&) override {}

  struct Function {
    Version latest;
    std::vector<Version> published;
    std::map<std::string, Alias> aliases;
  };
  Function& at(const std::string& tenant, const std::string& name) { return *functions_.at(tenant + "/" + name); }

  functions::State state_of_new_code = functions::State::active;
  std::string reason_code_of_new_code;
  std::function<void()> before_publish;  // once: another client comes between
  std::string last_zip;

 private:
  void set_code(Version& version, const std::string& zip) {
    last_zip = zip;
    version.code_sha256 = base64(sha256(zip));
    version.state = state_of_new_code;
    version.state_reason = "as the test says";
    version.state_reason_code = reason_code_of_new_code;
    version.revision_id = next_revision();
  }
  std::string next_revision() { return "revision-" + std::to_string(++revisions_); }
  Result<Function*> find(const std::string& tenant, const std::string& name) const {
    const auto found = functions_.find(tenant + "/" + name);
    if (found == functions_.end()) return fail(Code::not_found, "No function \"" + name + "\"");
    return found->second.get();
  }

  std::map<std::string, std::unique_ptr<Function>> functions_;
  int revisions_ = 0;
};

}  // namespace sundog::testing
