"""What a machine lacks: said by doctor, refused under --strict; and a server without root, which serves one tenant."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from harness import BIN, ROOT, Server, eventually, server_command

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="to take something from a server one must be root")

NOBODY = 61_007  # a user that is nobody's on any machine
BOMB = """
import os
def handler(event, context):
    held = []
    while event == "memory": held.append(bytearray(os.urandom(1 << 16) * 64))
    return event
"""
HANDLER = "def handler(event, context):\n    import os\n    return [event, os.getuid()]\n"


def doctor(rows: list[dict[str, object]]) -> dict[str, bool]:
    return {str(row["check"]): bool(row["ok"]) for row in rows}


def test_strict_starts_where_nothing_is_missing(fresh_server: Callable[..., Server]) -> None:
    found = json.loads(subprocess.run([BIN / "sundog-launcher", "--doctor"], capture_output=True, check=True).stdout)
    if not all(doctor(found).values()):
        pytest.skip(f"this machine lacks something: {[name for name, ok in doctor(found).items() if not ok]}")
    server = fresh_server("--strict").start()
    with server.http() as http:
        assert all(doctor(http.get("/v1/doctor").json()["checks"]).values())
    assert server.stop() == 0


def test_strict_refuses_without_cgroups(tmp_path: Path) -> None:
    """In a mount namespace where nothing lies at the hierarchies' places; without --strict it starts, and says so."""
    folders = {
        line.split()[1]
        for line in Path("/proc/mounts").read_text().splitlines()
        if line.split()[2].startswith("cgroup")
    }
    hide = "".join(f"mount -t tmpfs none {folder} && " for folder in sorted(folders))
    command = server_command(tmp_path / "data", "--strict")
    hidden = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{hide}exec "$@"', "sh"]
    refused = subprocess.run([*hidden, *command], capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1, refused.stderr
    # One row for each, as doctor has them.
    assert "cannot start: This machine cannot seal instances wholly:" in refused.stderr
    assert "\n  cgroup memory, cpu, pids: none writable; without it no memory, cpu and process limit" in refused.stderr
    assert "\n  ending a whole instance: " in refused.stderr
    assert "Leave --strict out to accept that." in refused.stderr
    said = subprocess.run(
        [*hidden, str(BIN / "sundog-launcher"), "--doctor"], capture_output=True, text=True, check=True
    )
    assert doctor(json.loads(said.stdout))["cgroup memory, cpu, pids"] is False


@contextmanager
def unprivileged(kind: str, *before: str) -> Iterator[Unprivileged]:
    """A server of a user who is nobody, in a folder of its own, with an interpreter that everybody may read."""
    python = shutil.which("python3.11", path="/usr/bin:/usr/local/bin") or ""
    try_it = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    if not python or shutil.which("setpriv") is None:
        pytest.skip("there is no interpreter, or no setpriv, that everybody may run")
    if subprocess.run([*try_it, "unshare", "--user", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine has no user namespaces for an unprivileged user")
    needed = [word for word in server_command(Path("/nowhere")) if word.startswith((f"{ROOT}/", f"{BIN.parent}/"))]
    look = ["sh", "-c", 'for path; do test -r "$path" || exit 1; done', "sh"]
    if subprocess.run([*try_it, *look, *needed], check=False).returncode != 0:
        pytest.skip("this checkout lies where only root may look")
    # Not below pytest's own folder, which is root's alone.
    folder = Path("/tmp") / f"sundog-{kind}-{os.getpid()}"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    server = Unprivileged(folder / "data", [*before, *try_it, "env", f"HOME={folder}"], python)
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def rootless() -> Iterator[Server]:
    """Without any cgroup."""
    with unprivileged("rootless") as server:
        yield server.start()


@pytest.fixture(scope="module")
def delegated() -> Iterator[Path]:
    """A cgroup of version 2 that root has given to that user, as systemd does for Delegate=yes."""
    top = Path("/sys/fs/cgroup")
    listed = top / "cgroup.controllers"
    if not listed.exists() or not {"memory", "cpu", "pids"} <= set(listed.read_text().split()):
        pytest.skip("this machine has the controllers in version 1")
    if (top / "cgroup.type").exists():
        pytest.skip("this is a container: the root of the hierarchy is not here")
    (top / "cgroup.subtree_control").write_text("+memory +cpu +pids")
    given = top / f"given-{os.getpid()}"
    given.mkdir()
    for path in (given, *(given / f"cgroup.{name}" for name in ("procs", "subtree_control", "threads"))):
        os.chown(path, NOBODY, NOBODY)
    yield given
    (given / "cgroup.kill").write_text("1")

    def gone() -> bool:
        for folder in sorted((path for path in given.rglob("*") if path.is_dir()), reverse=True):
            with suppress(OSError):
                folder.rmdir()
        with suppress(OSError):
            given.rmdir()
        return not given.exists()

    eventually(gone, within=30, what="the end of the cgroup")


class Unprivileged(Server):
    """A server that another command starts."""

    def __init__(self, data: Path, before: list[str], python: str) -> None:
        super().__init__(data)
        self.before, self.python = before, python

    def share_packages(self) -> None:
        """What root has fetched is not this user's to write to."""

    def command(self) -> list[str]:
        words = server_command(self.data)
        words[words.index("--python") + 1] = f"3.11={self.python}"
        uv = words.index("--uv") + 1
        words[uv] = shutil.copy(words[uv], self.data.parent / "uv")  # wherever it was, its folders may be closed
        return [*self.before, *words]


def create(server: Server, code: bytes, **settings: int) -> Callable[[str], tuple[bool, Any]]:
    """A function; calling it gives whether it failed, and its answer."""
    client = server.boto3()
    server.deploy(code, FunctionName="plain", wait=True, **settings)

    def call(event: str) -> tuple[bool, Any]:
        answer = client.invoke(FunctionName="plain", Payload=json.dumps(event))
        return "FunctionError" in answer, json.loads(answer["Payload"].read())

    return call


def test_rootless_in_a_cgroup_of_its_own_the_limits_hold(delegated: Path, package: Callable[..., bytes]) -> None:
    enter = ["sh", "-c", f'echo $$ >{delegated}/cgroup.procs && exec "$@"', "sh"]
    with unprivileged("delegated", *enter) as server:
        server.start()
        with server.http() as http:
            rows = {row["check"]: row for row in http.get("/v1/doctor").json()["checks"]}
        limits = rows["cgroup memory, cpu, pids"]
        assert limits["ok"], limits
        assert limits["detail"].startswith("version 2"), limits
        assert rows["ending a whole instance"]["detail"] == "cgroup.kill"
        assert not rows["privileges"]["ok"], "it is one user's still"
        call = create(server, package(app=BOMB), MemorySize=256, Timeout=60)
        failed, error = call("memory")
        assert failed
        assert error["errorType"] == "Runtime.OutOfMemory", error
        found = re.search(r"memory size 256 MB, used (\d+) MB", error["errorMessage"])
        assert found, error
        assert 200 <= int(found[1]) <= 256, error
        assert call("alive") == (False, "alive")
        cells = [path for path in delegated.glob("sundog-*/c*") if path.is_dir()]
        assert cells
        for cell in cells:
            assert int((cell / "memory.max").read_text()) >= 256 << 20
            assert (cell / "memory.swap.max").read_text() == "0\n"
            assert (cell / "cpu.max").read_text().split()[0] != "max"
            assert int((cell / "pids.max").read_text()) == 1024
        assert server.stop() == 0
    assert not list(delegated.glob("sundog-*")), "its cells end with it"
    assert (delegated / "cgroup.events").read_text().startswith("populated 0")


def test_rootless_it_answers_and_says_what_is_lost(rootless: Server, package: Callable[..., bytes]) -> None:
    assert create(rootless, package(app=HANDLER))("hello") == (False, ["hello", 1000])
    with rootless.http() as http:
        rows = http.get("/v1/doctor").json()["checks"]
    lost = {row["check"]: row["without"] for row in rows if not row["ok"]}
    assert "cgroup memory, cpu, pids" in lost
    assert "serve a single tenant only" in lost["privileges"]
    processes = Path(f"/proc/{rootless.pid}/task/{rootless.pid}/children").read_text().split()
    assert processes
    for pid in [rootless.pid, *processes]:
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
        assert "CapEff:\t0000000000000000" in status, "nothing of it is privileged"


def test_rootless_a_second_tenant_is_refused(rootless: Server) -> None:
    with rootless.http() as http:
        refused = http.post("/v1/keys", json={"role": "admin", "tenant": "second", "name": "x"})
        assert refused.status_code == 409, refused.text
        assert "runs without root" in refused.json()["error"]["message"]
        assert http.post("/v1/keys", json={"role": "viewer", "name": "x"}).status_code < 300, "its own tenant may"


def test_rootless_does_not_open_what_has_several_tenants(rootless: Server) -> None:
    """A data folder that a server of root made for two tenants."""
    folder = rootless.data.parent / "second"
    server = Server(folder).start()
    with server.http() as http:
        assert http.post("/v1/keys", json={"role": "admin", "tenant": "second", "name": "x"}).status_code < 300
    assert server.stop() == 0
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    assert isinstance(rootless, Unprivileged)
    again = Unprivileged(folder, rootless.before, rootless.python)
    ended = subprocess.run(again.command(), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "holds keys of 2 tenants" in ended.stderr
