"""Deaths: Lambda's exact words, the limit and the peak in them, and nothing left behind after any number of them."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness import Server, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="instances are sealed wholly where the server runs as root")

SOURCE = """
import ctypes, os, signal, subprocess, sys, time
def handler(event, context):
    if event == "exit": sys.exit(3)
    if event == "exit 0": os._exit(0)
    if event == "segfault": ctypes.string_at(0)
    if event == "abort": os.abort()
    if event == "killed": os.kill(os.getpid(), signal.SIGKILL)
    if event == "memory":
        held = []
        while True: held.append(bytearray(os.urandom(1 << 16) * 64))
    if event == "tmp":
        with open("/tmp/big", "wb") as file:
            while True: file.write(bytes(1 << 20))
    if event == "daemons":
        for _ in range(4): subprocess.Popen(["sleep", "600"], start_new_session=True)
        os._exit(1)
    if event == "forks":
        for _ in range(40):
            if os.fork() == 0: time.sleep(600)
        os._exit(1)
    if event == "socket":
        # Its own socket to the server, and what is no frame into it.
        for fd in range(3, 64):
            try: os.write(fd, b"nonsense" * 8)
            except OSError: pass
        time.sleep(600)
    if event == "sleep": time.sleep(600)
    if event == "raise": raise ValueError("bad income")
    return event
"""
ENDS = {
    "exit": ("Runtime.ExitError", r"Runtime exited with error: exit status 3"),
    "exit 0": ("Runtime.ExitError", r"Runtime exited without providing a reason"),
    "segfault": ("Runtime.ExitError", r"Runtime exited with error: signal: segmentation fault"),
    "abort": ("Runtime.ExitError", r"Runtime exited with error: signal: aborted"),
    "killed": ("Runtime.ExitError", r"Runtime exited with error: signal: killed"),
    "memory": (
        "Runtime.OutOfMemory",
        r"Runtime exited with error: signal: killed \(memory size 256 MB, used (\d+) MB\)",
    ),
    "tmp": ("Runtime.OutOfMemory", r"Runtime exited with error: signal: killed \(memory size 256 MB, used (\d+) MB\)"),
    "daemons": ("Runtime.ExitError", r"Runtime exited with error: exit status 1"),
    "forks": ("Runtime.ExitError", r"Runtime exited with error: exit status 1"),
    "socket": ("Runtime.InvalidResponse", r".+"),
    "sleep": ("Sandbox.Timedout", r"Task timed out after 1\.00 seconds"),
}
DEATHS = [*(kind for kind in ENDS if kind != "sleep"), "raise"]


def zipped(app: str) -> bytes:
    """A package of one file."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("app.py", app)
    return memory.getvalue()


class Mortal:
    """A deployed function that dies as it is asked to."""

    def __init__(self, server: Server, source: str = SOURCE, **settings: int) -> None:
        self.client = server.boto3()
        settings = {"MemorySize": 256, "Timeout": 20, **settings}
        self.name = server.deploy(zipped(source), wait=source == SOURCE, **settings)

    def call(self, event: Any) -> tuple[str, Any]:
        """FunctionError, and the payload."""
        answer = self.client.invoke(FunctionName=self.name, Payload=json.dumps(event))
        return answer.get("FunctionError", ""), json.loads(answer["Payload"].read())


@pytest.fixture(scope="module")
def mortals(server: Server) -> Iterator[tuple[Mortal, Mortal]]:
    """One with time enough for each death but by time, and one that has a second."""
    both = Mortal(server), Mortal(server, Timeout=1)
    yield both
    for function in both:
        function.client.delete_function(FunctionName=function.name)


def test_each_death_has_lambda_s_words(mortals: tuple[Mortal, Mortal]) -> None:
    patient, hasty = mortals
    for event, (kind, words) in ENDS.items():
        mortal = hasty if event == "sleep" else patient
        error, payload = mortal.call(event)
        assert error == "Unhandled", event
        assert payload["errorType"] == kind, (event, payload)
        assert set(payload) == {"errorType", "errorMessage"}, "no more than Lambda's"
        found = re.fullmatch(r"RequestId: [0-9a-f-]{36} Error: " + words, payload["errorMessage"])
        assert found, payload
        if found.groups():
            assert 200 <= int(found[1]) <= 256, "the peak, within the limit"
        assert patient.call("alive") == ("", "alive"), event


def test_the_report_line_has_limit_and_peak(mortals: tuple[Mortal, Mortal], server: Server) -> None:
    def line(mortal: Mortal, event: str, words: str) -> str:
        mortal.call(event)
        with server.http() as http:

            def written() -> list[str]:
                reports = http.get(f"/v1/functions/{mortal.name}/logs").text.split("REPORT RequestId")
                return [report for report in reports if words in report]

            return eventually(written, what=f"a report of {words}")[0]

    died = line(mortals[0], "memory", "Runtime.OutOfMemory")
    assert re.search(r"Memory Size: 256 MB\\tMax Memory Used: 2\d\d MB.*Status: error", died), died
    late = line(mortals[1], "sleep", "Status: timeout")
    assert re.search(r"Memory Size: 256 MB\\tMax Memory Used: \d+ MB", late), late


