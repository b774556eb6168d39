"""Init that leaves what a fork would lose or share: nothing hangs, nothing answers wrongly, and the reason is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import Server, eventually

Make = Callable[..., str]
LAYER = "arn:aws:lambda:local:000000000000:layer:sundog-environment-{}:1"


def deployer(server: Server, package: Callable[..., bytes]) -> Make:
    def make(source: str, packages: tuple[str, ...] = (), memory: int = 512, **more: object) -> str:
        if packages:
            with server.http() as http:
                made = http.post("/v1/environments", json={"packages": list(packages)}).json()
                while made["state"] == "building":
                    made = http.get(f"/v1/environments/{made['id']}", params={"wait": 60}).json()
                assert made["state"] == "ready", made["log"]
            more["Layers"] = [LAYER.format(made["id"])]
        return server.deploy(package(app=source), wait=True, MemorySize=memory, Timeout=30, **more)

    return make


@pytest.fixture
def deploy(server: Server, package: Callable[..., bytes]) -> Make:
    """Deploys a handler's source and gives the function's name once it is active."""
    return deployer(server, package)


@pytest.fixture
def patient(fresh_server: Callable[..., Server]) -> Server:
    """A server whose invocations wait for as long as a slow init takes in each of several instances."""
    return fresh_server("--queue-limit", "120").start()


def call(server: Server, name: str, event: object = None) -> object:
    """One invocation's answer, which must be none of an error."""
    response = server.boto3().invoke(FunctionName=name, Payload=json.dumps(event).encode())
    answer = json.loads(response["Payload"].read())
    assert "FunctionError" not in response, answer
    return answer


def at_once(server: Server, name: str, count: int = 3) -> list[object]:
    """So many instances, each of which is busy while the others answer."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda number: call(server, name, number), range(count)))


def template_of(server: Server, name: str) -> dict:
    """How the server describes the function's template."""
    with server.http() as http:
        rows = [row for row in http.get("/v1/fleet").json()["templates"] if row["function"] == name]
    assert len(rows) == 1, rows
    return rows[0]


UNSAFE = {
    "thread": (
        "1 thread was left",
        """
import queue, threading
asked, answers = queue.Queue(), queue.Queue()
def work():
    while True: answers.put(asked.get() + 1)
threading.Thread(target=work, daemon=True).start()
def handler(event, context):
    asked.put(event)
    return answers.get(timeout=10)
""",
    ),
    "connection": (
        "3 sockets were left",
        """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
peer, _ = server.accept()
def handler(event, context):
    client.sendall(bytes([event]))
    return peer.recv(1)[0] + 1
""",
    ),
    "event loop": (
        "2 sockets were left",
        """
import asyncio
loop = asyncio.new_event_loop()
async def add(n):
    await asyncio.sleep(0.01)
    return n + 1
assert loop.run_until_complete(add(1)) == 2
def handler(event, context):
    return loop.run_until_complete(add(event))
""",
    ),
    "process pool": (
        "left",
        """
import multiprocessing
def add(n): return n + 1
pool = multiprocessing.get_context("fork").Pool(2)
def handler(event, context):
    return pool.apply(add, (event,))
""",
    ),
    "shared memory": (
        "memory that all forks would share",
        """
import mmap
shared = mmap.mmap(-1, 4096)
def handler(event, context):
    assert shared[0] == 0, "another instance wrote to it"
    shared[0] = 1
    import time; time.sleep(0.3)
    shared[0] = 0
    return event + 1
""",
    ),
    "lock of multiprocessing": (
        "memory that all forks would share",
        """
import multiprocessing
lock = multiprocessing.Lock()
def handler(event, context):
    assert lock.acquire(timeout=1), "another instance holds it"
    import time; time.sleep(0.3)
    lock.release()
    return event + 1
""",
    ),
}


