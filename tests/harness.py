"""Starts the real server for tests, on a folder and a free port of its own, and waits for conditions instead of the clock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import httpx

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ROOT / "build" / "packages"  # what environments are built of, downloaded once for all servers
BIN = Path(os.environ.get("SUNDOG_BIN_DIR", ROOT / "build" / "release" / "bin"))
T = TypeVar("T")


def eventually(ask: Callable[[], T], *, within: float = 30.0, what: str = "the condition") -> T:
    """Asks until the answer is true and returns it; fails after `within` seconds, naming `what` and the last answer."""
    deadline = time.monotonic() + within
    answer = ask()
    while not answer:
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within} s; the last answer was {answer!r}")
        time.sleep(0.02)
        answer = ask()
    return answer


def server_command(data: Path, *options: str) -> list[str]:
    """The server as `sundog up` starts it."""
    import pyarrow
    import uv

    return [
        str(BIN / "sundog-server"),
        *("--data", str(data), "--host", "127.0.0.1", "--port", "0"),
        *(
            "--launcher",
            str(BIN / "sundog-launcher"),
            "--data-worker",
            str(BIN / "sundog-data"),
            "--runtime-api",
            str(BIN / "sundog-runtime-api"),
        ),
        *("--runtime", str(ROOT / "python" / "sundog" / "runtime")),
        *("--native", str(BIN.parent / "python" / "sundog" / "runtime" / "_native.abi3.so")),
        *(
            "--python",
            f"{sys.version_info.major}.{sys.version_info.minor}={os.path.realpath(sys.executable)}",
        ),
        *("--uv", uv.find_uv_bin(), "--pyarrow", str(Path(pyarrow.__file__).parent)),
        *options,
    ]


class Server:
    """One running sundog-server and what a client needs to reach it."""

    def __init__(self, data: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.data = data
        self.options: Sequence[str] = options
        self.env = dict(env or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.log = data.parent / f"{data.name}.log"
        self.url = self.token = self.key_id = self.secret = ""
        self.boots = 0

    def command(self) -> list[str]:
        """What starts it."""
        return server_command(self.data, *self.options)

    def share_packages(self) -> None:
        """Lets it take what another server has fetched."""
        cache = self.data / "environments" / "cache"
        if not cache.exists():
            PACKAGES.mkdir(parents=True, exist_ok=True)
            cache.parent.mkdir(parents=True, exist_ok=True)
            cache.symlink_to(PACKAGES)

    def start(self) -> Server:
        """Starts it and waits until it answers."""
        self.share_packages()
        client = self.data / "client.json"
        before = client.stat().st_mtime_ns if client.exists() else 0
        with self.log.open("ab") as log:
            environment = {**os.environ, **self.env}
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=environment)
        self.boots += 1

        def ready() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.tail()}")
            if not client.exists() or client.stat().st_mtime_ns == before:
                return False
            known = json.loads(client.read_text())
            self.url, self.token = known["url"], known["token"]
            self.key_id, self.secret = known["id"], known["secret"]
            try:
                return httpx.get(f"{self.url}/healthz").status_code == 200
            except httpx.TransportError:
                return False

        eventually(ready, within=30, what="the server's /healthz")
        return self

    def tail(self, lines: int = 60) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """kill -9."""
        if self.process and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def wait_dead(self, within: float = 60) -> int:
        """Waits until it has ended by itself (a kill point) and gives its status."""
        assert self.process is not None
        return self.process.wait(within)

    def stop(self, within: float = 30) -> int:
        """SIGTERM, and its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(within)

    def http(self, **options: object) -> httpx.Client:
        """A client that carries the first key."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, **options)  # type: ignore[arg-type]

    def boto3(self, key: Mapping[str, str] | None = None):
        """boto3's Lambda client, as a stranger would make it; with the first key, or with one of POST /v1/keys."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "lambda",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=key["id"] if key else self.key_id,
            aws_secret_access_key=key["secret"] if key else self.secret,
            config=Config(retries={"max_attempts": 0}, read_timeout=120),
        )

    def deploy(self, zipped: bytes, *, wait: bool = False, key: Mapping[str, str] | None = None, **more: object) -> str:
        """Deploys `app.handler` and gives its name: usable at once, and Failed soon if its init is broken.

        `wait`: gives it once it is active. `more` are CreateFunction's fields, also other ones for those given here.
        """
        fields = {
            "FunctionName": f"f-{uuid.uuid4().hex[:12]}",
            "Runtime": "python3.11",
            "Role": "arn:aws:iam::000000000000:role/any",
            "Handler": "app.handler",
            "Code": {"ZipFile": zipped},
            **more,
        }
        client = self.boto3(key)
        client.create_function(**fields)
        if wait:
            client.get_waiter("function_active_v2").wait(FunctionName=fields["FunctionName"], WaiterConfig={"Delay": 1})
        return str(fields["FunctionName"])

    def cloud(self):
        """The SDK's connection."""
        import sundog

        return sundog.connect(self.url, self.token)
