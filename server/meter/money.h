// Money: an exact amount, in millionths of a millionth of the currency's unit. No floating point on the way of a bill.
//
// Rounding    once, where a price meets a quantity (price_of): half up to the 12th decimal. Sums are exact.
// Threads     plain values.
// Failure     invalid_argument: a text that is no amount, an amount below 0, over a million or with more than 12
// decimals.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sundog::meter {

class Money {
 public:
  using Pico = __int128;
  constexpr Money() = default;
  static constexpr Money of_pico(Pico pico) {
    Money money;
    money.pico_ = pico;
    return money;
  }

  constexpr Pico pico() const { return pico_; }
  double number() const { return static_cast<double>(pico_) / 1e12; }  // for showing and comparing, never for adding
  std::string text() const;  // all digits, at least two decimals: "0.0000166667"

  constexpr Money& operator+=(Money other) {
    pico_ += other.pico_;
    return *this;
  }
  friend constexpr Money operator+(Money a, Money b) { return of_pico(a.pico_ + b.pico_); }
  friend constexpr Money operator-(Money a, Money b) { return of_pico(a.pico_ - b.pico_); }
  friend constexpr bool operator==(Money a, Money b) { return a.pico_ == b.pico_; }
  friend constexpr std::strong_ordering operator<=>(Money a, Money b) {
    return a.pico_ < b.pico_ ? std::strong_ordering::less
                             : (a.pico_ > b.pico_ ? std::strong_ordering::greater : std::strong_ordering::equal);
  }

 private:
  Pico pico_ = 0;
};

// "5", "5.00", "0.0000166667".
Result<Money> parse_money(std::string_view text);
// The decimal that the number was written as.
Result<Money> money_of(double number);

// What `quantity` costs at `price` for each `unit` of it.
Money price_of(Money price, int64_t quantity, int64_t unit);

}  // namespace sundog::meter
