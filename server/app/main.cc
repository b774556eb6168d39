// sundog-server: parse, start, run.

#include <malloc.h>

#include <csignal>
#include <cstdio>

#include "app/options.h"
#include "app/server.h"

int main(int count, char** words) {
  const auto parsed = sundog::app::parse_options(count, words);
  if (!parsed.run) {
    std::fputs(parsed.text.c_str(), parsed.status == 0 ? stdout : stderr);
    return parsed.status;
  }
  ::signal(SIGPIPE, SIG_IGN);
  // Two heaps that all threads share, not one for each thread of the pool that keeps what its busiest moment took.
  ::mallopt(M_ARENA_MAX, 2);
  auto server = sundog::app::Server::open(parsed.options);
  if (!server.ok()) {
    std::fprintf(stderr, "sundog-server cannot start: %s\n", server.error().text().c_str());
    return 1;
  }
  return (*server)->run();
}
