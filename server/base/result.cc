#include "base/result.h"

#include <cerrno>
#include <cstring>
#include <system_error>

namespace sundog {

std::string_view name(Code code) {
  switch (code) {
    case Code::invalid_argument:
      return "invalid_argument";
    case Code::unauthenticated:
      return "unauthenticated";
    case Code::permission_denied:
      return "permission_denied";
    case Code::not_found:
      return "not_found";
    case Code::already_exists:
      return "already_exists";
    case Code::conflict:
      return "conflict";
    case Code::too_large:
      return "too_large";
    case Code::resource_exhausted:
      return "resource_exhausted";
    case Code::budget_exceeded:
      return "budget_exceeded";
    case Code::deadline_exceeded:
      return "deadline_exceeded";
    case Code::unavailable:
      return "unavailable";
    case Code::data_loss:
      return "data_loss";
    case Code::unsupported:
      return "unsupported";
    case Code::cancelled:
      return "cancelled";
    case Code::internal:
      return "internal";
  }
  return "internal";
}

std::string Error::text() const {
  if (hint.empty()) return message;
  return message + " " + hint;
}

Error fail(Code code, std::string message, std::string hint, std::source_location where) {
  return Error{code, std::move(message), std::move(hint), where};
}

namespace {
Code code_of_errno(int error_number) {
  switch (error_number) {
    case ENOENT:
      return Code::not_found;
    case EEXIST:
      return Code::already_exists;
    case EACCES:
    case EPERM:
      return Code::permission_denied;
    case ENOSPC:
    case EDQUOT:
    case EROFS:
    case EIO:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN:
      return Code::unavailable;
    case ETIMEDOUT:
      return Code::deadline_exceeded;
    case EFBIG:
      return Code::too_large;
    default:
      return Code::internal;
  }
}
}  // namespace

Error fail_errno(std::string_view what, int error_number, std::source_location where) {
  std::string hint;
  if (error_number == ENOSPC || error_number == EDQUOT)
    hint = "Free some space under the data directory and try again.";
  return Error{code_of_errno(error_number),
               "Cannot " + std::string(what) + ": " + std::generic_category().message(error_number) + ".", hint, where};
}

}  // namespace sundog
