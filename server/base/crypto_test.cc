#include "base/crypto.h"

#include <gtest/gtest.h>

#include <set>

#include "base/ids.h"

namespace sundog {
namespace {

// FIPS 180-4's examples.
TEST(Sha256, KnownVectors) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_EQ(hex(sha256("abc")), sha256_hex("abc"));
}

TEST(Sha256, OfAStreamIsThatOfTheWhole) {
  const std::string text(100'000, 'x');
  Sha256 hash;
  for (size_t at = 0, piece = 1; at < text.size(); at += piece, piece = piece * 3 % 10'007) {
    piece = std::min(piece, text.size() - at);
    hash.update(std::string_view(text).substr(at, piece));
  }
  EXPECT_EQ(hash.finish_hex(), sha256_hex(text));
  EXPECT_EQ(Sha256().finish_hex(), sha256_hex(""));
}

// RFC 4231, test cases 1, 2, 3 and 6 (a key longer than a block).
TEST(HmacSha256, KnownVectors) {
  EXPECT_EQ(hex(hmac_sha256(std::string(20, '\x0b'), "Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(hex(hmac_sha256("Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(hex(hmac_sha256(std::string(20, '\xaa'), std::string(50, '\xdd'))),
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
  EXPECT_EQ(hex(hmac_sha256(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

// RFC 4648, section 10.
TEST(Base64, KnownVectorsBothWays) {
  const std::pair<std::string, std::string> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, encoded] : vectors) {
    EXPECT_EQ(base64(plain), encoded);
    EXPECT_EQ(*from_base64(encoded), plain);
  }
  const auto bytes = random_bytes(1000);
  EXPECT_EQ(*from_base64(base64(bytes)), bytes);
  EXPECT_EQ(*from_base64(base64(std::string(3, '\0'))), std::string(3, '\0'));
}

TEST(Base64, RefusesWhatIsNot) {
  for (const auto* text : {"Zg", "Zg=", "Z", "Zm9v!mFy", "Zm9\xff"}) {
    const auto decoded = from_base64(text);
    ASSERT_FALSE(decoded.ok()) << text;
    EXPECT_EQ(decoded.error().code, Code::invalid_argument);
  }
}

TEST(Hex, IsLowerCase) {
  EXPECT_EQ(hex(std::string("\x00\x0f\xf0\xab", 4)), "000ff0ab");
}

TEST(Seal, OpensWithItsKeyOnly) {
  const auto key = random_bytes(32);
  for (const auto& plain : {std::string(), std::string("secret"), random_bytes(10'000)}) {
    const auto sealed = seal(key, plain);
    EXPECT_EQ(*open_sealed(key, sealed), plain);
    EXPECT_NE(seal(key, plain), sealed) << "the nonce is random";
    EXPECT_EQ(open_sealed(random_bytes(32), sealed).error().code, Code::data_loss);
    EXPECT_EQ(open_sealed("short key", sealed).error().code, Code::data_loss);
  }
}

TEST(Seal, FindsAnyByteThatWasChanged) {
  const auto key = random_bytes(32);
  const auto sealed = seal(key, "secret");
  for (size_t i = 0; i < sealed.size(); ++i) {
    auto tampered = sealed;
    tampered[i] = static_cast<char>(tampered[i] ^ 1);
    EXPECT_FALSE(open_sealed(key, tampered).ok()) << "byte " << i;
    EXPECT_FALSE(open_sealed(key, sealed.substr(0, i)).ok()) << i << " bytes of it";
  }
}

TEST(EqualInConstantTime, Compares) {
  EXPECT_TRUE(equal_in_constant_time("", ""));
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abc", "abd"));
  EXPECT_FALSE(equal_in_constant_time("abc", "ab"));
}

TEST(Ids, HaveTheirFormAndDiffer) {
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    const auto id = uuid4();
    ASSERT_EQ(id.size(), 36U);
    EXPECT_EQ(id[14], '4');
    EXPECT_NE(std::string_view("89ab").find(id[19]), std::string_view::npos);
    for (const size_t dash : {8, 13, 18, 23}) EXPECT_EQ(id[dash], '-');
    seen.insert(id);
    seen.insert(short_id("run"));
    seen.insert(id_digits(15));
  }
  EXPECT_EQ(seen.size(), 3000U);
  EXPECT_EQ(id_digits(15).size(), 15U);
  EXPECT_EQ(id_digits(3000).find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(short_id("run").size(), std::string_view("run-3f9a0c2b7d1e").size());
  EXPECT_TRUE(short_id("run").starts_with("run-"));
}

}  // namespace
}  // namespace sundog
