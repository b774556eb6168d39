// sundog-launcher: starts and ends confined process trees for the server that started it (socket on descriptor 3).
#include <cstdio>
#include <cstring>
#include <string>

#include "sandbox/launcher/doctor.h"
#include "sandbox/launcher/launcher.h"

int main(int argc, char** argv) {
  sundog::sandbox::launcher::LauncherOptions options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--doctor") {
      fputs(sundog::sandbox::launcher::doctor_report().c_str(), stdout);
      return 0;
    }
    if (argument == "--insecure-test") {
      options.insecure_test = true;
    } else if (argument == "--name" && i + 1 < argc) {
      options.name = argv[++i];
    } else {
      fprintf(stderr, "usage: sundog-launcher --doctor | [--name NAME] with a socket on descriptor 3\n");
      return 64;
    }
  }
  if (options.name.empty() ||
      options.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != options.name.npos) {
    fprintf(stderr, "sundog-launcher: a name is made of a-z, 0-9 and -\n");
    return 64;
  }
  return sundog::sandbox::launcher::serve(options);
}
