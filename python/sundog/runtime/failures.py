# pathlib would be one more import in every instance.
# ruff: noqa: PTH100, PTH120
"""Errors of user code in Lambda's shapes."""

from __future__ import annotations

import os
import traceback
from types import TracebackType
from typing import Any

_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep


class InitFault(Exception):
    """Init failed for a reason that Lambda has a name for."""

    def __init__(self, kind: str, message: str, stack: list[str] | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.stack = stack or []


def stack_of(trace: TracebackType | None) -> list[str]:
    """The user's frames, outermost first; ours and those of the import machinery are left out.

    As awslambdaric shows them: without the columns, whose marks would also parse each line and import `ast` for it.
    """
    frames = [
        (frame.filename, frame.lineno or 0, frame.name, frame.line)
        for frame in traceback.extract_tb(trace)
        if not frame.filename.startswith((_OWN, "<frozen importlib")) and "/importlib/" not in frame.filename
    ]
    return traceback.format_list(frames)


def handler_error(error: BaseException, request_id: str, kind: str | None = None) -> dict[str, Any]:
    return {
        "errorMessage": str(error),
        "errorType": kind or type(error).__name__,
        "requestId": request_id,
        "stackTrace": stack_of(error.__traceback__),
    }


def init_failure(error: BaseException) -> dict[str, Any]:
    if isinstance(error, InitFault):
        return {"type": error.kind, "message": error.message, "stack": error.stack}
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else (0 if error.code is None else 1)
        return {
            "type": "Runtime.ExitError",
            "message": f"Runtime exited with error: exit status {status}",
            "stack": stack_of(error.__traceback__),
        }
    return {"type": type(error).__name__, "message": str(error), "stack": stack_of(error.__traceback__)}
