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


def tree_mib(pid: int) -> float:
    """Proportional set size of the server and everything below it: a page that several share is counted once."""
    total = 0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
    return total / 1024


def park(
    server: Server, package: Callable[..., bytes], source: str, count: int, layers: list[str], first: int = 0
) -> None:
    """Deploys and calls so many functions."""
    client = server.boto3()
    for number in range(first, first + count):
        name = f"d-{number}-{uuid.uuid4().hex[:6]}"
        client.create_function(
            FunctionName=name, Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}", Timeout=60,
            Role="arn:aws:iam::000000000000:role/any", Handler="app.handler", MemorySize=512, Layers=layers,
            Code={"ZipFile": package(app=source.format(number))},
        )  # fmt: skip
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        assert client.invoke(FunctionName=name)["Payload"].read() == str(number).encode()


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
        pytest.param(("scikit-learn", "numpy"), LEARNT, 20, 60, marks=pytest.mark.soak),
        pytest.param(("scikit-learn", "numpy"), LEARNT, 1000, 900, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
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
        "--idle-instance", "1", "--parked", "0", "--idle-template", str(park_seconds), "--idle-environment", "1"
    ).start()
    layers = []
    if packages:
        with server.http() as http:
            made = http.post("/v1/environments", json={"packages": list(packages)}).json()
            while made["state"] == "building":
                made = http.get(f"/v1/environments/{made['id']}", params={"wait": 60}).json()
            assert made["state"] == "ready", made["log"]
        layers = [LAYER.format(made["id"])]
    # The first two teach the environment's template and have it import; what the server allocates once is allocated.
    park(server, package, source, 2, layers)
    eventually(lambda: nothing_left(server), within=park_seconds + 60, what="nothing left of the first two")
    before = tree_mib(server.pid)
    park(server, package, source, 1, layers, 2)
    eventually(lambda: not fleet(server)["instances"], what="no instance left")
    one = tree_mib(server.pid)
    park(server, package, source, count, layers, 3)
    eventually(lambda: not fleet(server)["instances"], what="no instance left")
    templates = fleet(server)["templates"]
    parked = len(templates) - 1
    assert parked >= count // 2, "they went before they were counted"
    each = (tree_mib(server.pid) - one) / parked
    charged = sum(row["memory_mb"] for row in templates) / len(templates)
    print(f"one more function: {each:.2f} MiB of the tree, {charged:.2f} MiB by its cgroup")
    assert each <= MOST_MIB
    assert charged <= MOST_MIB
    eventually(lambda: nothing_left(server), within=park_seconds + 60, what="nothing left")
    left = tree_mib(server.pid)
    print(f"{before:.1f} MiB before, {left:.1f} MiB after")
    # Of the whole machine's memory that would be less than nothing: the server's own tree may have grown by its records.
    assert left <= before * 1.02 + 0.02 * count
    assert server.stop() == 0
