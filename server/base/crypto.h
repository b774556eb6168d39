// Hashes, MACs, random bytes and sealing, over OpenSSL. Stateless; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sundog {

std::string sha256(std::string_view data);  // 32 raw bytes
std::string sha256_hex(std::string_view data);
std::string hmac_sha256(std::string_view key, std::string_view data);  // 32 raw bytes
std::string hex(std::string_view bytes);
std::string base64(std::string_view bytes);
Result<std::string> from_base64(std::string_view text);
std::string random_bytes(size_t count);
// True if both are equal; takes the same time whatever differs.
bool equal_in_constant_time(std::string_view a, std::string_view b);

// AES-256-GCM with a random nonce: seal() gives nonce + ciphertext + tag; open() gives data_loss when it was tampered
// with.
std::string seal(std::string_view key32, std::string_view plain);
Result<std::string> open_sealed(std::string_view key32, std::string_view sealed);

// SHA-256 of a stream.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void update(std::string_view data);
  std::string finish_hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sundog
