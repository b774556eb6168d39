// sundog-launcher: starts and ends confined process trees for the server that started it (socket on descriptor 3).
#include <cstdio>
#include <cstring>
#include <string>

#include "sandbox/launcher/doctor.h"
#include "sandbox/launcher/launcher.h"

int main(int argc, char** argv) {
  sundog::sandbox::launcher::LauncherOptions options;
  bool doctor = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--doctor") {
      doctor = true;
    } else if (argument == "--insecure-test") {
      options.insecure_test = true;
    } else if (argument == "--name" && i + 1 < argc) {
      options.name = argv[++i];
    } else if (argument == "--cgroup" && i + 1 < argc) {
      options.cgroup = argv[++i];
    } else {
      fprintf(stderr,
              "usage: sundog-launcher [--cgroup FOLDER] --doctor | [--name NAME] with a socket on descriptor 3\n");
      return 64;
    }
  }
  if (doctor) return fputs(sundog::sandbox::launcher::doctor_report(options.cgroup).c_str(), stdout) < 0 ? 1 : 0;
  if (options.name.empty() ||
      options.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != options.name.npos) {
    fprintf(stderr, "sundog-launcher: a name is made of a-z, 0-9 and -\n");
    return 64;
  }
  return sundog::sandbox::launcher::serve(options);
}
