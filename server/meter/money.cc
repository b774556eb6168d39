#include "meter/money.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace sundog::meter {
namespace {

constexpr int kDecimals = 12;
constexpr Money::Pico kOne = 1'000'000'000'000;
constexpr Money::Pico kMost = kOne * 1'000'000;

Error no_amount(std::string_view text, std::string_view why) {
  return fail(Code::invalid_argument,
              "\"" + std::string(text.substr(0, 40)) + "\" is no amount: " + std::string(why) + ".",
              "An amount is 0 to 1000000 with at most 12 decimals, like 5.00.");
}

bool all_digits(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::string Money::text() const {
  const bool negative = pico_ < 0;
  Pico rest = negative ? -pico_ : pico_;
  std::string digits;
  while (rest > 0 || digits.size() <= kDecimals) {
    digits.push_back(static_cast<char>('0' + static_cast<int>(rest % 10)));
    rest /= 10;
  }
  std::reverse(digits.begin(), digits.end());
  std::string out = (negative ? "-" : "") + digits.substr(0, digits.size() - kDecimals) + ".";
  std::string decimals = digits.substr(digits.size() - kDecimals);
  while (decimals.size() > 2 && decimals.back() == '0') decimals.pop_back();
  return out + decimals;
}

Result<Money> parse_money(std::string_view text) {
  const size_t dot = std::min(text.find('.'), text.size());
  const auto whole = text.substr(0, dot);
  const auto decimals = dot == text.size() ? std::string_view() : text.substr(dot + 1);
  if (whole.empty() || !all_digits(whole) || !all_digits(decimals) || (dot < text.size() && decimals.empty())) {
    return no_amount(text, "it is not written with digits and a point");
  }
  if (decimals.size() > kDecimals) return no_amount(text, "it has more than 12 decimals");
  if (whole.size() > 7) return no_amount(text, "it is over a million");
  Money::Pico pico = 0;
  for (const char c : whole) pico = pico * 10 + (c - '0');
  for (int i = 0; i < kDecimals; ++i) {
    pico = pico * 10 + (i < static_cast<int>(decimals.size()) ? decimals[static_cast<size_t>(i)] - '0' : 0);
  }
  if (pico > kMost) return no_amount(text, "it is over a million");
  return Money::of_pico(pico);
}

// The shortest decimal that gives this number again is what somebody wrote.
Result<Money> money_of(double number) {
  if (!std::isfinite(number) || number < 0) {
    return no_amount(std::to_string(number), "it is below 0");
  }
  char text[400];
  const auto end = std::to_chars(text, text + sizeof text, number, std::chars_format::fixed).ptr;
  return parse_money({text, static_cast<size_t>(end - text)});
}

Money price_of(Money price, int64_t quantity, int64_t unit) {
  return Money::of_pico((price.pico() * quantity + unit / 2) / unit);
}

}  // namespace sundog::meter
