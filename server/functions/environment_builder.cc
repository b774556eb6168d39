#include "functions/environment_builder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/ids.h"
#include "base/kill_point.h"
#include "functions/child.h"
#include "functions/pip_settings.h"
#include "functions/requirements.h"

namespace sundog::functions {
namespace {

constexpr std::string_view kUnfinished = ".new-";
constexpr size_t kLogLimit = 16 << 10;

Variables build_variables(const Path& folder) {
  Variables variables = process_variables();
  std::vector<std::string> files;
  for (const auto& file : pip_files(variables)) {
    auto text = read_file(file, 1 << 20);
    if (text.ok()) files.push_back(*std::move(text));  // most do not exist
  }
  variables = uv_variables(std::move(variables), files);
  variables["UV_CACHE_DIR"] = (folder / "cache").string();
  variables["UV_NO_PROGRESS"] = "1";
  variables["UV_PYTHON_DOWNLOADS"] = "never";
  variables["NO_COLOR"] = "1";
  // What the server was started in is no part of the environment that is built.
  for (const char* name : {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PROJECT", "UV_WORKING_DIR", "UV_PYTHON"}) {
    variables.erase(name);
  }
  return variables;
}

void add_log(std::string& log, std::string_view text) {
  log += without_credentials(text);
  if (log.size() > kLogLimit) log.erase(0, log.size() - kLogLimit);
}

class Removed {
 public:
  explicit Removed(Path path) : path_(std::move(path)) {}
  ~Removed() {
    std::error_code ignored;  // removed at the next start if not now
    std::filesystem::remove_all(path_, ignored);
  }
  Removed(const Removed&) = delete;
  Removed& operator=(const Removed&) = delete;

 private:
  Path path_;
};

}  // namespace

EnvironmentBuilder::EnvironmentBuilder(Path folder, Path uv, Millis timeout)
    : folder_(std::move(folder)), uv_(std::move(uv)), timeout_(timeout) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (it->path().filename().string().starts_with(kUnfinished)) std::filesystem::remove_all(it->path(), ignored);
  }
}

Status EnvironmentBuilder::run(std::vector<std::string> command, const Path& work, std::string& log) const {
  const std::string program = Path(command.front()).filename().string() + " " + command[1];
  ChildSpec spec{.command = std::move(command),
                 .environment = build_variables(folder_),
                 .folder = work,
                 .timeout = timeout_,
                 .stop = &stopping_,
                 .keep = kLogLimit};
  SUNDOG_TRY(end, run_child(spec));
  add_log(log, end.output);
  if (end.status == 0) return done;
  return fail(Code::invalid_argument, program + " ended with status " + std::to_string(end.status) + ".");
}

Status EnvironmentBuilder::resolve(const Path& work, const Path& interpreter, const std::vector<std::string>& packages,
                                   Built& built) const {
  if (packages.empty()) return done;
  std::string asked;
  for (const auto& package : packages) asked += package + "\n";
  SUNDOG_CHECK(write_file_durably(work / "asked.txt", asked, 0644));
  const std::string output = (work / "resolved.txt").string();
  std::vector<std::string> command{
      uv_.string(), "pip",         "compile",       "--quiet",       "--python", interpreter.string(),
      "--no-build", "--no-header", "--no-annotate", "--output-file", output};
  const auto variables = build_variables(folder_);
  if (variables.contains("UV_NO_INDEX")) command.emplace_back("--no-index");
  command.push_back((work / "asked.txt").string());
  SUNDOG_CHECK(run(std::move(command), work, built.log));
  SUNDOG_TRY(text, read_file(output, 1 << 20));
  built.resolved = resolved_lines(text);
  kill_point("environments.resolved");
  return done;
}

