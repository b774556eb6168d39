#include "app/options.h"

#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <map>
#include <sstream>

namespace sundog::app {
namespace {

const std::map<std::string, Level> kLevels = {
    {"debug", Level::debug}, {"info", Level::info}, {"warning", Level::warning}, {"error", Level::error}};

// "3.11=/usr/bin/python3.11" → its two parts; an empty version when there is no '='.
std::pair<std::string, Path> python_of(const std::string& word) {
  const auto equals = word.find('=');
  if (equals == std::string::npos) return {"", word};
  return {word.substr(0, equals), word.substr(equals + 1)};
}

constexpr const char* kArithmetic[] = {"OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES",
                                       "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"};

struct Raw {
  std::string data, launcher, worker, runtime_api, runtime, native, uv, pyarrow, level = "info";
  std::vector<std::string> pythons;
  int64_t grace = 30, queue = 10, idle_template = 14'400, idle_environment = 2'400;
  double idle_instance = 0.25;
};

void declare(CLI::App& cli, Raw& raw, Options& options) {
  cli.add_option("--data", raw.data, "Folder that holds everything the server keeps")->required();
  cli.add_option("--host", options.host, "Address to listen on")->capture_default_str();
  cli.add_option("--port", options.port, "Port to listen on; 0 takes a free one")->capture_default_str();
  cli.add_option("--launcher", raw.launcher, "The sundog-launcher program")->required()->check(CLI::ExistingFile);
  cli.add_option("--data-worker", raw.worker, "The sundog-data program")->required()->check(CLI::ExistingFile);
  cli.add_option("--runtime-api", raw.runtime_api, "The sundog-runtime-api program, for custom runtimes")
      ->required()
      ->check(CLI::ExistingFile);
  cli.add_option("--runtime", raw.runtime, "Folder of what runs inside an instance")
      ->required()
      ->check(CLI::ExistingDirectory);
  cli.add_option("--native", raw.native, "The runtime's native extension; default: in the runtime's folder")
      ->check(CLI::ExistingFile);
  cli.add_option("--uv", raw.uv, "The uv program, which builds environments")->required()->check(CLI::ExistingFile);
  cli.add_option("--pyarrow", raw.pyarrow, "Folder of the pyarrow package, whose libraries sundog-data uses")
      ->required()
      ->check(CLI::ExistingDirectory);
  cli.add_option("--python", raw.pythons, "VERSION=PATH of an interpreter; may be given more than once")->required();
  cli.add_option("--log-level", raw.level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
  cli.add_option("--memory-mb", options.memory_mb,
                 "Memory for instances and templates; 0: 70 % of the machine's. Environments' templates take up to a "
                 "quarter of it")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  cli.add_option("--grace", raw.grace, "Seconds to wait for invocations in flight when stopping")
      ->capture_default_str();
  cli.add_option("--queue-limit", raw.queue, "Seconds an invocation waits for an instance before 429")
      ->capture_default_str();
  cli.add_option("--idle-instance", raw.idle_instance, "Seconds after which an idle instance is parked, or ends")
      ->capture_default_str();
  cli.add_option("--idle-template", raw.idle_template,
                 "The longest, in seconds, that an unused template or a parked instance is kept")
      ->capture_default_str();
  cli.add_option("--parked", options.parked_most, "Instances of one version that may be parked; 0: none")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  cli.add_option("--idle-environment", raw.idle_environment,
                 "Seconds after which an environment's template without functions ends")
      ->capture_default_str();
  cli.add_flag("--no-prebuild", options.no_prebuild,
               "Build a deployed version's template when it is called first, not in the background");
  cli.add_flag("--no-metrics", options.closed_metrics, "Ask for a key on /metrics");
  cli.add_flag("--until-stdin-ends", options.until_stdin_ends,
               "Stop when standard input ends, as it does with the program that holds the pipe's other end");
  cli.add_flag("--strict", options.strict, "Refuse to start where an instance cannot be sealed wholly");
  cli.set_version_flag("--version", std::string("sundog-server ") + SUNDOG_VERSION);
}

}  // namespace

Parsed parse_options(int count, char** words) {
  Parsed parsed;
  Raw raw;
  CLI::App cli{"Sundog's server. `sundog up` starts it with sane options.", "sundog-server"};
  declare(cli, raw, parsed.options);
  try {
    cli.parse(count, words);
  } catch (const CLI::ParseError& error) {
    std::ostringstream text;
    parsed.status = cli.exit(error, text, text) == 0 ? 0 : 2;
    parsed.text = text.str();
    return parsed;
  }
  Options& options = parsed.options;
  options.data = std::filesystem::absolute(raw.data);
  options.launcher = std::filesystem::absolute(raw.launcher);
  options.data_worker = std::filesystem::absolute(raw.worker);
  options.runtime_api = std::filesystem::absolute(raw.runtime_api);
  options.runtime = std::filesystem::absolute(raw.runtime);
  options.native = raw.native.empty() ? options.runtime / "_native.abi3.so" : std::filesystem::absolute(raw.native);
  options.uv = std::filesystem::absolute(raw.uv);
  options.pyarrow = std::filesystem::absolute(raw.pyarrow);
  options.log_level = kLevels.at(raw.level);
  options.grace = std::chrono::seconds(raw.grace);
  options.queue_limit = std::chrono::seconds(raw.queue);
  options.idle_instance = std::chrono::duration_cast<Millis>(std::chrono::duration<double>(raw.idle_instance));
  options.idle_template = std::chrono::seconds(raw.idle_template);
  options.idle_environment = std::chrono::seconds(raw.idle_environment);
  struct stat input{};
  const bool known = ::fstat(STDIN_FILENO, &input) == 0;
  if (options.until_stdin_ends && !(known && (S_ISFIFO(input.st_mode) || S_ISSOCK(input.st_mode)))) {
    parsed.text =
        "--until-stdin-ends: standard input is no pipe. Start the server with one, or leave the option out.\n";
    parsed.status = 2;
    return parsed;
  }
  for (const char* name : kArithmetic) {
    if (const char* value = std::getenv(name)) options.arithmetic[name] = value;
  }
  for (const std::string& word : raw.pythons) {
    const auto [version, path] = python_of(word);
    if (version.empty() || !std::filesystem::exists(path)) {
      parsed.text =
          "--python " + word + ": give VERSION=PATH of an interpreter that exists, e.g. 3.11=/usr/bin/python3.11\n";
      parsed.status = 2;
      return parsed;
    }
    options.pythons.emplace_back(version, path);
  }
  parsed.run = true;
  return parsed;
}

}  // namespace sundog::app
