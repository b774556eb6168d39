"""The tree of errors. Each carries the server's sentence and what to do about it.

SundogError
├── NotFound · AlreadyExists · Conflict · Cancelled
├── InvalidArgument ── SignatureError      a row does not fit the model's signature
├── TooLarge · Unsupported
├── Unauthenticated · PermissionDenied
├── Throttled(retry_after) · DeadlineExceeded · Unavailable
├── BudgetExceeded                         what may be spent this month is spent
├── DataLoss · Internal
└── FunctionError(error_type, stack_trace)  the deployed code itself raised
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class SundogError(Exception):
    """Anything that Sundog reports. `message` says what happened, `hint` what to do next (may be empty)."""

    code = "internal"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class NotFound(SundogError):
    """What was named does not exist."""

    code = "not_found"


class InvalidArgument(SundogError):
    """The request is wrong; sending it again will not help."""

    code = "invalid_argument"


class SignatureError(InvalidArgument):
    """A row lacks a column of the model's signature, or has it with the wrong type; the message names it."""


class Unauthenticated(SundogError):
    """No key, or a wrong or revoked one."""

    code = "unauthenticated"


class PermissionDenied(SundogError):
    """The key is good, but its role may not do this."""

    code = "permission_denied"


class Conflict(SundogError):
    """The state changed meanwhile, or does not allow this now."""

    code = "conflict"


class AlreadyExists(SundogError):
    """Something of that name exists."""

    code = "already_exists"


class TooLarge(SundogError):
    """Over a size limit; the message names the limit."""

    code = "too_large"


class Throttled(SundogError):
    """No room now. `retry_after` says in seconds when to try again."""

    code = "resource_exhausted"

    def __init__(self, message: str, hint: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class BudgetExceeded(SundogError):
    """What the tenant or the function may spend this month is spent; `sundog budget` shows it."""

    code = "budget_exceeded"


class DeadlineExceeded(SundogError):
    """It did not end in time."""

    code = "deadline_exceeded"


class Unavailable(SundogError):
    """The server does not answer, is shutting down, or cannot write."""

    code = "unavailable"


class DataLoss(SundogError):
    """Stored content does not match its address."""

    code = "data_loss"


class Unsupported(SundogError):
    """A feature that this server does not have."""

    code = "unsupported"


class Cancelled(SundogError):
    """Someone cancelled or stopped it."""

    code = "cancelled"


class Internal(SundogError):
    """A fault of the server. Its log has more."""

    code = "internal"


class FunctionError(SundogError):
    """The deployed code raised. `error_type` is the exception's name, `stack_trace` its lines as Lambda gives them."""

    code = "function_error"

    def __init__(
        self,
        message: str,
        error_type: str = "",
        stack_trace: tuple[str, ...] = (),
        request_id: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, hint)
        self.error_type = error_type
        self.stack_trace = stack_trace
        self.request_id = request_id

    def __str__(self) -> str:
        head = f"{self.error_type}: {self.message}" if self.error_type else self.message
        lines = [head, self.hint, *(line.rstrip("\n") for line in self.stack_trace)]
        return "\n".join(line for line in lines if line)


_CLASSES: tuple[type[SundogError], ...] = (
    NotFound,
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    Conflict,
    AlreadyExists,
    TooLarge,
    BudgetExceeded,
    DeadlineExceeded,
    Unavailable,
    DataLoss,
    Unsupported,
    Cancelled,
    Internal,
)
_BY_CODE: dict[str, type[SundogError]] = {c.code: c for c in _CLASSES}

_CODE_BY_STATUS = {
    400: "invalid_argument",
    401: "unauthenticated",
    402: "budget_exceeded",
    403: "permission_denied",
    404: "not_found",
    409: "conflict",
    413: "too_large",
    429: "resource_exhausted",
    501: "unsupported",
    503: "unavailable",
    504: "deadline_exceeded",
}

# The exceptions of Lambda's API (header x-amzn-ErrorType), where the status alone does not say enough.
_CODE_BY_LAMBDA = {
    "ResourceNotFoundException": "not_found",
    "ResourceConflictException": "conflict",
    "PreconditionFailedException": "conflict",
    "ResourceInUseException": "conflict",
    "ResourceNotReadyException": "conflict",
    "InvalidParameterValueException": "invalid_argument",
    "InvalidRequestContentException": "invalid_argument",
    "RequestTooLargeException": "too_large",
    "CodeStorageExceededException": "too_large",
    "TooManyRequestsException": "resource_exhausted",
    "BudgetExceededException": "budget_exceeded",
    "AccessDeniedException": "permission_denied",
    "UnrecognizedClientException": "unauthenticated",
    "ServiceException": "internal",
}


def make_error(code: str, message: str, hint: str = "", retry_after: float = 1.0) -> SundogError:
    """The error of a code of protocol/api.md; an unknown code becomes Internal."""
    if code == Throttled.code:
        return Throttled(message, hint, retry_after)
    return _BY_CODE.get(code, Internal)(message, hint)


def error_from_json(error: Mapping[str, Any] | None, fallback: str) -> SundogError:
    """The error that a job, run or trial carries: {"code","message","hint"}."""
    if not error:
        return Internal(fallback)
    return make_error(str(error.get("code", "")), str(error.get("message") or fallback), str(error.get("hint") or ""))


def error_from_reply(status: int, headers: Mapping[str, str], body: bytes) -> SundogError:
    """The error that an HTTP answer of 400 or more stands for: Sundog's shape, Lambda's, or neither."""
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    retry_after = _seconds(headers.get("retry-after"))
    code = _CODE_BY_STATUS.get(status, "internal")
    if isinstance(parsed, dict):
        error = parsed.get("error")
        if isinstance(error, dict):
            return make_error(
                str(error.get("code") or code),
                str(error.get("message") or ""),
                str(error.get("hint") or ""),
                retry_after,
            )
        if isinstance(error, str):  # Open Inference Protocol
            return make_error(code, error, "", retry_after)
        message = parsed.get("message") or parsed.get("Message")
        if message:
            kind = headers.get("x-amzn-errortype", "").split(":")[0]
            return make_error(_CODE_BY_LAMBDA.get(kind, code), str(message), str(parsed.get("hint") or ""), retry_after)
    text = body[:500].decode("utf-8", "replace").strip()
    return make_error(code, f"The server answered {status}{': ' + text if text else ''}.", "", retry_after)


def function_error(payload: bytes, request_id: str = "") -> FunctionError:
    """The error of an invocation whose code failed: Lambda's {"errorType","errorMessage","stackTrace"}."""
    try:
        parsed = json.loads(payload)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        return FunctionError(payload.decode("utf-8", "replace") or "The function failed.", request_id=request_id)
    trace = parsed.get("stackTrace") or []
    message = str(parsed.get("errorMessage") or "The function failed.")
    hint = ""
    if "No module named" in message:
        hint = "Add the package to the function's environment; a module of your own belongs into include=."
    return FunctionError(
        message,
        str(parsed.get("errorType") or ""),
        tuple(str(line) for line in trace) if isinstance(trace, list) else (str(trace),),
        request_id,
        hint,
    )


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text)) if text else 1.0
    except ValueError:
        return 1.0
