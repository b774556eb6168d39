// sundog-data: Sundog's data work as a native function.
//
//   sundog-data                        serves invocations on descriptor 3 (docs/formats/instance.md)
//   sundog-data --folder DIR < PAYLOAD runs one task by hand, with the folder's files as blobs, and prints its answer
#include <cstdio>
#include <iostream>
#include <iterator>
#include <string>

#include "data/worker/folder_host.h"
#include "data/worker/serve.h"
#include "data/worker/task.h"

namespace {

int run_by_hand(const std::string& folder) {
  const std::string payload{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  sundog::data::worker::FolderHost host(folder);
  const auto answer = sundog::data::worker::run_payload(payload, host);
  if (!answer.ok()) {
    std::fprintf(stderr, "%s\n", answer.error().text().c_str());
    return 1;
  }
  std::printf("%s\n", sundog::dump(*answer).c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (const auto started = sundog::data::worker::start_arrow(2); !started.ok()) {
    std::fprintf(stderr, "%s\n", started.error().text().c_str());
    return 1;
  }
  const std::string first = argc > 1 ? argv[1] : "";
  if (first == "--folder" && argc == 3) return run_by_hand(argv[2]);
  if (argc == 1) return sundog::data::worker::serve();
  std::fprintf(stderr, "Use: sundog-data, or sundog-data --folder DIR < PAYLOAD\n");
  return 2;
}
