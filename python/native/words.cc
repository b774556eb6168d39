#include "words.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

namespace sundog::native {
namespace {

constexpr long kMseal = 462;
constexpr size_t kPage = 4096;  // the words; the table begins behind them

bool crosses_border(const void* from, size_t bytes) {
  const auto first = reinterpret_cast<uintptr_t>(from);
  return (first >> 32) != ((first + bytes - 1) >> 32);
}

int map_sealed(const std::string& content, const char*& out) {
  const int memory = memfd_create("mount-words", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memory < 0) return errno;
  void* page = MAP_FAILED;
  if (write(memory, content.data(), content.size()) == ssize_t(content.size()) &&
      fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0) {
    page = mmap(nullptr, content.size(), PROT_READ, MAP_SHARED, memory, 0);
    // A second mapping lies elsewhere: the first is still there while it is made.
    if (page != MAP_FAILED && crosses_border(page, content.size())) {
      void* const first = page;
      page = mmap(nullptr, content.size(), PROT_READ, MAP_SHARED, memory, 0);
      munmap(first, content.size());
    }
  }
  const int error = errno;
  close(memory);
  if (page == MAP_FAILED) return error;
  out = static_cast<const char*>(page);
  return 0;
}

int seal(const std::string& table, SealedWords& out) {
  Words words{};
  strcpy(words.type, "tmpfs");
  strcpy(words.tmp, "/tmp");
  strcpy(words.shm, "/dev/shm");
  strcpy(words.task, "/var/task");
  std::string content(kPage, '\0');
  memcpy(content.data(), &words, sizeof(words));
  content += table;
  content.resize((content.size() + kPage - 1) / kPage * kPage);
  const char* mapped = nullptr;
  if (const int error = map_sealed(content, mapped)) return error;
  out.words = reinterpret_cast<const Words*>(mapped);
  out.options = mapped + kPage;
  out.count = unsigned(table.size() / kOptionBytes);
  out.immovable = syscall(kMseal, mapped, content.size(), 0UL) == 0;
  return 0;
}

}  // namespace

int seal_words(const char* options, SealedWords& out) {
  if (strlen(options) >= kOptionBytes) return ENAMETOOLONG;
  std::string table(options);
  table.resize(kOptionBytes);
  return seal(table, out);
}

int seal_words_of_all_sizes(SealedWords& out) {
  std::string table(size_t{kMaxMegabytes} * kOptionBytes, '\0');
  for (unsigned megabytes = 1; megabytes <= kMaxMegabytes; ++megabytes) {
    snprintf(table.data() + size_t{megabytes - 1} * kOptionBytes, kOptionBytes, "size=%um,mode=1777", megabytes);
  }
  return seal(table, out);
}

}  // namespace sundog::native
