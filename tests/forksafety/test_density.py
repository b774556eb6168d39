"""Functions over one environment share its imports, and what has gone leaves the machine as it was."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from harness import Server, eventually

LAYER = "arn:aws:lambda:local:000000000000:layer:sundog-environment-{}:1"
MOST_MIB = 10.0
BARE = "import json\nNUMBER = {}\ndef handler(event, context):\n    return NUMBER\n"
LEARNT = """
import numpy
from sklearn.linear_model import LogisticRegression
x = numpy.random.default_rng(0).normal(size=(200, 30))
model = LogisticRegression().fit(x, (x[:, 0] > 0).astype(int))
NUMBER = {}
def handler(event, context):
    model.predict(x[:1])
    return NUMBER
"""


def tree_mib(pid: int, what: str = "Pss:") -> float:
    """Of the server and everything below it; a page that several share is counted once."""
    total = 0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in text.splitlines() if line.startswith(what)), 0)
    return total / 1024


def deploy(server: Server, package: Callable[..., bytes], source: str, count: int, layers: list[str]) -> list[str]:
    client = server.boto3()
    names = [f"d-{number}-{uuid.uuid4().hex[:6]}" for number in range(count)]
    for number, name in enumerate(names):
        client.create_function(
            FunctionName=name, Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}", Timeout=60,
            Role="arn:aws:iam::000000000000:role/any", Handler="app.handler", MemorySize=512, Layers=layers,
            Code={"ZipFile": package(app=source.format(number))},
        )  # fmt: skip
    for name in names:
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    return names


def call(server: Server, names: list[str]) -> None:
    """Calls each once; its template stays parked."""
    client = server.boto3()
    for name in names:
        response = client.invoke(FunctionName=name)
        assert "FunctionError" not in response, response["Payload"].read()
    eventually(lambda: not fleet(server)["instances"], what="no instance left")


def fleet(server: Server) -> dict:
    with server.http() as http:
        return http.get("/v1/fleet").json()


def nothing_left(server: Server) -> bool:
    """The server and its launcher are all that lives."""
    return len(psutil.Process(server.pid).children(recursive=True)) <= 1


@pytest.mark.parametrize(
    ("packages", "source", "count", "park_seconds"),
    [
        ((), BARE, 10, 8),
        pytest.param(("scikit-learn", "numpy"), LEARNT, 20, 30, marks=pytest.mark.soak),
        pytest.param(("scikit-learn", "numpy"), LEARNT, 1000, 400, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
    ids=["bare", "scikit-learn", "a thousand"],
)
def test_one_more_function_costs_little_and_all_gone_costs_nothing(
    fresh_server: Callable[..., Server],
    package: Callable[..., bytes],
    packages: tuple[str, ...],
    source: str,
    count: int,
    park_seconds: int,
) -> None:
    server = fresh_server(
        *("--idle-instance", "1", "--parked", "0", "--idle-template", str(park_seconds), "--idle-environment", "1"),
        "--no-prebuild",  # calls decide which templates there are
    ).start()
    layers = []
    if packages:
        with server.http() as http:
            made = http.post("/v1/environments", json={"packages": list(packages)}).json()
            while made["state"] == "building":
                made = http.get(f"/v1/environments/{made['id']}", params={"wait": 60}).json()
            assert made["state"] == "ready", made["log"]
        layers = [LAYER.format(made["id"])]
    names = deploy(server, package, source, count, layers)
    # A first round teaches the environment's template what to import, and the server allocates what it keeps.
    call(server, names)
    eventually(lambda: nothing_left(server), within=park_seconds + 60, what="nothing left of the first round")
    before = tree_mib(server.pid, "Pss_Anon:")
    call(server, names[:1])
    one = tree_mib(server.pid)
    call(server, names[1:])
    templates = fleet(server)["templates"]
    parked = len(templates) - 1
    each = (tree_mib(server.pid) - one) / max(1, parked)
    assert parked >= count // 2, "they went before they were counted"
    charged = sum(row["memory_mb"] for row in templates) / len(templates)
    print(f"one more function: {each:.2f} MiB of the tree, {charged:.2f} MiB by its cgroup")
    assert each <= MOST_MIB
    assert charged <= MOST_MIB
    eventually(lambda: nothing_left(server), within=park_seconds + 60, what="nothing left")
    left = tree_mib(server.pid, "Pss_Anon:")
    print(f"{before:.2f} MiB before, {left:.2f} MiB after")
    assert left <= before * 1.02 + 0.1
    assert server.stop() == 0
