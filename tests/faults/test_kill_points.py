"""kill -9 of the server at named moments: nothing acknowledged is lost, nothing is billed twice, nothing of the old run remains."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections import Counter
from collections.abc import Callable

import httpx
import pytest
from lambda_calls import FUNCTIONS, create, function_body, job_over, run_over
from leftovers import Leftovers

from harness import Server, eventually

SOURCE = """
import sys
def handler(event, context):
    print("did", event)
    return event
"""
CSV = "a,b,label\n" + "".join(f"{n},{n * 7 % 13},{n % 2}\n" for n in range(500))

INVOCATION = [
    "functions.code_extracted",
    "functions.created",
    "invoke.started",
    "invoke.answered",
    "invoke.metered",
    "events.accepted",
    "events.delivered",
    "events.ran",
    "events.settled",
]
UPLOAD = [
    "blobs.written",
    "blobs.linked",
    "jobs.submitted",
    "jobs.started",
    "jobs.step_done",
    "datasets.version_added",
    "jobs.before_finish",
    "jobs.finished",
]
TRAINING = [
    "runs.created",
    "runs.event_appended",
    "runs.begun",
    "runs.metrics_written",
    "runs.finishing",
    "runs.finished",
]


DEPLOY = [
    "models.version_added",
    "functions.published",
    "functions.alias_created",
]


class Died(Exception):
    """The server went away while it was asked something."""


def ask(http: httpx.Client, method: str, path: str, **options: object) -> httpx.Response:
    """One request; Died when the server goes away in the middle."""
    try:
        response = http.request(method, path, **options)  # type: ignore[arg-type]
    except httpx.TransportError as error:
        raise Died from error
    assert response.status_code < 500, response.text
    return response


def booked(server: Server) -> list[dict]:
    """The usage records as they stand in the ledger's files; GET /v1/usage would hide a record that is there twice."""
    records = []
    for path in sorted((server.data / "ledger").glob("*.ledger")):
        for line in path.read_text().splitlines():
            _checksum, _space, record = line.partition(" ")
            records.append(json.loads(record))
    return records


def check_ledger(server: Server) -> None:
    """No attempt of an invocation is booked twice."""
    times = Counter(record["id"].rpartition("-")[0] for record in booked(server))
    assert not [key for key, count in times.items() if count > 1]


def drive_invocations(http: httpx.Client, kept: dict, zipped: bytes) -> None:
    """Creates a function, calls it, sends it events; `kept` holds what was acknowledged."""
    created = ask(http, "POST", FUNCTIONS, json=function_body("kept", zipped))
    assert created.status_code == 201, created.text
    kept["function"] = True
    path = f"{FUNCTIONS}/kept/invocations"
    for n in range(3):
        answer = ask(http, "POST", path, json={"call": n})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"call": n}
        kept.setdefault("calls", []).append(answer.headers["x-amzn-RequestId"])
        sent = ask(http, "POST", path, json={"event": n}, headers={"X-Amz-Invocation-Type": "Event"})
        assert sent.status_code == 202, sent.text
        kept.setdefault("events", []).append(sent.headers["x-amzn-RequestId"])


def check_invocations(server: Server, http: httpx.Client, kept: dict) -> None:
    """Every acknowledged call is billed once, every accepted event ran at least once; the function goes on."""
    if kept.get("function"):
        assert http.get(f"{FUNCTIONS}/kept").status_code == 200
        again = http.post(f"{FUNCTIONS}/kept/invocations", json={"after": "all"})
        assert again.status_code == 200, again.text
        kept.setdefault("calls", []).append(again.headers["x-amzn-RequestId"])
    eventually(
        lambda: set(kept.get("events", [])) <= {r["request_id"] for r in booked(server) if r["outcome"] == "ok"},
        what="every accepted event",
    )
    of_calls = Counter(record["request_id"] for record in booked(server))
    assert {key: of_calls[key] for key in kept.get("calls", [])} == dict.fromkeys(kept.get("calls", []), 1)


