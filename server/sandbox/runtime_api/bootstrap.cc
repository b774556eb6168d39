#include "sandbox/runtime_api/bootstrap.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

namespace sundog::sandbox {
namespace {

bool is_executable_file(const std::string& program) {
  struct stat status{};
  return stat(program.c_str(), &status) == 0 && S_ISREG(status.st_mode) && access(program.c_str(), X_OK) == 0;
}

[[noreturn]] void execute(const std::string& program, const std::string& folder, char* const* environment,
                          int error_pipe) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (chdir(folder.c_str()) == 0) {
    char* const argv[] = {const_cast<char*>(program.c_str()), nullptr};
    execve(program.c_str(), argv, environment);
  }
  const int error = errno;
  if (write(error_pipe, &error, sizeof(error)) < 0) _exit(126);
  _exit(127);
}

}  // namespace

Result<Bootstrap> Bootstrap::start(const std::string& program, const std::string& folder,
                                   const std::vector<std::string>& variables) {
  if (!is_executable_file(program)) {
    return fail(Code::unavailable, "Couldn't find valid bootstrap(s): [" + program + "]",
                "The package needs an executable file \"bootstrap\" at its top.");
  }
  std::vector<char*> environment;
  for (const auto& variable : variables) environment.push_back(const_cast<char*>(variable.c_str()));
  environment.push_back(nullptr);
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) return fail_errno("make a pipe", errno);
  const UniqueFd reads(report[0]);
  UniqueFd writes(report[1]);
  const pid_t pid = fork();
  if (pid < 0) return fail_errno("start the bootstrap", errno);
  if (pid == 0) execute(program, folder, environment.data(), writes.get());
  writes.reset();
  int error = 0;
  if (read(reads.get(), &error, sizeof(error)) == sizeof(error)) {
    waitpid(pid, nullptr, 0);
    std::string why = std::strerror(error);
    if (error == ENOEXEC) why = "exec format error";
    return fail(Code::unavailable, "fork/exec " + program + ": " + why,
                error == ENOEXEC ? "A script begins with #! and its interpreter." : "");
  }
  UniqueFd ended(int(syscall(SYS_pidfd_open, pid, 0)));
  if (!ended) return fail_errno("watch the bootstrap", errno);
  return Bootstrap(pid, std::move(ended));
}

ProcessEnd Bootstrap::wait() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFSIGNALED(status)) return {0, WTERMSIG(status)};
  return {WEXITSTATUS(status), 0};
}

}  // namespace sundog::sandbox
