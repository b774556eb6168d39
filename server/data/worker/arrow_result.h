// From Arrow's Status and Result to ours.
#pragma once

#include <arrow/result.h>
#include <arrow/status.h>

#include <string>

#include "base/result.h"

namespace sundog::data::worker {

inline Error arrow_error(const arrow::Status& status) {
  std::string text = status.message();
  if (const size_t end = text.find('\n'); end != std::string::npos) text.resize(end);
  while (!text.empty() && text.back() == '.') text.pop_back();
  if (text.size() > 400) text.resize(400);
  text += ".";
  if (status.IsOutOfMemory()) {
    return fail(Code::resource_exhausted, "The data work needs more memory: " + text, "Give it a larger memory_mb.");
  }
  if (text.find("No space left") != std::string::npos) {
    return fail(Code::unavailable, "The disk is full: " + text, "Free some space and try again.");
  }
  if (status.IsNotImplemented()) return fail(Code::unsupported, text);
  if (status.IsInvalid() || status.IsIOError() || status.IsSerializationError() || status.IsTypeError() ||
      status.IsCapacityError()) {
    return fail(Code::invalid_argument, text);
  }
  return fail(Code::internal, text);
}

}  // namespace sundog::data::worker

// auto-declares `var` from an arrow::Result, or returns its error as ours.
#define SUNDOG_ARROW(var, expr)                                                                            \
  auto SUNDOG_CONCAT(arrow_, __LINE__) = (expr);                                                           \
  if (!SUNDOG_CONCAT(arrow_, __LINE__).ok()) return arrow_error(SUNDOG_CONCAT(arrow_, __LINE__).status()); \
  auto var = std::move(SUNDOG_CONCAT(arrow_, __LINE__)).ValueUnsafe()
#define SUNDOG_ARROW_OK(expr)                       \
  do {                                              \
    const arrow::Status status_ = (expr);           \
    if (!status_.ok()) return arrow_error(status_); \
  } while (false)