Status EnvironmentBuilder::install(const Path& work, const Path& interpreter, Built& built) const {
  const Path site = work / "site";
  if (::mkdir(site.c_str(), 0755) != 0) return fail_errno("create folder " + site.string(), errno);
  if (!built.resolved.empty()) {
    std::vector<std::string> command{uv_.string(),
                                     "pip",
                                     "install",
                                     "--python",
                                     interpreter.string(),
                                     "--no-build",
                                     "--no-deps",
                                     "--link-mode",
                                     "copy",
                                     "--target",
                                     site.string(),
                                     "--requirements",
                                     (work / "resolved.txt").string()};
    const auto variables = build_variables(folder_);
    if (variables.contains("UV_NO_INDEX")) command.emplace_back("--no-index");
    SUNDOG_CHECK(run(std::move(command), work, built.log));
    kill_point("environments.installed");
    // A package may hold files that no Python of today compiles (tests of old syntax): their failure is none of ours.
    std::string compile_log;
    const auto compiled = run({interpreter.string(), "-I", "-m", "compileall", "-q", site.string()}, work, compile_log);
    if (!compiled.ok() && compiled.error().code != Code::invalid_argument) return compiled;
  }
  SUNDOG_TRY(bytes, open_to_readers(site));
  built.bytes = bytes;
  return publish(site, built.content);
}

Status EnvironmentBuilder::publish(const Path& site, const std::string& content) const {
  {
    const UniqueFd fd(::open(site.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || ::syncfs(fd.get()) != 0) return fail_errno("write " + site.string() + " to disk", errno);
  }
  const Path target = folder_of(content);
  if (std::rename(site.c_str(), target.c_str()) != 0) {
    const int error_number = errno;
    // Another build of the same content was first: theirs is as good.
    if (error_number == ENOTEMPTY || error_number == EEXIST) return done;
    return fail_errno("rename to " + target.string(), error_number);
  }
  kill_point("environments.published");
  return fsync_directory(folder_);
}

Built EnvironmentBuilder::build(const std::string& python, const Path& interpreter,
                                const std::vector<std::string>& packages) const {
  Built built;
  const auto steps = [&]() -> Status {
    SUNDOG_CHECK(make_directories(folder_));
    const Path work = folder_ / (std::string(kUnfinished) + short_id("environment"));
    const Removed removed(work);
    if (::mkdir(work.c_str(), 0700) != 0) return fail_errno("create folder " + work.string(), errno);
    SUNDOG_CHECK(resolve(work, interpreter, packages, built));
    built.content = environment_content(python, built.resolved);
    if (!std::filesystem::is_directory(folder_of(built.content))) return install(work, interpreter, built);
    SUNDOG_TRY(bytes, open_to_readers(folder_of(built.content)));
    built.bytes = bytes;
    return done;
  };
  const auto result = steps();
  built.ok = result.ok();
  if (!result.ok()) {
    if (!built.log.empty() && built.log.back() != '\n') built.log += '\n';
    // What uv said is worth more than that it failed, and shall stand last.
    if (result.error().code == Code::invalid_argument && !built.log.empty()) return built;
    add_log(built.log, result.error().text());
  }
  return built;
}

Result<int64_t> open_to_readers(const Path& folder) {
  int64_t bytes = 0;
  std::error_code error;
  ::chmod(folder.c_str(), 0755);
  for (std::filesystem::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    struct stat info{};
    if (::lstat(it->path().c_str(), &info) != 0) return fail_errno("read " + it->path().string(), errno);
    if (S_ISLNK(info.st_mode)) continue;
    mode_t mode = 0755;
    if (S_ISREG(info.st_mode)) {
      bytes += info.st_size;
      mode = (info.st_mode & 0111) != 0 ? 0755 : 0644;
    }
    if ((info.st_mode & 07777) != mode && ::chmod(it->path().c_str(), mode) != 0) {
      return fail_errno("set the mode of " + it->path().string(), errno);
    }
  }
  if (error) return fail_errno("read " + folder.string(), error.value());
  return bytes;
}

}  // namespace sundog::functions