@pytest.mark.parametrize("what", UNSAFE)
def test_init_that_a_fork_would_break_runs_in_each_instance(server: Server, deploy: Make, what: str) -> None:
    reason, source = UNSAFE[what]
    name = deploy(source)
    assert sorted(at_once(server, name)) == [1, 2, 3]
    row = template_of(server, name)
    assert row["fork_safe"] is False
    assert reason in row["reason"]
    # In the function's description too, where boto3 reads what it knows of.
    eventually(lambda: server.cloud().functions.get(name).info().start_reason == row["reason"], what="the reason")
    client = server.boto3()
    assert client.get_function(FunctionName=name)["Configuration"]["State"] == "Active"
    assert client.get_function_configuration(FunctionName=name)["FunctionName"] == name
    with server.http() as http:
        whole = http.get(f"/2015-03-31/functions/{name}").json()["Configuration"]
        alone = http.get(f"/2015-03-31/functions/{name}/configuration").json()
    assert whole["Sundog"] == alone["Sundog"] == {"Start": "init", "StartReason": row["reason"]}


SAFE = {
    "a database file": """
import sqlite3
connection = sqlite3.connect("/tmp/models.db", isolation_level=None)
connection.execute("create table seen (n integer)")
connection.execute("insert into seen values (0)")
connection.close()
def handler(event, context):
    with sqlite3.connect("/tmp/models.db") as connection:
        connection.execute("insert into seen values (?)", (event,))
        rows = connection.execute("select count(*) from seen").fetchone()[0]
    import time; time.sleep(0.3)
    return rows - 1 + event
""",
    "an event loop that was closed": """
import asyncio
async def add(n):
    await asyncio.sleep(0)
    return n + 1
assert asyncio.run(add(1)) == 2
def handler(event, context): return asyncio.run(add(event))
""",
    "processes of the handler": """
import multiprocessing
def add(n, out): out.put(n + 1)
def square(n): return n * n
def handler(event, context):
    context = multiprocessing.get_context("fork")
    out = context.Queue()
    child = context.Process(target=add, args=(event, out))
    child.start()
    answer = out.get(timeout=10)
    child.join(10)
    with context.Pool(2) as pool: assert pool.map(square, [1, 2, 3]) == [1, 4, 9]
    return answer
""",
    "threads of the handler": """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(2) as pool: assert list(pool.map(abs, [-1, 2])) == [1, 2]
def handler(event, context):
    with ThreadPoolExecutor(2) as pool: return sum(pool.map(abs, [-event, -1]))
""",
}


@pytest.mark.parametrize("what", SAFE)
def test_init_that_survives_a_fork_is_forked(server: Server, deploy: Make, what: str) -> None:
    name = deploy(SAFE[what])
    assert sorted(at_once(server, name)) == [1, 2, 3]
    assert template_of(server, name)["fork_safe"] is True, template_of(server, name)


def test_random_state_differs_between_instances_and_functions(server: Server, deploy: Make) -> None:
    source = """
import random, secrets, ssl, tempfile, time, uuid
def handler(event, context):
    time.sleep(0.3)
    return [random.random(), secrets.token_hex(), ssl.RAND_bytes(8).hex(), str(uuid.uuid4()), tempfile.mktemp()]
"""
    seen = [answer for name in (deploy(source), deploy(source)) for answer in at_once(server, name, 2)]
    for values in zip(*seen, strict=True):
        assert len(set(values)) == 4, values


def test_hooks_run_in_lambdas_order(server: Server, deploy: Make) -> None:
    name = deploy("""
from snapshot_restore_py import register_before_snapshot, register_after_restore
import os
ran = []
@register_before_snapshot
def first(): ran.append("before 1")
register_before_snapshot(lambda n: ran.append(f"before {n}"), 2)
@register_after_restore
def again(): ran.append("after 1")
register_after_restore(lambda n: ran.append(f"after {n}"), n=2)
def handler(event, context): return ran
""")
    assert at_once(server, name, 2) == [["before 2", "before 1", "after 1", "after 2"]] * 2


def test_a_hook_that_fails_answers_the_invocation(server: Server, deploy: Make) -> None:
    name = deploy("""
import snapshot_restore_py
def again(): raise ConnectionError("no database today")
snapshot_restore_py.register_after_restore(again)
def handler(event, context): return 1
""")
    response = server.boto3().invoke(FunctionName=name, Payload=b"{}")
    answer = json.loads(response["Payload"].read())
    assert response["FunctionError"] == "Unhandled"
    assert (answer["errorType"], answer["errorMessage"]) == ("ConnectionError", "no database today")
    assert any("again" in line for line in answer["stackTrace"])


