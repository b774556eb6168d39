"""A process that forks on request and tells how its children end: both kinds of template."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from sundog.runtime import _native, wire


class Parent:
    """Serves its control socket. `numbers` maps a child to the number that the server knows it by."""

    def __init__(self, control: int) -> None:
        self.control = control
        self.numbers: dict[int, int] = {}
        self.wake = (-1, -1)
        self.old_wakeup = -1

    def handle(self, kind: int, number: int, header: bytes, fds: list[int]) -> None:
        raise NotImplementedError

    def send(self, kind: int, fields: dict[str, Any], number: int = 0) -> None:
        _native.send(self.control, kind, number, wire.to_json(fields), b"")

    def serve(self) -> NoReturn:
        # A pipe that a child's end writes to: one descriptor a child would be over the limit with a thousand.
        self.wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch_children()
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.wake[0], select.POLLIN)
        while True:
            for fd, _events in poll.poll():
                if fd == self.wake[0]:
                    self.report_ends()
                    continue
                frame = _native.receive(self.control)
                if frame is None:
                    os._exit(0)
                kind, number, header, _raw, fds = frame
                self.handle(kind, number, header, fds)

    def watch_children(self) -> None:
        old = signal.set_wakeup_fd(self.wake[1], warn_on_full_buffer=False)
        if old != self.wake[1]:
            self.old_wakeup = old
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def fork(self, number: int, fds: list[int], become: Callable[[], NoReturn]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self.send(wire.FORKED, {"error": error.errno, "text": error.strerror}, number)
            pid = -1
        if pid == 0:
            try:
                signal.set_wakeup_fd(self.old_wakeup)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for fd in self.wake:
                    os.close(fd)
                become()
            except BaseException:
                import sys
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
            os._exit(1)
        for fd in fds:
            os.close(fd)
        if pid > 0:
            self.numbers[pid] = number
            self.send(wire.FORKED, {"pid": pid}, number)

    def report_ends(self) -> None:
        try:
            while os.read(self.wake[0], 4096):
                continue
        except BlockingIOError:
            pass
        while True:
            try:
                # Not wait4: it would import `resource`, before a function's own module of that name.
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:  # none is left
                return
            if pid == 0:
                return
            number = self.numbers.pop(pid, None)
            if number is not None:
                self.send(wire.EXITED, {"pid": pid, "status": status}, number)


def take_output(output: int) -> None:
    """Makes the pipe this process's standard output and error."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)


def copy_tmp(folder: int) -> None:
    """What the parent wrote to /tmp is there in every child, as its own copy."""
    import shutil

    shutil.copytree(f"/proc/self/fd/{folder}", "/tmp", symlinks=True, dirs_exist_ok=True)
    os.close(folder)


def open_tmp(used: bool) -> int:
    """The parent's /tmp, for copy_tmp() once this process has another; -1 if it is empty."""
    return os.open("/tmp", os.O_PATH | os.O_DIRECTORY) if used else -1
