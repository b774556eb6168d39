"""Kills a process at the Nth system call of a kind, from outside: the programs under test hold no test code for it.

Started by `deaths.py` as a program of its own: tracer.py NTH PID… It attaches to the processes and follows what they fork, counts
the moments before and after each of CALLS in all of them together, and at moment NTH sends SIGKILL to whoever came there. One JSON
object a line on its standard output: {"attached"}, then {"pid", "at", "comm"}. It ends when it has killed (what it traced goes on,
untraced), or when it is ended itself. With NTH 0 it kills nothing, and lists every moment.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import sys
from pathlib import Path

# Of x86-64, the machine that Sundog runs on: what makes, moves, seals, feeds and ends processes, cgroups and mounts.
CALLS = {
    "write": 1,
    "sendto": 44,
    "recvfrom": 45,
    "sendmsg": 46,
    "recvmsg": 47,
    "socketpair": 53,
    "clone": 56,
    "fork": 57,
    "vfork": 58,
    "execve": 59,
    "wait4": 61,
    "kill": 62,
    "mkdir": 83,
    "rmdir": 84,
    "unlink": 87,
    "setresuid": 117,
    "capset": 126,
    "pivot_root": 155,
    "prctl": 157,
    "mount": 165,
    "umount2": 166,
    "sethostname": 170,
    "exit_group": 231,
    "waitid": 247,
    "mkdirat": 258,
    "unlinkat": 263,
    "unshare": 272,
    "pipe2": 293,
    "setns": 308,
    "seccomp": 317,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "clone3": 435,
    "close_range": 436,
    "mount_setattr": 442,
    "landlock_restrict_self": 446,
}
NAMES = {number: name for name, number in CALLS.items()}

CONT, SYSCALL, GETEVENTMSG, SYSCALL_INFO, SEIZE, INTERRUPT, LISTEN = 7, 24, 0x4201, 0x420E, 0x4206, 0x4207, 0x4208
OPTIONS = 1 | 2 | 4 | 8  # mark calls; follow fork, vfork and clone
EVENT_STOP = 128
WALL = 0x40000000
ENTRY, EXIT = 1, 2

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request: int, pid: int, address: int = 0, data: object = 0) -> int:
    """The system call; -1 when the process is gone."""
    result: int = libc.ptrace(request, pid, address, data)
    if result < 0 and ctypes.get_errno() != errno.ESRCH:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {pid}")
    return result


class Info(ctypes.Structure):
    """The beginning of struct ptrace_syscall_info."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("rest", ctypes.c_uint64 * 8),
    )


def say(**fields: object) -> None:
    """One line for who started us."""
    print(json.dumps(fields), flush=True)


def comm(pid: int) -> str:
    """The process's name; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class Tracer:
    """Follows processes and counts moments."""

    def __init__(self, nth: int) -> None:
        self.nth = nth
        self.count = 0
        self.inside: dict[int, int] = {}  # the call that a process is in

    def attach(self, pid: int) -> None:
        """From now on, without stopping it for longer than a moment."""
        with contextlib.suppress(PermissionError):  # it has ended, and waits for its parent
            if ptrace(SEIZE, pid, 0, OPTIONS) == 0:
                ptrace(INTERRUPT, pid)

    def moment(self, pid: int) -> tuple[str, int] | None:
        """Which moment a process stands at: "before clone", and its number; None if it is none of ours."""
        info = Info()
        if ptrace(SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.addressof(info)) < 0:
            return None
        if info.op == ENTRY:
            self.inside[pid] = info.number
        elif info.op != EXIT:
            return None
        number = self.inside.get(pid, -1)
        if number not in NAMES:
            return None
        self.count += 1
        return f"{'before' if info.op == ENTRY else 'after'} {NAMES[number]}", self.count

    def tell(self, pid: int, at: str) -> None:
        """Who it was, while it can still be asked."""
        say(pid=pid, at=at, comm=comm(pid))

    def step(self) -> bool:
        """Waits for one stop and lets the process go on; False when the victim is dead or nothing is left to trace."""
        try:
            pid, status = os.waitpid(-1, WALL)
        except ChildProcessError:
            return False
        if not os.WIFSTOPPED(status):
            self.inside.pop(pid, None)
            return True
        stop, event = os.WSTOPSIG(status), status >> 16
        deliver = 0
        if stop == signal.SIGTRAP | 0x80:
            at = self.moment(pid)
            if at and self.nth == 0:
                self.tell(pid, at[0])
            elif at and at[1] == self.nth:
                self.tell(pid, at[0])
                os.kill(pid, signal.SIGKILL)
                return False
        elif event == EVENT_STOP and stop in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
            ptrace(LISTEN, pid)
            return True
        elif event == 0:
            deliver = stop
        ptrace(SYSCALL, pid, 0, deliver)
        return True


def main(words: list[str]) -> None:
    """tracer.py NTH PID…"""
    tracer = Tracer(int(words[0]))
    for pid in words[1:]:
        tracer.attach(int(pid))
    say(attached=len(words) - 1)
    while tracer.step():
        continue


if __name__ == "__main__":
    main(sys.argv[1:])
