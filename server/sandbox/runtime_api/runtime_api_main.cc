// sundog-runtime-api: the first process of a custom runtime's instance. It starts the bootstrap and serves it Lambda's
// Runtime API; the server is on descriptor 3.
//
//   sundog-runtime-api --init-timeout MILLISECONDS [--way-out]
//
// Variables of its own environment that begin with + are the bootstrap's: what a function sets (LD_PRELOAD, say) must
// not change this process, which hands the function's way out to the server before anything of the user's runs.
#include <fcntl.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "sandbox/loopback.h"
#include "sandbox/runtime_api/runtime_api.h"

#if __has_feature(address_sanitizer)
// It looks for leaks by tracing the process, which the seal forbids: the exit status would be its, not ours.
extern "C" int __lsan_is_turned_off();  // NOLINT(bugprone-reserved-identifier)
extern "C" int __lsan_is_turned_off() {
  return 1;
}
#endif

namespace {

constexpr uint16_t kPort = 9001;  // as on Lambda

std::vector<std::string> variables_of_the_bootstrap() {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable; ++variable) {
    if (**variable == '+') variables.emplace_back(*variable + 1);
  }
  variables.push_back("AWS_LAMBDA_RUNTIME_API=127.0.0.1:" + std::to_string(kPort));
  return variables;
}

// The instance ends as its bootstrap did, so that the server hears the truth from the kernel.
int end_as(const sundog::sandbox::ProcessEnd& end) {
  if (end.signal == 0) return end.exit_status;
  std::signal(end.signal, SIG_DFL);
  raise(end.signal);
  return 128 + end.signal;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace sundog;
  sandbox::RuntimeApi::Options options;
  const bool way_out = argc == 4 && std::string_view(argv[3]) == "--way-out";
  if ((argc != 3 && !way_out) || std::string_view(argv[1]) != "--init-timeout" || std::atoi(argv[2]) <= 0) {
    fprintf(stderr,
            "usage: sundog-runtime-api --init-timeout MILLISECONDS [--way-out], with a socket on descriptor 3\n");
    return 64;
  }
  options.init_timeout = Millis(std::atoi(argv[2]));
  options.server = UniqueFd(3);
  fcntl(options.server.get(), F_SETFD, FD_CLOEXEC);
  auto listener = sandbox::listen_on_loopback(kPort);
  if (!listener.ok()) {
    fprintf(stderr, "%s\n", listener.error().text().c_str());
    return 1;
  }
  options.listener = std::move(*listener);
  sandbox::RuntimeApi api(std::move(options));
  if (way_out) {
    auto opened = sandbox::listen_on_loopback(sandbox::kWayOutPort);
    const Status handed = opened.ok() ? api.hand_over_way_out(std::move(*opened)) : Status(opened.error());
    if (!handed.ok()) {
      fprintf(stderr, "%s\n", handed.error().text().c_str());
      return 1;
    }
  }
  auto bootstrap = sandbox::Bootstrap::start("/var/task/bootstrap", "/var/task", variables_of_the_bootstrap());
  if (!bootstrap.ok()) {
    api.refuse(bootstrap.error());
    return 1;
  }
  return end_as(api.run(*bootstrap));
}
