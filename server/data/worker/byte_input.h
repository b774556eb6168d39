// Byte inputs: a blob's bytes as a stream of UTF-8 text, whatever it is compressed with or encoded in.
// Streaming: memory is bounded however far the content expands.
//
// Threads     one reader, one thread.
// Failure     invalid_argument: broken or cut-off compression, a stray byte order, an odd UTF-16 stream
#pragma once

#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/fd.h"
#include "base/result.h"

namespace sundog::data::worker {

enum class Compression { none, gz, xz, zst };

// By the first bytes.
Compression compression_of(std::string_view first_bytes);
// "auto" gives what the first bytes say; a name that the bytes contradict is an error.
Result<Compression> choose_compression(const std::string& asked, std::string_view first_bytes);

// The first `count` bytes of the file (fewer if it is shorter).
Result<std::string> peek(int fd, size_t count);

// The file from its beginning; `fd` stays the caller's and open.
std::unique_ptr<ByteSource> file_source(int fd);
Result<std::unique_ptr<ByteSource>> decompressed(std::unique_ptr<ByteSource> source, Compression compression);
// `encoding`: "utf-8" (a byte order mark may say utf-16), "utf-16", "utf-16le", "utf-16be", "latin-1", "windows-1252".
Result<std::unique_ptr<ByteSource>> decoded(std::unique_ptr<ByteSource> source, const std::string& encoding);

}  // namespace sundog::data::worker
