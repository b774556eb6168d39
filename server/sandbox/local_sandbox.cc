#include "sandbox/local_sandbox.h"

#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>

#include "base/crypto.h"
#include "sandbox/delegated_cgroup.h"
#include "sandbox/egress_proxy.h"
#include "sandbox/environment_templates.h"

namespace sundog::sandbox {
namespace {

// As one word of a shell's.
std::string quoted(const Path& path) {
  std::string text = "'";
  for (const char c : path.string()) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

// What `sundog-launcher --doctor` prints; it tries things, so it is asked in a process of its own.
Json ask_launcher(const Path& program, const Path& cgroup) {
  std::string text;
  FILE* pipe = popen((quoted(program) + " --cgroup " + quoted(cgroup) + " --doctor").c_str(), "re");
  if (pipe) {
    char piece[4096];
    for (size_t bytes = 0; (bytes = fread(piece, 1, sizeof(piece), pipe)) > 0;) text.append(piece, bytes);
    pclose(pipe);
  }
  auto rows = parse_json(text, "the launcher's report");
  if (rows.ok() && rows->is_array()) return *rows;
  return Json::array({{{"check", "launcher"},
                       {"ok", false},
                       {"detail", program.string() + " cannot be run"},
                       {"without", "no instance can be started"}}});
}

Json disk_row(const Path& data) {
  struct statvfs disk{};
  const bool known = statvfs(data.c_str(), &disk) == 0;
  const auto free_mb = known ? int64_t(disk.f_bavail) * int64_t(disk.f_frsize) / (1 << 20) : 0;
  return {{"check", "disk"},
          {"ok", free_mb >= 1024},
          {"detail", known ? std::to_string(free_mb) + " MB free at " + data.string() : "cannot be read"},
          {"without", "uploads, packages and shards are refused when the disk is full"}};
}

// A connection takes two descriptors: a quarter of those that this process may have, at most.
EgressProxy::Options for_descriptors() {
  EgressProxy::Options options;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    options.all_connections = std::clamp<size_t>(limit.rlim_cur / 8, 2, options.all_connections);
  }
  return options;
}

class LocalSandbox final : public Sandbox {
 public:
  LocalSandbox(net::Loop& loop, Clock& clock, Log& log, LocalSandboxOptions options,
               std::unique_ptr<LauncherClient> launcher, Json doctor)
      : options_(std::move(options)),
        launcher_(std::move(launcher)),
        doctor_(std::move(doctor)),
        egress_(loop, log, for_descriptors()),
        starting_{loop, clock, log, *launcher_, options_, egress_, nullptr, {}},
        environments_(starting_) {
    starting_.environments = &environments_;
  }

  void start_template(TemplateSpec spec, Callback<std::shared_ptr<TemplateStart>> on_started) override {
    if (auto refused = check(spec); !refused.ok()) {
      starting_.loop.post([on_started = std::move(on_started), error = refused.error()] { on_started(error); });
      return;
    }
    auto made = std::make_unique<LocalTemplate>(starting_, std::move(spec));
    auto* key = made.get();
    templates_[key] = std::move(made);
    key->start([this, key, on_started = std::move(on_started)](Result<std::shared_ptr<TemplateStart>> result) {
      auto found = templates_.find(key);
      auto owned = std::move(found->second);
      templates_.erase(found);
      if (result.ok() && (*result)->failure.type.empty()) {
        (*result)->parked = std::move(owned);
      } else {
        // Not from inside its own callback.
        starting_.loop.post([dead = std::shared_ptr<LocalTemplate>(std::move(owned))] {});
      }
      on_started(std::move(result));
    });
  }

  void start_native(NativeSpec spec, InstanceEvents& events, Callback<std::unique_ptr<Instance>> on_ready) override {
    if (auto refused = check(spec.network, spec.allow); !refused.ok()) {
      starting_.loop.post([on_ready = std::move(on_ready), error = refused.error()] { on_ready(error); });
      return;
    }
    // Read before `spec` moves: the order of arguments is the compiler's.
    const Limits limits = spec.limits;
    launcher_->make_cell(
        limits, true,
        [this, spec = std::move(spec), &events, on_ready = std::move(on_ready)](Result<Cell> cell) mutable {
          if (!cell.ok()) return on_ready(cell.error());
          start_native_in(std::move(*cell), std::move(spec), events, std::move(on_ready));
        });
  }

  std::string shared_by(const TemplateSpec& spec) const override { return environments_.shared_by(spec); }
  std::vector<SharedTemplate> shared() const override { return environments_.shared(); }
  int64_t shared_bytes() const override { return environments_.memory_bytes(); }
  int64_t shared_to_come(const std::string& id) const override { return environments_.to_come(id); }
  void end_shared(const std::string& id) override { environments_.end(id); }
  void on_shared_change(std::function<void()> callback) override { environments_.on_change(std::move(callback)); }
  Json environment_templates() const override { return environments_.describe(); }

  Json doctor() const override {
    Json rows = doctor_;
    rows.push_back(disk_row(options_.data));
    return rows;
  }