def drive_upload(http: httpx.Client, kept: dict, zipped: bytes) -> None:
    """Uploads a CSV and makes a dataset of it."""
    blob = ask(http, "PUT", "/v1/blobs", content=CSV.encode()).json()
    kept["blob"] = blob["id"]
    body = {"name": "table", "blob": blob["id"], "filename": "table.csv", "label": "label"}
    job = ask(http, "POST", "/v1/datasets", json=body)
    assert job.status_code == 202, job.text
    kept["job"] = job.json()["id"]
    state = until_over(http, f"/v1/jobs/{kept['job']}?wait=5")
    assert state["state"] == "succeeded", state


def until_over(http: httpx.Client, path: str) -> dict:
    """Polls a job or a run until it has ended or the server has."""

    def over() -> dict | None:
        state = ask(http, "GET", path).json()
        return state if state["state"] not in ("queued", "running") else None

    ended = eventually(over, within=60, what=f"the end of {path}")
    assert ended
    return ended


def check_upload(server: Server, http: httpx.Client, kept: dict) -> None:
    """The acknowledged blob is whole; the acknowledged job ends well, with exactly one version of 500 rows."""
    if "blob" in kept:
        content = http.get(f"/v1/blobs/{kept['blob']}").content
        assert hashlib.sha256(content).hexdigest() == kept["blob"]
    if "job" in kept:
        job = job_over(http, kept["job"])
        assert job["state"] == "succeeded", job
        table = http.get("/v1/datasets/table").json()
        assert table["versions"] == [1]
        assert http.get("/v1/datasets/table/versions/1").json()["rows"] == 500


TRAINER = """
import json
from sundog.runtime import host
def handler(payload, context):
    begun, _ = host.call("run.start", {})
    answer = {"metrics": {}, "artefact": None, "signature": None, "stopped": begun["stop"]}
    if not begun["stop"]:
        host.call("run.metrics", {"step": 1, "values": {"auc": 0.5}})
        file = host.create_file()
        file.write(b"model")
        answer["metrics"] = {"auc": 0.5}
        answer["artefact"] = {"blob": file.commit(), "format": "cloudpickle", "bytes": 5}
        answer["signature"] = {"inputs": [], "outputs": []}
    return json.dumps(answer).encode()
handler.__sundog_raw__ = True
"""


def drive_training(http: httpx.Client, kept: dict, zipped: bytes) -> None:
    """Makes a dataset, a training function and a run of it."""
    drive_upload(http, kept, zipped)
    body = function_body("trainer", zipped, tags={"sundog:kind": "training"})
    created = ask(http, "POST", FUNCTIONS, json=body)
    assert created.status_code == 201, created.text
    run = ask(http, "POST", "/v1/runs", json={"function": "trainer", "dataset": "table@1", "parameters": {}})
    assert run.status_code == 202, run.text
    kept["run"] = run.json()["id"]
    until_over(http, f"/v1/runs/{kept['run']}?wait=5")


def check_training(server: Server, http: httpx.Client, kept: dict) -> None:
    """Whatever run there is ends well with its artefact, and costs what its attempts cost."""
    check_upload(server, http, kept)
    runs = [run["id"] for run in http.get("/v1/runs").json()["items"]]
    assert "run" not in kept or runs == [kept["run"]]
    assert len(runs) == 1
    run = run_over(http, runs[0])
    assert run["state"] == "succeeded", run
    assert http.get(f"/v1/blobs/{run['artefact']['blob']}").content == b"model"
    assert len(http.get(f"/v1/runs/{run['id']}?metrics_after=0").json()["points"]) in (1, 2)
    # An attempt that began after the run had ended is told so, and is none of the run's.
    attempts = [record["billed_ms"] for record in booked(server) if record["function"] == "trainer"]
    assert run["billed_ms"] in (sum(attempts), sum(attempts[:-1]))


