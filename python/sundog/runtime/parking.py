"""The life of a function's template after its start: configure, init, park, fork instances."""

from __future__ import annotations

import gc
import importlib.machinery
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

from sundog.runtime import _native, instance, randomness, snapshots, wire
from sundog.runtime.failures import init_failure
from sundog.runtime.forking import Parent, copy_tmp, open_tmp, take_output
from sundog.runtime.loading import (
    load_handler,
    prepare_function,
    prepare_process,
    resident_bytes,
    why_not_fork_safe,
)

if TYPE_CHECKING:
    from sundog.runtime.environment import Inherited


class Template(Parent):
    """Holds what a fork needs."""

    def __init__(self, control: int) -> None:
        super().__init__(control)
        self.handler: instance.Handler | None = None
        self.tmp_was_used = False

    def handle(self, kind: int, number: int, _header: bytes, fds: list[int]) -> None:
        if kind != wire.FORK:
            raise RuntimeError(f"A frame of type {kind} for a parked template.")
        self.fork(number, fds, lambda: self.become_instance(fds))

    def become_instance(self, fds: list[int]) -> NoReturn:
        socket, output, *cgroups = fds
        old_tmp = open_tmp(self.tmp_was_used)
        _native.enter_instance(cgroups)
        take_output(output)
        os.close(self.control)
        if old_tmp >= 0:
            copy_tmp(old_tmp)
        assert self.handler is not None
        instance.serve(socket, self.handler)


def let_sdk_answer(paths: list[str]) -> None:
    """Makes `import sundog` of user code find the SDK, if its environment has it, beside this runtime."""
    package = sys.modules["sundog"]
    spec = importlib.machinery.PathFinder.find_spec("sundog", paths)
    if spec is None or spec.origin is None or spec.loader is None or not spec.submodule_search_locations:
        return
    package.__path__ = [*package.__path__, *spec.submodule_search_locations]
    loader, state = spec.loader, {"loaded": False}

    def answer(name: str) -> Any:
        if not state["loaded"] and not name.startswith("__"):
            state["loaded"] = True
            loader.exec_module(package)
            if name in package.__dict__:
                return package.__dict__[name]
        raise AttributeError(f"module 'sundog' has no attribute {name!r}")

    package.__dict__["__getattr__"] = answer
    package.__file__ = spec.origin


def _ahead_of_packages(paths: list[str]) -> list[str]:
    """Folders that user code has put on sys.path before the environment's."""
    ahead = []
    for path in sys.path:
        if path in paths[1:]:
            break
        if path != paths[0]:
            ahead.append(path)
    return ahead if len(paths) > 1 else []


def _init(template: Template, settings: dict[str, Any], inherited: Inherited | None) -> dict[str, Any]:
    started = time.perf_counter_ns()
    paths = settings["paths"]
    try:
        prepare_function(settings["environment"], paths)
        if inherited is not None:
            sys.path.insert(0, paths[0])
            for name, value in inherited.variables.items():
                os.environ.setdefault(name, value)
            if shadowed := inherited.shadowed(paths[:1]):
                return {"ok": False, "shadowed": shadowed}
        let_sdk_answer(paths)
        template.handler = load_handler(settings["handler"])
        snapshots.run_before_snapshot()
        if inherited is not None and (shadowed := inherited.shadowed(_ahead_of_packages(paths))):
            return {"ok": False, "shadowed": shadowed}
    except BaseException as error:
        return {"ok": False, "failure": init_failure(error)}
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            pass  # the user's code closed it
    taken = time.perf_counter_ns() - started
    gc.collect()
    randomness.collect()
    own = {template.control, *settings["own_sockets"]}
    reason = why_not_fork_safe(own)
    learned = inherited.learned() if inherited is not None else []
    gc.freeze()
    if inherited is None or inherited.modules == inherited.first:
        _native.gather_memory()  # else it would copy what it shares with its environment's template
    template.tmp_was_used = any(os.scandir("/tmp"))
    return {"ok": True, "init_ns": taken, "memory_bytes": resident_bytes(), "fork_safe": not reason, "reason": reason,
            "modules": learned}  # fmt: skip


def _park(control: int, settings: dict[str, Any], fds: list[int], inherited: Inherited | None) -> NoReturn:
    settings["own_sockets"] = fds
    template = Template(control)
    parked = _init(template, settings, inherited)
    template.send(wire.PARKED, parked)
    if not parked["ok"]:
        os._exit(1)
    if settings["alone"]:
        os.close(control)
        _native.enter_alone()
        assert template.handler is not None
        instance.serve(fds[0], template.handler)
    template.serve()


def begin(control: int, inherited: Inherited, in_force: int) -> NoReturn:
    """In a fork of the environment's template, once it is confined."""
    frame = _native.receive(control)
    if frame is None or frame[0] != wire.CONFIGURE:
        os._exit(2)
    _kind, _number, header, _raw, fds = frame
    _native.send(control, wire.CONFIGURED, 0, wire.to_json({"in_force": in_force}), b"")
    _park(control, json.loads(header), fds, inherited)


def main(control: int) -> NoReturn:
    """In a tree of its own: becomes the template of an environment or of one function."""
    frame = _native.receive(control)
    if frame is None:
        os._exit(2)
    kind, _number, header, _raw, fds = frame
    settings = json.loads(header)
    if kind == wire.CONFIGURE_ENVIRONMENT:
        from sundog.runtime import environment

        environment.serve(control, settings)
    if kind != wire.CONFIGURE:
        os._exit(2)
    private_tmp = settings["private_tmp"] and not settings["alone"]
    in_force = _native.confine_template(settings["tmp_options"], private_tmp, settings["landlock"], settings["filters"])
    prepare_process(settings["paths"])
    # Nobody here keeps a copy: with one, user code could make the server wait in accept().
    way_out = [_native.open_way_out()] if settings["way_out"] else []
    _native.send(control, wire.CONFIGURED, 0, wire.to_json({"in_force": in_force}), b"", way_out)
    for fd in way_out:
        os.close(fd)
    _park(control, settings, fds, None)
