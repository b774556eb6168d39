#include "functions/package.h"

#include <archive.h>
#include <archive_entry.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/crypto.h"
#include "functions/code_store.h"
#include "functions/test_zip.h"
#include "store/test_folder.h"

namespace sundog::functions {
namespace {

using store::On;
using store::TestFolder;
using testing::HasSubstr;

unsigned mode_of(const Path& path) {
  struct stat info{};
  EXPECT_EQ(::lstat(path.c_str(), &info), 0) << path;
  return info.st_mode & 07777;
}

// Zeros, deflated: what bombs are made of.
std::string deflated_zeros(size_t bytes, const std::string& name = "zeros.bin") {
  std::string out(1 << 20, '\0');
  size_t used = 0;
  archive* writer = archive_write_new();
  archive_write_set_format_zip(writer);
  archive_write_open_memory(writer, out.data(), out.size(), &used);
  archive_entry* entry = archive_entry_new();
  archive_entry_set_pathname(entry, name.c_str());
  archive_entry_set_filetype(entry, AE_IFREG);
  archive_entry_set_perm(entry, 0644);
  archive_entry_set_size(entry, static_cast<la_int64_t>(bytes));
  archive_write_header(writer, entry);
  const std::string piece(1 << 16, '\0');
  for (size_t left = bytes; left > 0;) {
    const size_t count = std::min(left, piece.size());
    archive_write_data(writer, piece.data(), count);
    left -= count;
  }
  archive_entry_free(entry);
  archive_write_close(writer);
  archive_write_free(writer);
  out.resize(used);
  return out;
}

class PackageTest : public testing::Test {
 protected:
  // The words with which a package is refused; nothing of it may be left.
  std::string refusal(const std::string& zip, const PackageLimits& limits = {}) {
    const auto result = extract_package(zip, folder_.path() / "code", limits);
    EXPECT_FALSE(std::filesystem::exists(folder_.path() / "code"));
    EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
    EXPECT_FALSE(check_package(zip, limits).ok());
    if (result.ok()) return "accepted";
    EXPECT_EQ(result.error().code, Code::invalid_argument);
    return result.error().message;
  }