def drive_deploy(http: httpx.Client, kept: dict, zipped: bytes) -> None:
    """Registers an artefact as a model and deploys it."""
    blob = ask(http, "PUT", "/v1/blobs", content=pickle.dumps({"a": "model"})).json()["id"]
    version = ask(
        http,
        "POST",
        "/v1/models/thing/versions",
        json={
            "artefact": blob,
            "format": "cloudpickle",
            "signature": {
                "inputs": [{"name": "a", "type": "int64", "nullable": False}],
                "outputs": [{"name": "b", "type": "int64"}],
            },
            "environment": "",
        },
    )
    assert version.status_code in (200, 201), version.text
    kept["version"] = version.json()["version"]
    job = ask(http, "POST", "/v1/models/thing/deploy", json={"version": 1, "alias": "live"})
    assert job.status_code == 202, job.text
    kept["job"] = job.json()["id"]
    state = until_over(http, f"/v1/jobs/{kept['job']}?wait=5")
    assert state["state"] == "succeeded", state


def check_deploy(server: Server, http: httpx.Client, kept: dict) -> None:
    """An acknowledged version is there; an acknowledged deploy ends well, with one published version behind the alias."""
    if "version" in kept:
        assert [one["version"] for one in http.get("/v1/models/thing").json()["versions"]] == [kept["version"]]
    if "job" in kept:
        job = job_over(http, kept["job"])
        assert job["state"] == "succeeded", job
        endpoint = http.get("/v1/models/thing/endpoint").json()
        assert endpoint["weights"] == {"1": 1.0}
        versions = http.get(f"{FUNCTIONS}/model-thing/versions").json()["Versions"]
        assert [one["Version"] for one in versions] == ["$LATEST", endpoint["versions"]["1"]]
        assert http.get("/v2/models/thing/ready").status_code == 200


CASES = (
    [(point, drive_invocations, check_invocations, SOURCE) for point in INVOCATION]
    + [(point, drive_upload, check_upload, SOURCE) for point in UPLOAD]
    + [(point, drive_training, check_training, TRAINER) for point in TRAINING]
    + [(point, drive_deploy, check_deploy, SOURCE) for point in DEPLOY]
)


@pytest.mark.parametrize(("point", "drive", "check", "source"), CASES, ids=[case[0] for case in CASES])
def test_kill_at(
    point: str,
    drive: Callable,
    check: Callable,
    source: str,
    fresh_server: Callable[..., Server],
    package: Callable[..., bytes],
) -> None:
    server = fresh_server(env={"SUNDOG_KILL_POINT": point}).start()
    kept: dict = {}
    with pytest.raises(Died), server.http() as http:
        drive(http, kept, package(app=source))
        # What was asked is done; the moment may still be to come, behind the last answer.
        eventually(lambda: ask(http, "GET", "/healthz") is None, within=10, what=f"the death at {point}")
    assert server.wait_dead() == -9
    server.env = {}
    server.start()
    leftovers = Leftovers(server)
    leftovers.assert_only_of(server)
    with server.http() as http:
        check(server, http, kept)
    check_ledger(server)
    assert server.stop() == 0
    leftovers.assert_none()


def test_leftovers_sees_what_there_is_to_see(
    fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server().start()
    leftovers = Leftovers(server)
    with server.http() as http:
        create(http, "kept", package(app=SOURCE))
        assert http.post(f"{FUNCTIONS}/kept/invocations", json=1).status_code == 200
    seen = list(leftovers.processes().values())
    for marks in (["server"], ["launcher"], ["launcher", "code"], ["cell", "code"]):
        assert marks in seen
    assert any("/c" in cell.rpartition("sundog-")[2] for cell in leftovers.cgroups())
    assert not leftovers.strangers(server)
    server.kill()
    leftovers.assert_processes_end()


def test_there_are_twenty_points() -> None:
    assert len({case[0] for case in CASES}) >= 20
