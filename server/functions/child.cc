#include "functions/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace sundog::functions {
namespace {

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> all;
  all.reserve(texts.size() + 1);
  for (auto& text : texts) all.push_back(text.data());
  all.push_back(nullptr);
  return all;
}

// Between fork and exec: async-signal-safe calls only.
[[noreturn]] void become(const char* folder, char* const* argv, char* const* envp, int output, pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // it died before the line above
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  const int null = ::open("/dev/null", O_RDONLY);
  if (null < 0 || ::dup2(null, 0) < 0 || ::dup2(output, 1) < 0 || ::dup2(output, 2) < 0) ::_exit(127);
  if (::chdir(folder) != 0) ::_exit(127);
  ::close_range(3, ~0U, 0);
  ::umask(022);
  ::execve(argv[0], argv, envp);
  constexpr char kMessage[] = "cannot be started\n";
  const auto written = ::write(2, kMessage, sizeof kMessage - 1);
  ::_exit(written > 0 ? 127 : 126);
}

void keep_last(std::string& output, std::string_view piece, size_t keep) {
  output.append(piece);
  if (output.size() > 2 * keep) output.erase(0, output.size() - keep);
}

// Reads what there is; false at the end of the output.
bool read_some(int fd, size_t keep, std::string& output) {
  char buffer[16384];
  while (true) {
    const ssize_t count = ::read(fd, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno == EAGAIN;
    if (count == 0) return false;
    keep_last(output, {buffer, static_cast<size_t>(count)}, keep);
  }
}

// Reads the output until the program (not all that it started) has ended; false at the deadline.
bool follow(int fd, int process, std::chrono::steady_clock::time_point deadline, const ChildSpec& spec,
            std::string& output) {
  bool open = true;
  while (true) {
    const auto left = std::chrono::duration_cast<Millis>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0 || (spec.stop != nullptr && *spec.stop)) return false;
    pollfd waiting[2] = {{process, POLLIN, 0}, {open ? fd : -1, POLLIN, 0}};
    const int ready = ::poll(waiting, 2, static_cast<int>(std::min<int64_t>(left, 200)));
    if (ready < 0 && errno != EINTR) return false;
    if (ready <= 0) continue;
    if (open && waiting[1].revents != 0) open = read_some(fd, spec.keep, output);
    if (waiting[0].revents == 0) continue;
    if (open) read_some(fd, spec.keep, output);
    return true;
  }
}

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

Result<ChildEnd> run_child(const ChildSpec& spec) {
  std::vector<std::string> arguments = spec.command;
  std::vector<std::string> variables;
  variables.reserve(spec.environment.size());
  for (const auto& [name, value] : spec.environment) variables.push_back(name + "=" + value);
  const auto argv = pointers(arguments);
  const auto envp = pointers(variables);
  const std::string folder = spec.folder.string();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("make a pipe", errno);
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  ::fcntl(reading.get(), F_SETFL, O_NONBLOCK);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("start " + spec.command.front(), errno);
  if (pid == 0) become(folder.c_str(), argv.data(), envp.data(), writing.get(), parent);
  ::setpgid(pid, pid);  // as the child does: whoever is first
  writing.reset();
  ChildEnd end;
  const auto deadline = std::chrono::steady_clock::now() + spec.timeout;
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  const bool in_time = process && follow(reading.get(), process.get(), deadline, spec, end.output);
  ::kill(-pid, SIGKILL);  // whatever of its tree is left, while its leader still holds the group's number
  end.status = wait_for(pid);
  if (end.output.size() > spec.keep) end.output.erase(0, end.output.size() - spec.keep);
  if (in_time) return end;
  if (spec.stop != nullptr && *spec.stop) return fail(Code::cancelled, spec.command.front() + " was stopped.");
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(spec.timeout).count();
  return fail(Code::deadline_exceeded, spec.command.front() + " did not end within " + std::to_string(seconds) +
                                           " s and was stopped. Its last words: " + end.output);
}

}  // namespace sundog::functions
