"""A running Sundog with the measured functions deployed; its processes end with the block."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import handlers
import httpx
import installed
from load import Caller, Request

from harness import Server, eventually

LAYER = "arn:aws:lambda:local:000000000000:layer:sundog-environment-{}:1"
ROLE = "arn:aws:iam::000000000000:role/any"
SOURCES = {
    "bare": (handlers.BARE, (), None),
    "sklearn": (handlers.SKLEARN, handlers.SCIKIT_LEARN, "model.pkl"),
    "onnx": (handlers.ONNX, handlers.ONNXRUNTIME, "model.onnx"),
}
BODY = {
    "bare": '{"n":1}',
    "sklearn": json.dumps({"row": handlers.ROW}),
    "onnx": json.dumps({"row": handlers.ROW}),
}
ONE_CORE = 1769  # MB: an instance's share of the cores is in proportion to its memory size, as on Lambda
TITLE = {"bare": "bare handler", "sklearn": "scikit-learn", "onnx": "onnxruntime"}


class Deployed:
    """The server, and requests for its functions."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.http = server.http()

    def deploy(self, kind: str, name: str, memory: int = ONE_CORE) -> str:
        """Deploys one of SOURCES with `memory` MB and waits until it is active."""
        source, packages, model = SOURCES[kind]
        layers = []
        if packages:
            layers = [LAYER.format(_environment(self.http, packages))]
        files = [installed.models() / model] if model else []
        client = self.server.boto3()
        client.create_function(
            FunctionName=name,
            Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
            Role=ROLE,
            Handler="app.handler",
            MemorySize=memory,
            Timeout=10,
            Layers=layers,
            Code={"ZipFile": handlers.package(source, *files)},
        )
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        return name

    def request(self, name: str, body: str, *, event: bool = False) -> Request:
        """Lambda's Invoke of a function."""
        headers = {"Authorization": f"Bearer {self.server.token}", "Content-Type": "application/json"}
        if event:
            headers["X-Amz-Invocation-Type"] = "Event"
        return Request(f"{self.server.url}/2015-03-31/functions/{name}/invocations", "POST", body, headers)

    def caller(self, name: str, body: str) -> Caller:
        """An open connection that calls a function."""
        return Caller(self.request(name, body))

    def instances(self, state: str = "") -> list[dict]:
        """The fleet's instances, or those in one state."""
        return [each for each in self.http.get("/v1/fleet").json()["instances"] if state in ("", each["state"])]

    def wait_for_none(self) -> None:
        """Until no instance is left."""
        eventually(lambda: not self.instances(), what="no instance left")


def _link_or_copy(source: str, target: str) -> None:
    """Installed packages are never written to: a link does. Everything else is this server's own."""
    if "/environments/" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def _base() -> Path:
    """A data folder in which the measured environments are built; made once."""
    base = installed.FOLDER / "data"
    wanted = json.dumps([handlers.SCIKIT_LEARN, handlers.ONNXRUNTIME])
    stamp = installed.FOLDER / "data.built"
    if stamp.exists() and stamp.read_text() == wanted:
        return base
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True, mode=0o700)
    print("building the environments of the measured functions …", flush=True)
    server = Server(base).start()
    try:
        for packages in (handlers.SCIKIT_LEARN, handlers.ONNXRUNTIME):
            _environment(server.http(), packages)
    finally:
        server.stop(60)
    stamp.write_text(wanted)
    return base


def _environment(http: httpx.Client, packages: tuple[str, ...]) -> str:
    made = http.post("/v1/environments", json={"packages": list(packages)}).json()
    while made["state"] == "building":
        made = http.get(f"/v1/environments/{made['id']}", params={"wait": 60}).json()
    if made["state"] != "ready":
        raise installed.NotInstalled(f"The environment of {packages} is {made['state']}: {made['log'][-300:]}")
    return made["id"]


@contextmanager
def sundog(*options: str) -> Iterator[Deployed]:
    """A server with real policy options, on data of its own in which the environments are built already."""
    base = _base()
    with tempfile.TemporaryDirectory(prefix="run-", dir=installed.FOLDER) as scratch:
        data = Path(scratch) / "data"
        shutil.copytree(base, data, symlinks=True, copy_function=_link_or_copy)
        data.chmod(0o700)
        server = Server(data, *options).start()
        try:
            deployed = Deployed(server)
            yield deployed
            deployed.http.close()
        finally:
            if server.stop(60) != 0:
                print(server.tail(20), file=sys.stderr)


@contextmanager
def from_zero() -> Iterator[Deployed]:
    """Every instance ends as soon as it is idle; templates stay."""
    with sundog("--idle-instance", "0", "--parked", "0", "--idle-template", "600") as deployed:
        yield deployed
