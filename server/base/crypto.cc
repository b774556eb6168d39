#include "base/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <cstdlib>

namespace sundog {
namespace {
constexpr size_t kNonceBytes = 12;
constexpr size_t kTagBytes = 16;

const unsigned char* raw(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* raw(std::string& text) {
  return reinterpret_cast<unsigned char*>(text.data());
}

// OpenSSL only fails here when memory or the entropy source is gone: nothing sensible can go on.
void must(bool ok) {
  if (!ok) std::abort();
}

using Cipher = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;
}  // namespace

std::string sha256(std::string_view data) {
  // Looked up once: OpenSSL's SHA256() looks it up by name each time, which costs more than a short text's hash.
  static EVP_MD* const kDigest = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  must(EVP_Digest(data.data(), data.size(), raw(out), nullptr, kDigest, nullptr) == 1);
  return out;
}

std::string sha256_hex(std::string_view data) {
  return hex(sha256(data));
}

std::string hmac_sha256(std::string_view key, std::string_view data) {
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  unsigned int length = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), raw(data), data.size(), raw(out), &length);
  return out;
}

std::string hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    out.push_back(kDigits[byte >> 4]);
    out.push_back(kDigits[byte & 15]);
  }
  return out;
}

std::string random_bytes(size_t count) {
  std::string out(count, '\0');
  must(RAND_bytes(raw(out), static_cast<int>(count)) == 1);
  return out;
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string seal(std::string_view key32, std::string_view plain) {
  must(key32.size() == 32);
  const std::string nonce = random_bytes(kNonceBytes);
  std::string out = nonce + std::string(plain.size() + kTagBytes, '\0');
  const Cipher cipher(EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free);
  int length = 0;
  must(EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, raw(key32), raw(nonce)) == 1);
  must(EVP_EncryptUpdate(cipher.get(), raw(out) + kNonceBytes, &length, raw(plain), static_cast<int>(plain.size())) ==
       1);
  must(EVP_EncryptFinal_ex(cipher.get(), raw(out) + kNonceBytes + length, &length) == 1);
  must(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, raw(out) + kNonceBytes + plain.size()) == 1);
  return out;
}

Result<std::string> open_sealed(std::string_view key32, std::string_view sealed) {
  const Error broken = fail(Code::data_loss, "A sealed secret does not open with this server's key file.");
  if (key32.size() != 32 || sealed.size() < kNonceBytes + kTagBytes) return broken;
  const size_t size = sealed.size() - kNonceBytes - kTagBytes;
  std::string out(size, '\0');
  std::string tag(sealed.substr(kNonceBytes + size));
  const Cipher cipher(EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free);
  int length = 0;
  must(EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, raw(key32), raw(sealed)) == 1);
  must(EVP_DecryptUpdate(cipher.get(), raw(out), &length, raw(sealed) + kNonceBytes, static_cast<int>(size)) == 1);
  must(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()) == 1);
  if (EVP_DecryptFinal_ex(cipher.get(), raw(out) + length, &length) != 1) return broken;
  return out;
}

struct Sha256::State {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(), &EVP_MD_CTX_free};
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  must(EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr) == 1);
}
Sha256::~Sha256() = default;

void Sha256::update(std::string_view data) {
  must(EVP_DigestUpdate(state_->context.get(), data.data(), data.size()) == 1);
}

std::string Sha256::finish_hex() {
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  must(EVP_DigestFinal_ex(state_->context.get(), raw(out), nullptr) == 1);
  return hex(out);
}

}  // namespace sundog
