"""What a server may leave behind on its machine: processes, cgroups and mounts that bear its name or its data folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from harness import Server, eventually


def cgroup_mounts() -> list[Path]:
    """Every hierarchy of this machine, of either version."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]


def read(path: Path) -> str:
    """The text of a file under /proc; nothing when its process is gone."""
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def parent_of(pid: int) -> int:
    """Its parent's id; 0 when it is gone."""
    for line in read(Path(f"/proc/{pid}/status")).splitlines():
        if line.startswith("PPid:"):
            return int(line.split()[1])
    return 0


def namespace(pid: int | str) -> str:
    """The mount namespace of a process; empty when it is gone."""
    try:
        return str(Path(f"/proc/{pid}/ns/mnt").readlink())
    except OSError:
        return ""


def pids() -> Iterator[int]:
    """Of all processes."""
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


class Leftovers:
    """Looks for what belongs to one server, by name, so that it also finds what earlier runs of it left.

    A launcher bears the server's name as its argument, an instance lives in a cgroup of that name, and a template or an
    instance of a function has the data folder's code among its mounts.
    """

    def __init__(self, server: Server) -> None:
        self.folder = str(server.data)
        self.name = hashlib.sha256(self.folder.encode()).hexdigest()[:12]

    def cgroups(self) -> list[str]:
        """The directories of the server's name, and the cells in them."""
        found: list[str] = []
        for mount in cgroup_mounts():
            top = mount / f"sundog-{self.name}"
            if top.is_dir():
                found += [
                    str(top),
                    *(str(cell) for cell in top.iterdir() if cell.is_dir()),
                ]
        return found

    def marks(self, pid: int) -> list[str]:
        """By what a process is known as the server's; nothing for any other."""
        proc = Path(f"/proc/{pid}")
        words = read(proc / "cmdline").split("\0")
        found = {
            "server": self.folder in words,
            "launcher": words[0].endswith("sundog-launcher") and self.name in words,
            "cell": f"/sundog-{self.name}/" in read(proc / "cgroup"),
            "code": namespace(pid) != namespace("self") and f"{self.folder}/" in read(proc / "mountinfo"),
        }
        return [mark for mark, there in found.items() if there]

    def processes(self) -> dict[int, list[str]]:
        """The server, its launchers, its templates and instances, and the first process of each of their trees."""
        return {pid: marks for pid in pids() if (marks := self.marks(pid))}

    def mounts(self) -> list[str]:
        """Mounts of the machine under the data folder."""
        lines = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
        return [
            fields[4]
            for fields in lines
            if f"{self.folder}/" in f"{fields[3]}/" or f"{fields[4]}/".startswith(f"{self.folder}/")
        ]

    def strangers(self, server: Server) -> dict[int, list[str]]:
        """Of the processes, those that do not descend from the running server."""

        def descends(pid: int) -> bool:
            while pid > 1 and pid != server.pid:
                pid = parent_of(pid)
            return pid == server.pid

        return {pid: what for pid, what in self.processes().items() if not descends(pid)}

    def assert_only_of(self, server: Server) -> None:
        """Whatever is there is the running server's, nothing of a run before it."""
        eventually(
            lambda: not self.strangers(server),
            within=5,
            what=f"the end of the old run ({self.strangers(server)})",
        )
        assert not self.mounts()

    def assert_processes_end(self) -> None:
        """After kill -9 of the server its launcher ends all, without a new server's help."""
        eventually(lambda: not self.processes(), within=5, what=f"the end of {self.processes()}")

    def assert_none(self) -> None:
        """Nothing is left, once the kernel has buried its dead."""

        def left() -> list[object]:
            return [*self.processes().items(), *self.cgroups(), *self.mounts()]

        eventually(lambda: not left(), within=5, what=f"nothing left ({left()})")
