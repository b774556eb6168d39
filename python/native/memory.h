// What a template does to its memory before it parks, so that forks from it are cheap.
//
// Threads     one at a time; allocates.
#pragma once

#include <cstddef>

namespace sundog::native {

// Gathers private anonymous memory into huge pages where the kernel can (Linux 6.1): a fork copies one entry for each
// instead of 512, and a page that a child writes to is split off again at 4 KB. Gives the bytes gathered; 0 where the
// kernel cannot.
size_t gather_memory();

}  // namespace sundog::native
