// Result: a value, or an Error that says what happened and what to do about it.
//
// Threads     plain values; no sharing.
// Use         untrusted input, I/O and limits give a Result; our own bugs assert. SUNDOG_TRY hands an error upward.
#pragma once

#include <cassert>
#include <functional>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace sundog {

// What kind of failure it is. api/ maps each to one HTTP status and one Lambda exception; the SDK to one Python class.
enum class Code {
  invalid_argument,   // the caller sent something wrong; sending it again will not help
  unauthenticated,    // no key, or a wrong or revoked one
  permission_denied,  // a good key whose role may not do this
  not_found,
  already_exists,
  conflict,            // the state changed under the caller, or does not allow this now
  too_large,           // over a size limit; the message names the limit
  resource_exhausted,  // no room now (concurrency, memory); try later
  budget_exceeded,     // what may be spent is spent; trying again does not help until somebody allows more
  deadline_exceeded,
  unavailable,  // disk full, store unreachable, shutting down
  data_loss,    // stored content does not match its address
  unsupported,  // a feature that is not there
  cancelled,
  internal,
};

std::string_view name(Code code);

struct Error {
  Code code = Code::internal;
  std::string message;  // one sentence for people: what happened, with the value that was wrong
  std::string hint;     // what to do next; may be empty
  std::source_location where = std::source_location::current();

  // "message. hint" for logs and plain answers.
  std::string text() const;
};

// fail(Code::not_found, "No dataset \"x\".", "sundog data list shows those that exist.")
Error fail(Code code, std::string message, std::string hint = {},
           std::source_location where = std::source_location::current());

// The Error of the current errno: "Cannot WHAT: No space left on device."; ENOSPC and the like become `unavailable`.
Error fail_errno(std::string_view what, int error_number, std::source_location where = std::source_location::current());

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : value_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & {
    assert(ok());
    return std::get<0>(value_);
  }
  const T& value() const& {
    assert(ok());
    return std::get<0>(value_);
  }
  T&& value() && {
    assert(ok());
    return std::get<0>(std::move(value_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const& {
    assert(!ok());
    return std::get<1>(value_);
  }
  Error&& error() && {
    assert(!ok());
    return std::get<1>(std::move(value_));
  }

 private:
  std::variant<T, Error> value_;
};

struct Unit {};

// The Result of something that has no value: `return done;` or `return fail(...)`.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result(Unit) {}                                                // NOLINT(google-explicit-constructor)
  Result(Error error) : error_(std::move(error)), ok_(false) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  const Error& error() const& {
    assert(!ok_);
    return error_;
  }
  Error&& error() && {
    assert(!ok_);
    return std::move(error_);
  }

 private:
  Error error_;
  bool ok_ = true;
};

using Status = Result<void>;
inline constexpr Unit done{};

// Called once, with the outcome, on the thread that the function taking it names.
template <class T>
using Callback = std::function<void(Result<T>)>;

}  // namespace sundog

// auto-declares `var` from the Result of `expr`, or returns its error.
#define SUNDOG_CONCAT_(a, b) a##b
#define SUNDOG_CONCAT(a, b) SUNDOG_CONCAT_(a, b)
#define SUNDOG_TRY(var, expr)                                                                             \
  auto SUNDOG_CONCAT(result_, __LINE__) = (expr);                                                         \
  if (!SUNDOG_CONCAT(result_, __LINE__).ok()) return std::move(SUNDOG_CONCAT(result_, __LINE__)).error(); \
  auto var = std::move(*SUNDOG_CONCAT(result_, __LINE__))
// Returns the error of a Status (or of a Result whose value is not needed).
#define SUNDOG_CHECK(expr)                                \
  do {                                                    \
    auto result_ = (expr);                                \
    if (!result_.ok()) return std::move(result_).error(); \
  } while (false)
