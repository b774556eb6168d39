#include "invoke/specs.h"

#include <algorithm>

#include "sandbox/egress_proxy.h"

namespace sundog::invoke {
namespace {

constexpr int kOneCoreMegabytes = 1769;  // as on Lambda
constexpr std::string_view kPython = "python";
const std::string kRuntimeApi = "/opt/sundog/bin/sundog-runtime-api";
const std::string kCustomPackages = "/opt/python";
constexpr Millis kInitTimeout{10'000};  // as on Lambda

std::map<std::string, std::string> variables_of(const functions::Version& version, const Machine& machine) {
  const auto& config = version.config;
  auto variables = config.variables;
  variables["AWS_LAMBDA_FUNCTION_NAME"] = config.name;
  variables["AWS_LAMBDA_FUNCTION_VERSION"] = version.version;
  variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] = std::to_string(config.memory_mb);
  variables["AWS_LAMBDA_LOG_GROUP_NAME"] = "/aws/lambda/" + config.name;
  variables["AWS_LAMBDA_LOG_STREAM_NAME"] = version.tenant + "/[" + version.version + "]";
  variables["AWS_LAMBDA_INITIALIZATION_TYPE"] = "on-demand";
  variables["AWS_EXECUTION_ENV"] = "AWS_Lambda_" + config.runtime;
  variables["AWS_REGION"] = machine.region;
  variables["AWS_DEFAULT_REGION"] = machine.region;
  variables["LAMBDA_TASK_ROOT"] = "/var/task";
  variables["_HANDLER"] = config.handler;
  variables.insert(machine.variables.begin(), machine.variables.end());  // where the function has not its own
  variables.try_emplace("LANG", "C.UTF-8");
  variables.try_emplace("TZ", ":UTC");
  variables.try_emplace("PATH", "/usr/local/bin:/usr/bin:/bin");
  return variables;
}

// Where the function has not its own. `through_the_proxy`: what of its loopback is the host's.
void add_way_out(std::map<std::string, std::string>& variables, const std::vector<std::string>& through_the_proxy) {
  const auto policy = sandbox::EgressPolicy::parse(through_the_proxy);
  if (policy.ok()) variables.merge(sandbox::egress_variables(*policy));
}

// For the bootstrap alone: what a function sets must not change sundog-runtime-api, which hands over its way out.
std::map<std::string, std::string> for_the_bootstrap(std::map<std::string, std::string> variables) {
  variables.insert({{"HOME", "/tmp"}, {"TMPDIR", "/tmp"}});
  std::map<std::string, std::string> marked;
  for (auto& [name, value] : variables) marked.emplace("+" + name, std::move(value));
  return marked;
}

std::string process_name(const functions::Version& version) {
  return version.tenant + "/" + version.config.name + ":" + version.version;
}

Result<functions::Environment> built_environment(const functions::Config& config,
                                                 const functions::Environments& environments) {
  SUNDOG_TRY(environment, environments.get(config.environment_id));
  if (environment.state == functions::Environment::State::ready) return environment;
  const bool building = environment.state == functions::Environment::State::building;
  return fail(
      Code::conflict,
      "The environment of function " + config.name + (building ? " is still being built." : " failed to build."),
      building ? "Try again in a moment." : "Its log says why: GET /v1/environments/" + config.environment_id);
}

// A custom runtime finds an environment where Lambda's Python layers lie, and its interpreter on the PATH.
Status add_packages(sandbox::NativeSpec& spec, const functions::Config& config,
                    const functions::Environments& environments) {
  SUNDOG_TRY(environment, built_environment(config, environments));
  SUNDOG_TRY(interpreter, environments.python(environment.python));
  std::error_code ignored;
  const Path prefix = std::filesystem::weakly_canonical(interpreter, ignored).parent_path().parent_path();
  if (prefix != "/usr") {
    spec.mounts.push_back({prefix, prefix.string(), false});
    spec.environment["PATH"] = (prefix / "bin").string() + ":" + spec.environment["PATH"];
  }
  spec.mounts.push_back({environment.folder, kCustomPackages, false});
  spec.environment.try_emplace("PYTHONPATH", kCustomPackages);
  return done;
}

}  // namespace

bool is_native(const functions::Version& version) {
  return version.config.runtime == "native" || is_custom(version.config);
}

sandbox::Limits limits_of(const functions::Config& config, int cores) {
  sandbox::Limits limits;
  limits.memory_bytes = static_cast<int64_t>(config.memory_mb) << 20;
  limits.tmp_bytes = static_cast<int64_t>(config.ephemeral_mb) << 20;
  limits.cpu_millis = std::clamp(config.memory_mb * 1000 / kOneCoreMegabytes, 50, std::max(1, cores) * 1000);
  return limits;
}

Result<sandbox::TemplateSpec> template_spec(const functions::Version& version,
                                            const functions::Environments& environments, const Machine& machine) {
  const auto& config = version.config;
  if (!config.runtime.starts_with(kPython)) {
    return fail(Code::unsupported, "Function " + config.name + " has the runtime \"" + config.runtime + "\".",
                "Sundog runs python3.N and provided.al2023.");
  }
  sandbox::TemplateSpec spec;
  spec.name = process_name(version);
  spec.tenant = version.tenant;
  std::string python = config.runtime.substr(kPython.size());
  if (!config.environment_id.empty()) {
    SUNDOG_TRY(environment, built_environment(config, environments));
    spec.site_packages.push_back(environment.folder);
    python = environment.python;
  }
  SUNDOG_TRY(interpreter, environments.python(python));
  spec.python = interpreter;
  spec.code = version.code_folder;
  spec.handler = config.handler;
  spec.environment = variables_of(version, machine);
  spec.limits = limits_of(config, machine.cores);
  spec.network = config.network;
  spec.allow = config.allow;
  if (spec.network == sandbox::Network::egress) add_way_out(spec.environment, spec.allow);
  return spec;
}

Result<sandbox::NativeSpec> native_spec(const functions::Version& version, const functions::Environments& environments,
                                        const Machine& machine) {
  sandbox::NativeSpec spec;
  spec.name = process_name(version);
  spec.tenant = version.tenant;
  spec.environment = variables_of(version, machine);
  spec.limits = limits_of(version.config, machine.cores);
  spec.network = version.config.network;
  spec.allow = version.config.allow;
  if (!is_custom(version.config)) {
    spec.command = version.native_command;
    spec.mounts = version.native_mounts;
    return spec;
  }
  spec.command = {kRuntimeApi, "--init-timeout", std::to_string(kInitTimeout.count())};
  spec.mounts = {{machine.runtime_api, kRuntimeApi, false}, {version.code_folder, "/var/task", false}};
  spec.environment.try_emplace("LD_LIBRARY_PATH", "/var/task:/var/task/lib");
  if (!version.config.environment_id.empty()) SUNDOG_CHECK(add_packages(spec, version.config, environments));
  if (spec.network == sandbox::Network::egress) {
    spec.command.emplace_back("--way-out");
    add_way_out(spec.environment, {});  // its loopback is its own: the Runtime API is there
  }
  spec.environment = for_the_bootstrap(std::move(spec.environment));
  return spec;
}

}  // namespace sundog::invoke
