// Words: the only arguments that mount(2) and move_mount(2) may have in a template, in pages that nothing can change
// any more. The filters compare pointers, so what the pointers point to must be fixed: a shared mapping of a sealed
// memory file, which not even /proc/self/mem writes to, and which mseal keeps where it is.
//
// Ownership   mapped for the life of the process and of its forks.
// Failure     errno.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sundog::native {

inline constexpr size_t kOptionBytes = 32;           // one entry of the table; its alignment is part of the filter
inline constexpr unsigned kMaxMegabytes = 10'240;    // of a function's /tmp
inline constexpr unsigned long kTmpfsFlags = 2 | 4;  // MS_NOSUID | MS_NODEV

struct Words {
  char type[32];   // "tmpfs"
  char tmp[32];    // "/tmp"
  char shm[32];    // "/dev/shm"
  char task[32];   // "/var/task"
  char empty[32];  // "": the source of move_mount is a descriptor
};

struct SealedWords {
  const Words* words = nullptr;
  const char* options = nullptr;  // a table of `count` entries of kOptionBytes; never across a 4 GiB border
  unsigned count = 0;
  bool immovable = false;  // mseal held
};

// A table of one entry: what the options of a tmpfs are, less than kOptionBytes.
int seal_words(const char* options, SealedWords& out);
// A table of "size=1m,mode=1777" to kMaxMegabytes: one size is picked when a function's template begins.
int seal_words_of_all_sizes(SealedWords& out);

inline const char* options_of(const SealedWords& sealed, unsigned megabytes) {
  return sealed.options + size_t{megabytes - 1} * kOptionBytes;
}

}  // namespace sundog::native
