"""kill -9 of the server at named moments: nothing acknowledged is lost, nothing is billed twice, nothing of the old run remains."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable

import httpx
import pytest
from leftovers import Leftovers

from harness import Server, eventually

ROLE = "arn:aws:iam::000000000000:role/any"
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
    "jobs.finished",
]
TRAINING = [
    "runs.created",
    "runs.event_appended",
    "runs.metrics_written",
    "runs.finishing",
    "runs.finished",
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


def deploy_body(name: str, zipped: bytes) -> dict:
    """CreateFunction's body."""
    import base64

    return {
        "FunctionName": name,
        "Runtime": "python3.11",
        "Role": ROLE,
        "Handler": "app.handler",
        "Timeout": 10,
        "Code": {"ZipFile": base64.b64encode(zipped).decode()},
    }


def drive_invocations(http: httpx.Client, kept: dict, zipped: bytes) -> None:
    """Creates a function, calls it, sends it events; `kept` holds what was acknowledged."""
    created = ask(http, "POST", "/2015-03-31/functions", json=deploy_body("kept", zipped))
    if created.status_code != 201:
        assert created.status_code == 409, created.text
    kept["function"] = True
    for n in range(3):
        path = "/2015-03-31/functions/kept/invocations"

        def active(path: str = path, n: int = n) -> httpx.Response | None:
            answer = ask(http, "POST", path, json={"call": n})
            return None if answer.status_code == 409 else answer

        answer = eventually(active, what="an active function")
        assert answer is not None and answer.status_code == 200, answer
        kept.setdefault("calls", []).append(answer.headers["x-amzn-RequestId"])
        sent = ask(
            http,
            "POST",
            path,
            json={"event": n},
            headers={"X-Amz-Invocation-Type": "Event"},
        )
        assert sent.status_code == 202, sent.text
        kept.setdefault("events", []).append(n)
    time.sleep(0)


def check_invocations(server: Server, http: httpx.Client, kept: dict) -> None:
    """Every acknowledged call is billed once, every accepted event ran at least once."""
    if kept.get("function"):
        assert http.get("/2015-03-31/functions/kept").status_code == 200

    def ran() -> bool:
        lines = [json.loads(line) for line in http.get("/v1/functions/kept/logs?limit=1000").text.splitlines()]
        text = "\n".join(line["text"] for line in lines)
        return all(f"did {{'event': {n}}}" in text for n in kept.get("events", []))

    if kept.get("events"):
        eventually(ran, what="every accepted event")
    records = http.get("/v1/usage?limit=10000").json()["items"]
    ids = Counter(record["id"] for record in records)
    assert not [key for key, times in ids.items() if times > 1]
    billed = {record["request_id"] for record in records}
    assert set(kept.get("calls", [])) <= billed


def drive_upload(http: httpx.Client, kept: dict, zipped: bytes) -> None:
    """Uploads a CSV and makes a dataset of it."""
    blob = ask(http, "PUT", "/v1/blobs", content=CSV.encode()).json()
    kept["blob"] = blob["id"]
    body = {
        "name": "table",
        "blob": blob["id"],
        "filename": "table.csv",
        "label": "label",
    }
    job = ask(http, "POST", "/v1/datasets", json=body)
    assert job.status_code == 202, job.text
    kept["job"] = job.json()["id"]

    def over() -> dict | None:
        state = ask(http, "GET", f"/v1/jobs/{kept['job']}?wait=5").json()
        return state if state["state"] in ("succeeded", "failed") else None

    assert eventually(over, within=60, what="the ingest job")["state"] == "succeeded"


def check_upload(server: Server, http: httpx.Client, kept: dict) -> None:
    """The acknowledged blob is whole; the acknowledged job ends well, with exactly one version of 500 rows."""
    if "blob" in kept:
        content = http.get(f"/v1/blobs/{kept['blob']}").content
        assert hashlib.sha256(content).hexdigest() == kept["blob"]
    if "job" in kept:

        def over() -> dict | None:
            state = http.get(f"/v1/jobs/{kept['job']}?wait=5").json()
            return state if state["state"] in ("succeeded", "failed") else None

        job = eventually(over, within=90, what="the job taken up again")
        assert job and job["state"] == "succeeded", job
        table = http.get("/v1/datasets/table").json()
        assert table["versions"] == [1]
        assert http.get("/v1/datasets/table/versions/1").json()["rows"] == 500


TRAINER = """
import json
from sundog.runtime import host
def handler(payload, context):
    host.call("run.metrics", {"step": 1, "values": {"auc": 0.5}})
    file = host.create_file()
    file.write(b"model")
    blob = file.commit()
    return json.dumps({"metrics": {"auc": 0.5}, "artefact": {"blob": blob, "format": "cloudpickle", "bytes": 5},
                       "signature": {"inputs": [], "outputs": []}, "stopped": False}).encode()
handler.__sundog_raw__ = True
"""


def drive_training(http: httpx.Client, kept: dict, zipped: bytes) -> None:
    """Makes a dataset, a training function and a run of it."""
    drive_upload(http, kept, zipped)
    created = ask(http, "POST", "/2015-03-31/functions", json=deploy_body("trainer", zipped))
    assert created.status_code in (201, 409), created.text
    eventually(
        lambda: ask(http, "GET", "/2015-03-31/functions/trainer").json()["Configuration"]["State"] == "Active",
        what="an active trainer",
    )
    run = ask(
        http,
        "POST",
        "/v1/runs",
        json={"function": "trainer", "dataset": "table@1", "parameters": {}},
    )
    assert run.status_code == 202, run.text
    kept["run"] = run.json()["id"]

    def over() -> bool:
        state = ask(http, "GET", f"/v1/runs/{kept['run']}?wait=5").json()["state"]
        return state in ("succeeded", "failed")

    eventually(over, within=60, what="the run")


def check_training(server: Server, http: httpx.Client, kept: dict) -> None:
    """An acknowledged run ends well with its artefact."""
    check_upload(server, http, kept)
    if "run" in kept:

        def over() -> dict | None:
            run = http.get(f"/v1/runs/{kept['run']}?wait=5").json()
            return run if run["state"] in ("succeeded", "failed") else None

        run = eventually(over, within=90, what="the run taken up again")
        assert run and run["state"] == "succeeded", run
        assert http.get(f"/v1/blobs/{run['artefact']['blob']}").content == b"model"


CASES = (
    [(point, drive_invocations, check_invocations, SOURCE) for point in INVOCATION]
    + [(point, drive_upload, check_upload, SOURCE) for point in UPLOAD]
    + [(point, drive_training, check_training, TRAINER) for point in TRAINING]
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
        eventually(
            lambda: ask(http, "GET", "/healthz") is None,
            within=10,
            what=f"the death at {point}",
        )
    assert server.wait_dead() == -9
    server.env = {}
    server.start()
    with server.http() as http:
        check(server, http, kept)
    leftovers = Leftovers(server)
    assert server.stop() == 0
    leftovers.assert_none()


def test_there_are_twenty_points() -> None:
    assert len({case[0] for case in CASES}) >= 20
