"""The life of a template after its start: configure, init, park, fork, reap."""

from __future__ import annotations

import gc
import importlib.machinery
import json
import os
import select
import shutil
import signal
import sys
import time
from typing import Any, NoReturn

from sundog.runtime import _native, instance, wire
from sundog.runtime.failures import init_failure
from sundog.runtime.loading import before_snapshot, load_handler, prepare, resident_bytes, why_not_fork_safe


class Template:
    """Holds what a fork needs. `children` maps a pidfd to the child and the number the server knows it by."""

    def __init__(self, control: int) -> None:
        self.control = control
        self.handler: instance.Handler | None = None
        self.children: dict[int, tuple[int, int]] = {}
        self.tmp_was_used = False
        self.poll = select.poll()

    def send(self, kind: int, fields: dict[str, Any], number: int = 0) -> None:
        _native.send(self.control, kind, number, wire.to_json(fields), b"")

    def serve(self) -> NoReturn:
        self.poll.register(self.control, select.POLLIN)
        while True:
            for fd, _events in self.poll.poll():
                if fd != self.control:
                    self.report_end(fd)
                    continue
                frame = _native.receive(self.control)
                if frame is None:
                    os._exit(0)
                kind, number, header, _raw, fds = frame
                if kind != wire.FORK:
                    raise RuntimeError(f"A frame of type {kind} for a parked template.")
                self.fork(number, json.loads(header), fds)

    def fork(self, number: int, _fields: dict[str, Any], fds: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self.send(wire.FORKED, {"error": error.errno, "text": error.strerror}, number)
            for fd in fds:
                os.close(fd)
            return
        if pid == 0:
            self.become_instance(fds)
        for fd in fds:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        self.children[pidfd] = (pid, number)
        self.poll.register(pidfd, select.POLLIN)
        self.send(wire.FORKED, {"pid": pid}, number)

    def become_instance(self, fds: list[int]) -> NoReturn:
        status = 1
        try:
            socket, output, *cgroups = fds
            old_tmp = os.open("/tmp", os.O_PATH | os.O_DIRECTORY) if self.tmp_was_used else -1
            _native.enter_instance(cgroups)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            os.close(self.control)
            for pidfd in self.children:
                os.close(pidfd)
            if old_tmp >= 0:
                copy_tmp(old_tmp)
            assert self.handler is not None
            instance.serve(socket, self.handler)
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        os._exit(status)

    def report_end(self, pidfd: int) -> None:
        pid, number = self.children.pop(pidfd)
        self.poll.unregister(pidfd)
        os.close(pidfd)
        try:
            _pid, status, usage = os.wait4(pid, 0)
        except ChildProcessError:  # init code made somebody else reap
            self.send(wire.EXITED, {"pid": pid}, number)
            return
        fields = {"pid": pid, "status": status, "cpu_ns": int((usage.ru_utime + usage.ru_stime) * 1e9)}
        self.send(wire.EXITED, fields, number)


def copy_tmp(folder: int) -> None:
    """What init wrote to /tmp is there in every instance, as its own copy."""
    shutil.copytree(f"/proc/self/fd/{folder}", "/tmp", symlinks=True, dirs_exist_ok=True)
    os.close(folder)


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


def _init(template: Template, settings: dict[str, Any]) -> dict[str, Any]:
    started = time.perf_counter_ns()
    try:
        prepare(settings["environment"], settings["paths"])
        let_sdk_answer(settings["paths"])
        template.handler = load_handler(settings["handler"])
        if not settings["alone"]:
            before_snapshot()
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
    own = {template.control, *settings["own_sockets"]}
    reason = why_not_fork_safe(own)
    gc.freeze()
    _native.gather_memory()
    template.tmp_was_used = any(os.scandir("/tmp"))
    return {"ok": True, "init_ns": taken, "memory_bytes": resident_bytes(), "fork_safe": not reason, "reason": reason}


def main(control: int) -> NoReturn:
    frame = _native.receive(control)
    if frame is None or frame[0] != wire.CONFIGURE:
        os._exit(2)
    _kind, _number, header, _raw, fds = frame
    settings = json.loads(header)
    settings["own_sockets"] = fds
    alone = bool(settings["alone"])
    in_force = _native.confine_template(
        settings["tmp_options"], settings["private_tmp"] and not alone, settings["landlock"], settings["filters"]
    )
    template = Template(control)
    template.send(wire.CONFIGURED, {"in_force": in_force})
    parked = _init(template, settings)
    template.send(wire.PARKED, parked)
    if not parked["ok"]:
        os._exit(1)
    if alone:
        os.close(control)
        _native.enter_alone()
        assert template.handler is not None
        instance.serve(fds[0], template.handler)
    template.serve()
