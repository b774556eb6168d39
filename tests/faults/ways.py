"""Ways that a server is asked to go, and what must hold after it died on the way: nothing acknowledged is lost or billed twice."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import cloudpickle
import httpx
from lambda_calls import FUNCTIONS, function_body, job_over, run_over
from streams import ROUTES, STREAMER, stream

from harness import Server, eventually

SOURCE = """
import sys
def handler(event, context):
    print("did", event)
    return event
"""
PROVISIONED_PATH = "/2019-09-30/functions/ready/provisioned-concurrency?Qualifier=1"
CSV = "a,b,label\n" + "".join(f"{n},{n * 7 % 13},{n % 2}\n" for n in range(500))


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


def drive_rest(http: httpx.Client, kept: dict, zipped: bytes) -> None:
    """Calls a function until its instance is parked, and once more."""
    created = ask(http, "POST", FUNCTIONS, json=function_body("kept", zipped))
    assert created.status_code == 201, created.text
    kept["function"] = True
    for n in range(3):
        answer = ask(http, "POST", f"{FUNCTIONS}/kept/invocations", json=n)
        assert (answer.status_code, answer.text) == (200, str(n))
        kept.setdefault("calls", []).append(answer.headers["x-amzn-RequestId"])
        eventually(
            lambda: [one["state"] for one in ask(http, "GET", "/v1/fleet").json()["instances"]] == ["parked"],
            what="a parked instance",
        )


def drive_stream(http: httpx.Client, kept: dict, zipped: bytes) -> None:
    """Reads streamed answers by each route; what is acknowledged is a whole one."""
    created = ask(http, "POST", FUNCTIONS, json=function_body("kept", zipped))
    assert created.status_code == 201, created.text
    kept["streams"] = True
    for route in ROUTES:
        try:
            end = stream(http, route, "kept", {"n": 1, "pieces": 3})
        except httpx.TransportError as error:
            raise Died from error
        if end.how == "broken off":
            raise Died
        assert end.whole, end.how
        kept.setdefault("calls", []).append(end.request_id)


def check_stream(server: Server, http: httpx.Client, kept: dict) -> None:
    """A whole answer is billed once; the next ones are whole."""
    if kept.get("streams"):
        for route in ROUTES:
            assert stream(http, route, "kept", {"n": 2, "pieces": 3}).whole
    check_invocations(server, http, kept)


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


def deploy_model(
    http: httpx.Client, kept: dict, name: str, blob: bytes, signature: dict, environment: str = ""
) -> None:
    """Registers an artefact as a model and deploys it; `kept` holds what was acknowledged."""
    artefact = ask(http, "PUT", "/v1/blobs", content=blob).json()["id"]
    body = {"artefact": artefact, "format": "cloudpickle", "signature": signature, "environment": environment}
    version = ask(http, "POST", f"/v1/models/{name}/versions", json=body)
    assert version.status_code in (200, 201), version.text
    kept["version"] = version.json()["version"]
    job = ask(http, "POST", f"/v1/models/{name}/deploy", json={"version": 1, "alias": "live"})
    assert job.status_code == 202, job.text
    kept["job"] = job.json()["id"]
    state = until_over(http, f"/v1/jobs/{kept['job']}?wait=5")
    assert state["state"] == "succeeded", state


def drive_deploy(http: httpx.Client, kept: dict, zipped: bytes) -> None:
    """Deploys a model that nobody asks."""
    signature = {
        "inputs": [{"name": "a", "type": "int64", "nullable": False}],
        "outputs": [{"name": "b", "type": "int64"}],
    }
    deploy_model(http, kept, "thing", pickle.dumps({"a": "model"}), signature)


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


def drive_environment(http: httpx.Client, kept: dict, zipped: bytes) -> None:
    """Has an environment built, of one small package."""
    body = {"packages": [f"cloudpickle=={importlib.metadata.version('cloudpickle')}"]}
    made = ask(http, "POST", "/v1/environments", json=body)
    assert made.status_code in (200, 201, 202), made.text
    kept["environment"] = made.json()["id"]
    built = environment_over(http, kept["environment"])
    assert built["state"] == "ready", built


def environment_over(http: httpx.Client, environment: str) -> dict:
    """Waits until an environment is built, or its build has failed."""

    def over() -> dict | None:
        state = ask(http, "GET", f"/v1/environments/{environment}?wait=5").json()
        return state if state["state"] != "building" else None

    ended = eventually(over, within=120, what=f"the end of {environment}")
    assert ended
    return ended


def check_environment(server: Server, http: httpx.Client, kept: dict) -> None:
    """What was accepted is built by the next server; half a build is removed."""
    for each in http.get("/v1/environments").json()["items"]:
        built = environment_over(http, each["id"])
        assert built["state"] == "ready", built
    if "environment" in kept:
        assert environment_over(http, kept["environment"])["resolved"]

    def unfinished() -> list[str]:
        # One that was accepted, but not yet put down as the tenant's, is built too.
        return [path.name for path in (server.data / "environments").iterdir() if path.name.startswith(".new-")]

    eventually(lambda: not unfinished(), within=60, what=f"the end of {unfinished()}")


def drive_preprocess(http: httpx.Client, kept: dict, zipped: bytes) -> None:
    """Makes a dataset, and one of another form out of it."""
    drive_upload(http, kept, zipped)
    body = {"as": "ready", "drop": ["b"], "split": {"by": "random", "parts": [0.5, 0.3, 0.2]}}
    job = ask(http, "POST", "/v1/datasets/table/versions/1/preprocess", json=body)
    assert job.status_code == 202, job.text
    kept["preprocess"] = job.json()["id"]
    until_over(http, f"/v1/jobs/{kept['preprocess']}?wait=5")


def check_preprocess(server: Server, http: httpx.Client, kept: dict) -> None:
    """The acknowledged job ends well, with exactly one version."""
    check_upload(server, http, kept)
    if "preprocess" in kept:
        job = job_over(http, kept["preprocess"])
        assert job["state"] == "succeeded", job
        assert http.get("/v1/datasets/ready").json()["versions"] == [1]


class Adds:
    """A model that any frame fits."""

    def predict(self, frame):  # type: ignore[no-untyped-def]
        return frame["a"] + frame["b"]


def deploy_adder(http: httpx.Client) -> None:
    """Deploys a model that reads whole shards, with the environment that this takes."""
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in ("cloudpickle", "pandas", "pyarrow")]
    environment = ask(http, "POST", "/v1/environments", json={"packages": wanted}).json()["id"]
    assert environment_over(http, environment)["state"] == "ready"
    cloudpickle.register_pickle_by_value(__import__(__name__))
    signature = {
        "inputs": [{"name": name, "type": "int64", "nullable": False} for name in ("a", "b")],
        "outputs": [{"name": "prediction", "type": "int64"}],
    }
    deploy_model(http, {}, "adder", cloudpickle.dumps(Adds()), signature, environment)


def drive_prediction(http: httpx.Client, kept: dict, zipped: bytes) -> None:
    """Scores a dataset offline."""
    deploy_adder(http)
    drive_upload(http, kept, zipped)
    job = ask(http, "POST", "/v1/models/adder/predictions", json={"dataset": "table@1", "as": "scored"})
    assert job.status_code == 202, job.text
    kept["prediction"] = job.json()["id"]
    until_over(http, f"/v1/jobs/{kept['prediction']}?wait=5")


def check_prediction(server: Server, http: httpx.Client, kept: dict) -> None:
    """The acknowledged job ends well, with exactly one version that has every row."""
    check_upload(server, http, kept)
    if "prediction" in kept:
        job = job_over(http, kept["prediction"])
        assert job["state"] == "succeeded", job
        assert http.get("/v1/datasets/scored").json()["versions"] == [1]
        assert http.get("/v1/datasets/scored/versions/1").json()["rows"] == 500


@dataclass(frozen=True)
class Way:
    """What a server is asked, what must hold when another server goes on, and the code of the functions on it."""

    drive: Callable[[httpx.Client, dict, bytes], None]
    check: Callable[[Server, httpx.Client, dict], None]
    source: str = SOURCE


def drive_provisioned(http: httpx.Client, kept: dict, zipped: bytes) -> None:
    """Publishes a function and keeps an instance of it ready."""
    body = function_body("ready", zipped) | {"Publish": True}
    assert ask(http, "POST", FUNCTIONS, json=body).status_code == 201
    kept["function"] = True
    put = ask(http, "PUT", PROVISIONED_PATH, json={"ProvisionedConcurrentExecutions": 1})
    assert put.status_code == 202, put.text
    kept["provisioned"] = True


def check_provisioned(server: Server, http: httpx.Client, kept: dict) -> None:
    """The version is there; what was acknowledged is kept ready, and what was not may be."""
    assert kept["function"]
    assert http.post(f"{FUNCTIONS}/ready/invocations?Qualifier=1", json=1).json() == 1
    if "provisioned" in kept or http.get(PROVISIONED_PATH).status_code == 200:
        eventually(lambda: http.get(PROVISIONED_PATH).json()["Status"] == "READY", what="an instance that is ready")


INVOCATION = Way(drive_invocations, check_invocations)
REST = Way(drive_rest, check_invocations)
STREAM = Way(drive_stream, check_stream, STREAMER)
UPLOAD = Way(drive_upload, check_upload)
TRAINING = Way(drive_training, check_training, TRAINER)
DEPLOY = Way(drive_deploy, check_deploy)
ENVIRONMENT = Way(drive_environment, check_environment)
PREPROCESS = Way(drive_preprocess, check_preprocess)
PROVISIONED = Way(drive_provisioned, check_provisioned)
PREDICTION = Way(drive_prediction, check_prediction)

# The server's own kill points (server/base/kill_point.h), and the way on which it comes by each.
POINTS = {
    "functions.code_extracted": INVOCATION,
    "functions.created": INVOCATION,
    "invoke.started": INVOCATION,
    "invoke.answered": INVOCATION,
    "invoke.metered": INVOCATION,
    "invoke.parked": REST,
    "invoke.thawed": REST,
    "invoke.streamed": STREAM,
    "events.accepted": INVOCATION,
    "events.delivered": INVOCATION,
    "events.ran": INVOCATION,
    "events.settled": INVOCATION,
    "blobs.written": UPLOAD,
    "blobs.linked": UPLOAD,
    "jobs.submitted": UPLOAD,
    "jobs.started": UPLOAD,
    "jobs.step_done": UPLOAD,
    "datasets.version_added": UPLOAD,
    "jobs.before_finish": UPLOAD,
    "jobs.finished": UPLOAD,
    "runs.created": TRAINING,
    "runs.event_appended": TRAINING,
    "runs.begun": TRAINING,
    "runs.metrics_written": TRAINING,
    "runs.finishing": TRAINING,
    "runs.finished": TRAINING,
    "models.version_added": DEPLOY,
    "functions.published": DEPLOY,
    "functions.alias_created": DEPLOY,
    "functions.provisioned": PROVISIONED,
    "environments.accepted": ENVIRONMENT,
    "environments.resolved": ENVIRONMENT,
    "environments.installed": ENVIRONMENT,
    "environments.published": ENVIRONMENT,
    "environments.ready": ENVIRONMENT,
    "preprocess.saved": PREPROCESS,
    "predictions.group_scored": PREDICTION,
}
