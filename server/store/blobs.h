// Blobs: immutable objects addressed by the SHA-256 of their content.
//
// Ownership   one Blobs per server, created in app/, passed by reference; outlives every caller.
// Threads     every function may be called from any thread and may block on the disk: never call it on the loop thread.
// Durability  put() has returned ok  =>  the object survives kill -9 and power loss.
// Failure     unavailable (disk full, store unreachable) · not_found · out of range is invalid_argument ·
//             data_loss (content does not match its address; checked by verify())
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/fd.h"
#include "base/result.h"

namespace sundog::store {

using BlobId = std::string;  // 64 hexadecimal digits

bool is_blob_id(std::string_view text);

struct BlobInfo {
  BlobId id;
  int64_t bytes = 0;
};

class Blobs {
 public:
  virtual ~Blobs() = default;

  // Stores what `source` yields and returns its address. Storing the same content twice is cheap and not an error.
  // Nothing is visible before the whole object is.
  virtual Result<BlobInfo> put(ByteSource& source) = 0;
  Result<BlobInfo> put(std::string_view content) {
    StringSource source(content);
    return put(source);
  }

  // Reads [offset, offset + length); reading past the end is invalid_argument, not a short answer.
  virtual Result<Bytes> get(const BlobId& id, int64_t offset, int64_t length) const = 0;
  virtual Result<Bytes> get(const BlobId& id) const = 0;
  virtual Result<BlobInfo> info(const BlobId& id) const = 0;
  // A read-only descriptor of the object's bytes on this machine, to hand to an instance. A remote store fetches first.
  virtual Result<UniqueFd> open(const BlobId& id) const = 0;
  // Calls `each` for every object in order of address until it returns false.
  virtual Status list(const std::function<bool(const BlobInfo&)>& each) const = 0;
  virtual Status remove(const BlobId& id) = 0;
  // Reads the object and compares its hash with its address.
  virtual Status verify(const BlobId& id) const = 0;

  // An unlinked, writable file on the store's own disk, for content that is produced piece by piece; put_file() then
  // stores what is in it, from the beginning.
  virtual Result<UniqueFd> scratch() = 0;
  virtual Result<BlobInfo> put_file(int fd) = 0;
};

}  // namespace sundog::store
