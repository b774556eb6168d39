"""The module `snapshot_restore_py` for functions whose environment does not bring it, and what runs its hooks.

A template is the snapshot: hooks registered with register_before_snapshot() run when init is done, in reverse order; those of
register_after_restore() run in every instance before its first invocation, in order, for 10 seconds at most.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, ModuleType
from typing import Any, TypeVar

from sundog.runtime.failures import InitFault

NAME = "snapshot_restore_py"
RESTORE_SECONDS = 10.0

Hook = TypeVar("Hook", bound=Callable[..., Any])
_before: list[tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]] = []
_after: list[tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]] = []


def register_before_snapshot(func: Hook, *args: Any, **kwargs: Any) -> Hook:
    """Has `func(*args, **kwargs)` called once, after init and before instances start from it. Also a decorator."""
    _before.append((func, args, kwargs))
    return func


def register_after_restore(func: Hook, *args: Any, **kwargs: Any) -> Hook:
    """Has `func(*args, **kwargs)` called in every instance before its first invocation. Also a decorator."""
    _after.append((func, args, kwargs))
    return func


def get_before_snapshot() -> list[tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]]:
    return _before


def get_after_restore() -> list[tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]]:
    return _after


class _Provider:
    """Found last: what a function or its environment brings under the name comes first."""

    @staticmethod
    def find_spec(
        name: str, _path: Any = None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_file_location(NAME, __file__) if name == NAME else None


def provide() -> None:
    sys.meta_path.append(_Provider)


def run_before_snapshot() -> None:
    hooks = sys.modules.get(NAME)
    if hooks is not None:
        for function, arguments, keywords in reversed(list(hooks.get_before_snapshot())):
            function(*arguments, **keywords)


def run_after_restore() -> None:
    """Raises whatever a hook raised, or InitFault when they took too long."""
    hooks = sys.modules.get(NAME)
    callables = list(hooks.get_after_restore()) if hooks is not None else []
    if not callables:
        return

    def over(_number: int, _frame: FrameType | None) -> None:
        message = f"The hooks after the restore timed out after {RESTORE_SECONDS:.2f} seconds"
        raise InitFault("Sandbox.Timedout", message)

    user_handler = signal.signal(signal.SIGALRM, over)
    user_timer = signal.setitimer(signal.ITIMER_REAL, RESTORE_SECONDS)
    try:
        for function, arguments, keywords in callables:
            function(*arguments, **keywords)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *user_timer)
        signal.signal(signal.SIGALRM, user_handler)
