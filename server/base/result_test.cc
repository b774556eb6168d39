#include "base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <set>

namespace sundog {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return fail(Code::invalid_argument, "The number is odd.", "Send an even one.");
  return number / 2;
}

Result<int> quarter(int number) {
  SUNDOG_TRY(once, half(number));
  SUNDOG_TRY(twice, half(once));
  return twice;
}

Status check_quarter(int number) {
  SUNDOG_CHECK(quarter(number));
  return done;
}

TEST(Result, HoldsAValueOrAnError) {
  const auto good = half(4);
  ASSERT_TRUE(good.ok());
  EXPECT_TRUE(static_cast<bool>(good));
  EXPECT_EQ(*good, 2);
  const auto bad = half(3);
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().code, Code::invalid_argument);
  EXPECT_EQ(bad.error().message, "The number is odd.");
  EXPECT_EQ(bad.error().hint, "Send an even one.");
}

TEST(Result, TryAndCheckHandErrorsUpwardWithTheirOrigin) {
  EXPECT_EQ(*quarter(8), 2);
  const auto bad = quarter(6);  // half of 6 is odd
  ASSERT_FALSE(bad.ok());
  EXPECT_STREQ(bad.error().where.function_name(), half(3).error().where.function_name());
  EXPECT_TRUE(check_quarter(4).ok());
  EXPECT_EQ(check_quarter(5).error().code, Code::invalid_argument);
}

TEST(Result, CarriesWhatCanOnlyBeMoved) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(7);
  ASSERT_TRUE(result.ok());
  const auto owned = std::move(*result);
  EXPECT_EQ(*owned, 7);
  EXPECT_EQ(result->get(), nullptr);
}

TEST(Error, TextJoinsMessageAndHint) {
  EXPECT_EQ(fail(Code::not_found, "No function \"f\".").text(), "No function \"f\".");
  EXPECT_EQ(fail(Code::not_found, "No function \"f\".", "Create it.").text(), "No function \"f\". Create it.");
}

TEST(Error, RemembersWhereItWasMade) {
  const auto error = fail(Code::internal, "x");
  EXPECT_NE(std::string_view(error.where.file_name()).find("result_test.cc"), std::string_view::npos);
}

TEST(Error, OfErrnoSaysWhatFailedAndWhatToDo) {
  const auto full = fail_errno("write /data/x", ENOSPC);
  EXPECT_EQ(full.code, Code::unavailable);
  EXPECT_EQ(full.message, "Cannot write /data/x: No space left on device.");
  EXPECT_NE(full.hint.find("space"), std::string::npos);
  EXPECT_EQ(fail_errno("open x", ENOENT).code, Code::not_found);
  EXPECT_EQ(fail_errno("open x", EEXIST).code, Code::already_exists);
  EXPECT_EQ(fail_errno("open x", EACCES).code, Code::permission_denied);
  EXPECT_EQ(fail_errno("open x", EIO).code, Code::unavailable);
  EXPECT_EQ(fail_errno("write x", EFBIG).code, Code::too_large);
  EXPECT_EQ(fail_errno("open x", ENOTDIR).code, Code::internal);
  EXPECT_TRUE(fail_errno("open x", ENOENT).hint.empty());
}

TEST(Code, EachHasItsOwnName) {
  std::set<std::string_view> names;
  const int last = static_cast<int>(Code::internal);
  for (int code = 0; code <= last; ++code) names.insert(name(static_cast<Code>(code)));
  EXPECT_EQ(names.size(), static_cast<size_t>(last) + 1);
  EXPECT_EQ(name(Code::data_loss), "data_loss");
}

}  // namespace
}  // namespace sundog