INITS = {
    "held = []\nwhile True: held.append(bytearray(8 << 20))\n": (
        "Runtime.OutOfMemory",
        r"Runtime exited with error: signal: killed \(memory size 256 MB, used 2\d\d MB\)",
    ),
    "import os\nos._exit(7)\n": ("Runtime.ExitError", r"Runtime exited with error: exit status 7"),
    "import os\nos.kill(os.getpid(), 9)\n": ("Runtime.ExitError", r"Runtime exited with error: signal: killed"),
}


@pytest.mark.parametrize("source", INITS)
def test_a_death_in_init_has_lambda_s_words(server: Server, source: str) -> None:
    kind, words = INITS[source]
    function = Mortal(server, source + "def handler(event, context): return 1\n")
    error, payload = function.call(1)
    assert error == "Unhandled"
    assert payload["errorType"] == kind, payload
    assert re.search(words + "$", payload["errorMessage"]), payload
    function.client.delete_function(FunctionName=function.name)


class Machine:
    """What of a server's stands on the machine: counted the same before and after."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def descendants(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        found, look = [], [self.server.pid]
        while look:
            below = children.get(look.pop(), [])
            found += below
            look += below
        return found

    def launcher(self) -> int:
        for pid in self.descendants():
            if Path(f"/proc/{pid}/comm").read_text().startswith("sundog-launche"):
                return pid
        raise AssertionError("there is no launcher")

    def cgroups(self) -> int:
        """Of every hierarchy, those below this server's own."""
        mounts = {
            line.split()[1]
            for line in Path("/proc/self/mounts").read_text().splitlines()
            if "cgroup" in line.split()[2]
        }
        names = {line.split("/")[-2] for pid in self.descendants() for line in cgroup_lines(pid) if "/sundog-" in line}
        assert len(names) == 1, names
        return sum(1 for mount in mounts for name in names for cell in Path(mount, name).glob("*") if cell.is_dir())

    def counts(self) -> dict[str, int]:
        launcher = self.launcher()
        return {
            "processes": len(self.descendants()),
            "cgroups": self.cgroups(),
            "mounts": len(Path("/proc/self/mounts").read_text().splitlines()),
            "the launcher's mounts": len(Path(f"/proc/{launcher}/mounts").read_text().splitlines()),
            "the launcher's descriptors": len(list(Path(f"/proc/{launcher}/fd").iterdir())),
            "the server's descriptors": len(list(Path(f"/proc/{self.server.pid}/fd").iterdir())),
        }


def cgroup_lines(pid: int) -> list[str]:
    """Of a process; none when it is gone."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return []


def die(server: Server, deaths: int, callers: int) -> None:
    """So many mixed deaths, each followed by an answer; then counts as at the start."""
    machine = Machine(server)
    functions = [Mortal(server, Timeout=2) for _ in range(callers)]

    def at_rest() -> dict[str, int]:
        """With a template for each function, and no instance."""
        for function in functions:
            assert function.call("alive") == ("", "alive")
        with server.http() as http:
            eventually(
                lambda: not http.get("/v1/fleet").json()["instances"], within=60, what="the end of idle instances"
            )
        seen: list[dict[str, int]] = []

        def still() -> dict[str, int] | None:
            seen.append(machine.counts())
            return seen[-1] if len(seen) > 20 and all(one == seen[-1] for one in seen[-20:]) else None

        return eventually(still, within=60, what="the same counts for a while")

    before = at_rest()

    def live_and_die(function: Mortal, times: int) -> int:
        for n in range(times):
            # One in 25 by a time-out: each takes a second.
            event = "sleep" if n % 25 == 24 else DEATHS[n % len(DEATHS)]
            error, payload = function.call(event)
            assert error == "Unhandled", (event, payload)
            assert function.call("alive") == ("", "alive"), event
        return times

    with ThreadPoolExecutor(callers) as pool:
        done = pool.map(live_and_die, functions, [deaths // callers] * callers)
        assert sum(done) == deaths
    assert at_rest() == before
    for function in functions:
        function.client.delete_function(FunctionName=function.name)


@pytest.fixture
def alone(fresh_server: Callable[..., Server]) -> Server:
    """A server of one's own, whose instances end soon and whose templates stay."""
    return fresh_server("--idle-instance", "1", "--parked", "0", "--idle-template", "3600").start()


def test_mixed_deaths_leave_nothing(alone: Server) -> None:
    die(alone, 150, 3)
    assert alone.stop() == 0


@pytest.mark.soak
def test_ten_thousand_mixed_deaths_leave_nothing(alone: Server) -> None:
    die(alone, 10_000, 4)
    assert alone.stop() == 0
