#include "memory.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

namespace sundog::native {
namespace {

constexpr uintptr_t kHugePage = 2 << 20;
constexpr int kCollapse = 25;  // MADV_COLLAPSE

using Range = std::pair<uintptr_t, uintptr_t>;

// The huge pages that lie wholly within writable, private memory without a file. Read before anything is changed.
std::vector<Range> candidates() {
  std::vector<Range> found;
  FILE* maps = fopen("/proc/self/maps", "re");
  if (maps == nullptr) return found;
  char line[512];
  while (fgets(line, sizeof(line), maps) != nullptr) {
    unsigned long begin = 0, end = 0;
    char rights[5] = {}, name[8] = {};
    if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %7s", &begin, &end, rights, name) < 3) continue;
    if (strcmp(rights, "rw-p") != 0 || (name[0] != '\0' && strcmp(name, "[heap]") != 0)) continue;
    begin = (begin + kHugePage - 1) / kHugePage * kHugePage;
    for (; begin + kHugePage <= end; begin += kHugePage) found.emplace_back(begin, begin + kHugePage);
  }
  fclose(maps);
  return found;
}

}  // namespace

size_t gather_memory() {
  size_t gathered = 0;
  for (const auto& [begin, end] : candidates()) {
    if (syscall(SYS_madvise, begin, end - begin, kCollapse) == 0) gathered += end - begin;
  }
  return gathered;
}

}  // namespace sundog::native