  TestFolder folder_{On::memory};
};

TEST_F(PackageTest, ExtractsFilesAndFoldersThatAllMayRead) {
  const std::string zip = make_zip({{"app.py", "x = 1\n", 0100600},
                                    {"bin/run", "#!/bin/sh\n", 0100700},
                                    {"./lib//deep/./mod.py", "", 0100644},
                                    {"empty/", "", 040700},
                                    {"d\xc3\xa9j\xc3\xa0.txt", "vu", 0100644, 0x800}});
  const Path code = folder_.path() / "code";
  const auto info = extract_package(zip, code, {});
  ASSERT_TRUE(info.ok()) << info.error().text();
  EXPECT_EQ(info->files, 4);
  EXPECT_EQ(info->unzipped_bytes, 18);
  EXPECT_EQ(*read_file(code / "app.py"), "x = 1\n");
  EXPECT_EQ(*read_file(code / "d\xc3\xa9j\xc3\xa0.txt"), "vu");
  EXPECT_TRUE(std::filesystem::is_regular_file(code / "lib/deep/mod.py"));
  EXPECT_EQ(mode_of(code), 0755U);
  EXPECT_EQ(mode_of(code / "app.py"), 0644U);
  EXPECT_EQ(mode_of(code / "bin/run"), 0755U);
  EXPECT_EQ(mode_of(code / "empty"), 0755U);
  EXPECT_EQ(mode_of(code / "lib/deep"), 0755U);
}

TEST_F(PackageTest, RefusesPathsThatLeaveTheFolder) {
  for (const std::string name : {"../evil", "a/../../evil", "/etc/passwd", "a/..", ".."}) {
    EXPECT_THAT(refusal(make_zip({{"ok.py", "1"}, {name, "evil"}})),
                HasSubstr(name.starts_with("/") ? "absolute" : "leaves the package's folder"))
        << name;
  }
  EXPECT_FALSE(std::filesystem::exists(folder_.path().parent_path() / "evil"));
}

TEST_F(PackageTest, RefusesWhatIsNoPlainFile) {
  EXPECT_THAT(refusal(make_zip({{"link", "/etc/passwd", 0120777}})), HasSubstr("\"link\" is a symbolic link"));
  EXPECT_THAT(refusal(make_zip({{"disk", "", 060600}})), HasSubstr("\"disk\" is a device"));
  EXPECT_THAT(refusal(make_zip({{"tty", "", 020600}})), HasSubstr("\"tty\" is a device"));
}

// The zip reader takes some odd modes for "no type given".
TEST_F(PackageTest, WhateverAModeSaysOnlyPlainFilesComeOut) {
  for (const unsigned type : {010000U, 0140000U, 0110000U, 070000U, 0U}) {
    const Path code = folder_.path() / "code";
    const auto extracted = extract_package(make_zip({{"odd", "x", type | 04777}}), code, {});
    if (extracted.ok()) {
      EXPECT_TRUE(std::filesystem::is_regular_file(std::filesystem::symlink_status(code / "odd"))) << type;
      EXPECT_EQ(mode_of(code / "odd"), 0755U) << type;
    }
    ASSERT_TRUE(remove_tree(code).ok());
  }
}

TEST_F(PackageTest, RefusesAFileThatWouldGoThroughALink) {
  EXPECT_THAT(refusal(make_zip({{"out", "/tmp", 0120777}, {"out/evil", "x"}})), HasSubstr("symbolic link"));
}

TEST_F(PackageTest, RefusesNamesThatAreThereTwice) {
  EXPECT_THAT(refusal(make_zip({{"a.py", "1"}, {"a.py", "2"}})), HasSubstr("\"a.py\" is there twice"));
  EXPECT_THAT(refusal(make_zip({{"a.py", "1"}, {"./a.py", "2"}})), HasSubstr("twice"));
  EXPECT_THAT(refusal(make_zip({{"a", "1"}, {"a/b", "2"}})), HasSubstr("both a file and a folder"));
  EXPECT_THAT(refusal(make_zip({{"a/b", "1"}, {"a", "2"}})), HasSubstr("\"a\""));
}

TEST_F(PackageTest, RefusesUnreadableNames) {
  EXPECT_THAT(refusal(make_zip({{std::string(300, 'x'), "1"}})), HasSubstr("255 bytes"));
  std::string deep = "f";
  for (int i = 0; i < 70; ++i) deep.insert(0, "d/");
  EXPECT_THAT(refusal(make_zip({{deep, "1"}})), HasSubstr("64 folders"));
  EXPECT_THAT(refusal(make_zip({{"a\nb", "1"}})), HasSubstr("control character"));
}

TEST_F(PackageTest, RefusesEncryptedEntries) {
  EXPECT_THAT(refusal(make_zip({{"secret.py", "0123456789abcdef", 0100644, 1}})),
              HasSubstr("secret.py\" is encrypted"));
}

TEST_F(PackageTest, RefusesGarbageAndEmptyZips) {
  EXPECT_THAT(refusal(""), HasSubstr("Could not unzip"));
  EXPECT_THAT(refusal("this is not a zip file at all"), HasSubstr("Could not unzip"));
  EXPECT_THAT(refusal(make_zip({})), HasSubstr("Could not unzip"));
  EXPECT_THAT(refusal(make_zip({{"only/", "", 040755}})), HasSubstr("no file"));
}

TEST_F(PackageTest, RefusesDamageAnywhere) {
  const std::string whole = make_zip({{"app.py", "print('hello world')\n"}, {"b.py", "y = 2\n"}});
  for (size_t length = 0; length < whole.size(); length += 7) refusal(whole.substr(0, length));
  std::string flipped = whole;
  flipped[40] = static_cast<char>(flipped[40] ^ 1);  // in the first file's content
  EXPECT_THAT(refusal(flipped), HasSubstr("\"app.py\" is damaged"));
}

TEST_F(PackageTest, StopsAtTheSizeLimit) {
  PackageLimits limits;
  limits.unzipped_bytes = 1 << 20;
  EXPECT_THAT(refusal(deflated_zeros((1 << 20) + 1), limits), HasSubstr("Unzipped size must be smaller than 1048576"));
  EXPECT_TRUE(check_package(deflated_zeros(1 << 20), limits).ok());
}

TEST_F(PackageTest, StopsAtTheRatioOfABomb) {
  PackageLimits limits;
  limits.ratio_floor = 1 << 20;
  EXPECT_THAT(refusal(deflated_zeros(8 << 20), limits), HasSubstr("300 times"));
}

TEST_F(PackageTest, StopsAtTheCountLimit) {
  PackageLimits limits;
  limits.entries = 3;
  EXPECT_THAT(refusal(make_zip({{"a", ""}, {"b", ""}, {"c", ""}, {"d", ""}}), limits),
              HasSubstr("more than 3 entries"));
}

TEST(CodeStoreTest, KeepsOneFolderAContentAndSweepsWhatNobodyNames) {
  TestFolder folder(On::memory);
  FakeClock clock;
  ASSERT_TRUE(make_directories(folder.path() / ".new-code-left").ok());
  CodeStore code(clock, folder.path(), {});
  EXPECT_FALSE(std::filesystem::exists(folder.path() / ".new-code-left"));
  const std::string zip = handler_zip();
  const std::string id = sha256_hex(zip);
  auto pin = code.add(zip, id);
  ASSERT_TRUE(pin.ok()) << pin.error().text();
  ASSERT_TRUE(code.add(zip, id).ok());
  EXPECT_TRUE(code.has(id));
  code.sweep({}, Millis{1000});
  clock.advance(Millis{5000});
  code.sweep({}, Millis{1000});
  EXPECT_TRUE(code.has(id)) << "pinned";
  pin = CodeStore::Pin{};
  code.sweep({id}, Millis{1000});
  clock.advance(Millis{5000});
  code.sweep({}, Millis{1000});
  EXPECT_TRUE(code.has(id)) << "named until now";
  clock.advance(Millis{5000});
  code.sweep({}, Millis{1000});
  EXPECT_FALSE(code.has(id));
}

}  // namespace
}  // namespace sundog::functions