@pytest.mark.soak
def test_hooks_after_the_restore_have_ten_seconds(patient: Server, package: Callable[..., bytes]) -> None:
    name = deployer(patient, package)("""
import snapshot_restore_py, time
snapshot_restore_py.register_after_restore(time.sleep, 600)
def handler(event, context): return 1
""")
    response = patient.boto3().invoke(FunctionName=name, Payload=b"{}")
    answer = json.loads(response["Payload"].read())
    assert answer["errorType"] == "Sandbox.Timedout"
    assert "10.00 seconds" in answer["errorMessage"]


DATA = """
import numpy
x = numpy.random.default_rng(7).normal(size=(400, 6))
y = (x[:, 0] + x[:, 1] > 0).astype(int)
"""
NATIVE = {
    "scikit-learn": (
        ("scikit-learn",),
        """
from sklearn.ensemble import HistGradientBoostingClassifier
model = HistGradientBoostingClassifier(max_iter=20).fit(x, y)
def predict(rows): return model.predict_proba(rows)[:, 1]
""",
    ),
    "lightgbm": (
        ("lightgbm", "numpy"),
        """
import lightgbm
model = lightgbm.train({"num_threads": 2, "verbose": -1, "objective": "binary"}, lightgbm.Dataset(x, y), 20)
def predict(rows): return model.predict(rows, num_threads=2)
""",
    ),
    "xgboost": (
        ("xgboost-cpu", "numpy"),
        """
import xgboost
model = xgboost.train({"nthread": 2, "objective": "binary:logistic"}, xgboost.DMatrix(x, y), 20)
def predict(rows): return model.predict(xgboost.DMatrix(rows, nthread=2))
""",
    ),
    "onnxruntime": (
        ("onnxruntime", "numpy"),
        """
import onnxruntime
def field(number, content):
    if isinstance(content, int): return bytes([number << 3]) + bytes([content])
    return bytes([number << 3 | 2, len(content)]) + content
def node(inputs, output): return b"".join(field(1, i) for i in inputs) + field(2, output) + field(4, b"Add")
def value(name, *shape):
    dimensions = b"".join(field(1, field(1, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dimensions)))
graph = b"".join(field(1, each) for each in (node([b"x", b"x"], b"a"), node([b"x", b"x"], b"b"), node([b"a", b"b"], b"y")))
graph += field(2, b"g") + field(11, value(b"x", 4, 6)) + field(12, value(b"y", 4, 6))
model = field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 13))
options = onnxruntime.SessionOptions()
options.inter_op_num_threads, options.intra_op_num_threads = 2, 2
options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
def predict(rows): return session.run(None, {"x": rows.astype("float32")})[0][:, 0]
""",
    ),
}


@pytest.mark.soak
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("library", NATIVE)
def test_native_pools_of_init_do_not_hang_an_instance(
    patient: Server, package: Callable[..., bytes], library: str, threads: int
) -> None:
    packages, source = NATIVE[library]
    source = (
        DATA + source + "trained = [float(p) for p in predict(x[:4])]\n"
        "def handler(event, context):\n"
        "    answer = [float(p) for p in predict(x[:4])]\n"
        "    import time; time.sleep(0.3)\n"
        "    return answer == trained\n"
    )
    more = {"Environment": {"Variables": {"OMP_NUM_THREADS": str(threads)}}}
    name = deployer(patient, package)(source, packages, 1769, **more)
    assert at_once(patient, name) == [True] * 3
    assert at_once(patient, name) == [True] * 3


@pytest.mark.soak
def test_numpys_generators_differ_unless_they_were_given_a_seed(server: Server, deploy: Make) -> None:
    source = """
import numpy, random, time
from numpy.random import default_rng
mine, given, old = default_rng(), default_rng(42), numpy.random.RandomState()
spawned = mine.spawn(1)[0]
def handler(event, context):
    time.sleep(0.3)
    return [numpy.random.random(), mine.random(), old.random_sample(), spawned.random(), default_rng().random(), given.random()]
"""
    names = [deploy(source, ("numpy",)), deploy(source, ("numpy",))]
    seen = [answer for name in names for answer in at_once(server, name, 2)]
    *different, same = zip(*seen, strict=True)
    for values in different:
        assert len(set(values)) == 4, values
    assert len(set(same)) == 1
