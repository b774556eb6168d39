# pathlib would be one more import in every instance.
# ruff: noqa: PTH115, PTH208
"""Imports the user's handler and tells whether what init left behind survives a fork."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import time
from typing import Any

from sundog.runtime import randomness, snapshots
from sundog.runtime.failures import InitFault, stack_of
from sundog.runtime.instance import Handler, RequestIds

# A pool of threads does not survive a fork: one thread everywhere, unless the user says otherwise.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLIS_NUM_THREADS",
              "VECLIB_MAXIMUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "LOKY_MAX_CPU_COUNT")  # fmt: skip


class _LambdaLog(logging.Handler):
    """Log records as Lambda prints them: level, time, request id, message."""

    def emit(self, record: logging.LogRecord) -> None:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        sys.stdout.write(f"[{record.levelname}]\t{moment}\t{RequestIds.current}\t{self.format(record)}\n")


def prepare_process(paths: list[str]) -> None:
    """sys.path, streams and logging, as the user's code expects them."""
    sys.path[:0] = paths
    sys.dont_write_bytecode = True
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    logging.root.addHandler(_LambdaLog())
    snapshots.provide()
    randomness.watch()


def prepare_function(environment: dict[str, str], paths: list[str]) -> None:
    """The environment variables of one function."""
    os.environ.clear()
    for name in ONE_THREAD:
        os.environ[name] = "1"
    # pandas brings Arrow, and Arrow's allocator starts a thread of its own unless told not to.
    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
    # onnxruntime sends telemetry from a thread of its own, with a file of its own, unless told not to.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    os.environ.update({"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8",
                       "TZ": "UTC", "LAMBDA_TASK_ROOT": "/var/task", "PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
    os.environ.update(environment)
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    time.tzset()


def load_handler(name: str) -> Handler:
    """Imports "module.function" (or "folder/module.function") as Lambda does.

    Raises:
        InitFault: With Lambda's name for what went wrong.
        BaseException: Whatever the module's own code raised.
    """
    module_name, dot, function = name.rpartition(".")
    if not dot or not module_name or not function:
        message = f"Bad handler '{name}': not enough values to unpack (expected 2, got 1)"
        raise InitFault("Runtime.MalformedHandlerName", message)
    module_name = module_name.replace("/", ".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        message = f"Unable to import module '{module_name}': {error}"
        raise InitFault("Runtime.ImportModuleError", message, stack_of(error.__traceback__)) from None
    except SyntaxError as error:
        message = f"Syntax error in module '{module_name}': {error}"
        stack = [f'  File "{error.filename}" Line {error.lineno}\n    {(error.text or "").rstrip()}\n']
        raise InitFault("Runtime.UserCodeSyntaxError", message, stack) from None
    handler: Any = getattr(module, function, None)
    if handler is None:
        raise InitFault("Runtime.HandlerNotFound", f"Handler '{function}' missing on module '{module_name}'")
    if not callable(handler):
        raise InitFault("Runtime.HandlerNotFound", f"Handler '{function}' of module '{module_name}' is not callable")
    return handler  # type: ignore[no-any-return]


def why_not_fork_safe(own_sockets: set[int], own_children: int = 0) -> str:
    """What init (or a package's import) left that a fork would lose or share: empty if nothing."""
    threads = len(os.listdir("/proc/self/task")) - 1
    if threads > 0:
        return f"{threads} thread{'s were' if threads > 1 else ' was'} left running by init"
    sockets = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue  # the listing's own descriptor
        if int(name) not in own_sockets and target.startswith("socket:"):
            sockets += 1
    if sockets > 0:
        return f"{sockets} socket{'s were' if sockets > 1 else ' was'} left open by init"
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            children = len(file.read().split()) - own_children
    except OSError:
        children = 0
    if children > 0:
        return f"{children} process{'es were' if children > 1 else ' was'} left running by init"
    # Two forks would write to the same pages: mmap's default, multiprocessing's locks and values.
    with open("/proc/self/maps") as file:
        if any(line.split(" ", 2)[1][1::2] == "ws" for line in file):
            return "memory that all forks would share was left mapped by init"
    return ""


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