 private:
  static Status check(Network network, const std::vector<std::string>& allow) {
    if (network == Network::egress) SUNDOG_CHECK(EgressPolicy::parse(allow));
    return done;
  }

  static Status check(const TemplateSpec& spec) {
    SUNDOG_CHECK(check(spec.network, spec.allow));
    std::error_code error;
    if (!std::filesystem::exists(spec.python, error)) {
      return fail(Code::unavailable, "There is no interpreter " + spec.python.string() + ".");
    }
    if (!std::filesystem::is_directory(spec.code, error)) {
      return fail(Code::unavailable, "There is no code folder " + spec.code.string() + ".");
    }
    return done;
  }

  void start_native_in(Cell cell, NativeSpec spec, InstanceEvents& events,
                       Callback<std::unique_ptr<Instance>> on_ready) {
    auto sockets = make_socket_pair();
    auto pipe = make_output_pipe();
    if (!sockets.ok() || !pipe.ok()) {
      launcher_->remove_cell(cell.id);
      return on_ready(sockets.ok() ? pipe.error() : sockets.error());
    }
    TreeStart tree;
    tree.argv = std::move(spec.command);
    tree.mounts = std::move(spec.mounts);
    tree.limits = spec.limits;
    tree.network = spec.network;
    tree.cell = cell.id;
    tree.without_rules = starting_.rules_left_out();
    spec.environment.insert({{"PATH", "/usr/bin:/bin"}, {"LANG", "C.UTF-8"}, {"HOME", "/tmp"}, {"TMPDIR", "/tmp"}});
    for (const auto& [name, value] : spec.environment) tree.environment.push_back(name + "=" + value);
    tree.socket = std::move(sockets->second);
    tree.output = std::move(pipe->second);
    auto exit = std::make_shared<ExitNote>();
    auto refused = std::make_shared<std::optional<Error>>();
    const uint64_t id = launcher_->start_tree(
        std::move(tree),
        [exit, refused](const Result<int>& pid) {
          if (pid.ok()) return;
          *refused = pid.error();
          exit->tell(-1);
        },
        [exit](int status) { exit->tell(status); });
    auto instance = std::make_unique<LocalInstance>(
        starting_.loop, starting_.clock, *launcher_, events,
        LocalInstance::Parts{spec.name, std::move(sockets->first), std::move(pipe->first), std::move(cell), id, exit});
    if (spec.network == Network::egress) {
      instance->let_out_by([&starting = starting_, allow = spec.allow, tenant = spec.tenant,
                            name = spec.name](std::vector<UniqueFd> handed) {
        return starting.let_out(std::move(handed), allow, tenant, name);
      });
    }
    starting_.adopt(std::move(instance), std::chrono::seconds(20),
                    [refused, on_ready = std::move(on_ready)](Result<std::unique_ptr<Instance>> ready) {
                      if (!ready.ok() && *refused) return on_ready(**refused);
                      on_ready(std::move(ready));
                    });
  }

  LocalSandboxOptions options_;
  std::unique_ptr<LauncherClient> launcher_;
  Json doctor_;
  EgressProxy egress_;
  Starting starting_;
  EnvironmentTemplates environments_;
  std::map<LocalTemplate*, std::unique_ptr<LocalTemplate>> templates_;  // not parked yet
};

}  // namespace

Result<std::unique_ptr<Sandbox>> start_local_sandbox(net::Loop& loop, Clock& clock, Log& log,
                                                     LocalSandboxOptions options) {
  if (options.environment_budget_bytes <= 0) {
    options.environment_budget_bytes = int64_t(sysconf(_SC_PHYS_PAGES)) / 4 * sysconf(_SC_PAGE_SIZE);
  }
  if (options.name.empty()) options.name = sha256_hex(options.data.string()).substr(0, 12);
  Path cgroup = delegated_cgroup();
  if (!cgroup.empty()) {
    if (const auto room = make_room(cgroup); !room.ok()) {
      log.error("cgroup_not_used", room.error());
      cgroup.clear();
    }
  }
  Json doctor = ask_launcher(options.launcher, cgroup);
  std::string missing;
  for (const auto& row : doctor) {
    if (row.value("ok", false)) continue;
    const auto check = row.value("check", ""), without = row.value("without", "");
    missing += "\n  " + check + ": " + row.value("detail", "") + "; without it " + without;
    if (!options.strict) log.warn("seal_is_incomplete", {{"check", check}, {"without", without}});
  }
  if (options.strict && !missing.empty()) {
    return fail(Code::unavailable, "This machine cannot seal instances wholly:" + missing + "\n",
                "Leave --strict out to accept that.");
  }
  SUNDOG_TRY(launcher,
             LauncherClient::start(loop, clock, log, {options.launcher, options.name, cgroup, options.insecure_test}));
  return std::unique_ptr<Sandbox>(
      new LocalSandbox(loop, clock, log, std::move(options), std::move(launcher), std::move(doctor)));
}

}  // namespace sundog::sandbox
