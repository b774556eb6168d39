"""Datasets, jobs, runs, models, keys, bill: golden requests sent, golden answers read."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy
import pandas
import pyarrow
import pyarrow.parquet
import pytest

import sundog
from sdk import FakeServer, golden
from sundog import errors
from sundog.bill import money, parse_bill
from sundog.datasets import megabytes, parse_dataset_version
from sundog.profile import Profile
from sundog.rows import Predictions, to_row_dicts

REQUESTS = golden("requests")
VERSION = golden("dataset-version")


def done(kind: str, result: Any) -> Any:
    """A job that has succeeded."""
    return {**golden("job-running"), "kind": kind, "state": "succeeded", "result": result}


def sent(server: FakeServer, name: str) -> None:
    """The server got exactly the golden request of that name."""
    wanted = REQUESTS[name]
    assert server.bodies(wanted["method"], wanted["path"]) == [wanted["body"]]


def test_create_uploads_and_waits(tmp_path: Path) -> None:
    path = tmp_path / "clients.csv.gz"
    path.write_bytes(b"x" * 3_000_000)
    server = FakeServer(
        {
            ("PUT", "/v1/blobs"): {"id": "a" * 64, "bytes": 3_000_000},
            ("POST", "/v1/datasets"): golden("job-running"),
            ("GET", "/v1/jobs/job-1"): [
                {**golden("job-running"), "progress": {"done": 2, "total": 3, "note": "writing"}},
                done("ingest", VERSION),
            ],
        }
    )
    seen: list[tuple[str, int, int]] = []
    version = server.cloud().datasets.create(
        "clients", path, label="default", missing=["n/a"], progress=lambda *step: seen.append(step)
    )
    sent(server, "create dataset")
    upload = next(r for r in server.requests if r.method == "PUT")
    assert (len(upload.content), upload.headers["content-length"]) == (3_000_000, "3000000")
    assert ("uploading", 3_000_000, 3_000_000) in seen
    assert ("writing", 2, 3) in seen
    assert (version.reference, version.rows, version.quarantined) == ("clients@1", 30000, 3)
    assert version.splits == {"train": 20000, "test": 10000}
    assert "clients@1: 30,000 rows × 2 columns" in str(version)
    assert "LIMIT_BAL" in version._repr_html_()


@pytest.mark.parametrize(
    "source",
    [
        pandas.DataFrame({"a": [1, 2], "b": ["x", None]}),
        pyarrow.table({"a": [1, 2], "b": ["x", None]}),
        [{"a": 1, "b": "x"}, {"a": 2, "b": None}],
    ],
)
def test_create_from_memory_sends_parquet(source: Any) -> None:
    server = FakeServer({("PUT", "/v1/blobs"): {"id": "b"}, ("POST", "/v1/datasets"): done("ingest", VERSION)})
    server.cloud().datasets.create("clients", source)
    upload = next(r for r in server.requests if r.method == "PUT")
    assert pyarrow.parquet.read_table(io.BytesIO(upload.content)).to_pydict() == {"a": [1, 2], "b": ["x", None]}
    body = server.bodies("POST", "/v1/datasets")[0]
    assert (body["format"], body["compression"]) == ("parquet", "none")


def test_create_from_a_stream_and_from_nothing() -> None:
    server = FakeServer({("PUT", "/v1/blobs"): {"id": "b"}, ("POST", "/v1/datasets"): done("ingest", VERSION)})
    server.cloud().datasets.create("clients", io.BytesIO(b"a,b\n1,2\n"))
    assert next(r for r in server.requests if r.method == "PUT").content == b"a,b\n1,2\n"
    for source, words in (("/no/such.csv", "no file"), (7, "a int")):
        with pytest.raises(errors.InvalidArgument, match=words):
            server.cloud().datasets.create("clients", source)


def test_a_failed_job_is_its_error() -> None:
    server = FakeServer({("PUT", "/v1/blobs"): {"id": "b"}, ("POST", "/v1/datasets"): golden("job-failed")})
    with pytest.raises(errors.InvalidArgument) as caught:
        server.cloud().datasets.create("clients", io.BytesIO(b"a"))
    assert caught.value.hint == "The columns: LIMIT_BAL, default."


def test_a_job_that_takes_too_long_goes_on() -> None:
    from sundog.jobs import Jobs

    times = iter([0.0, 5.0, 11.0])
    jobs = Jobs(FakeServer({("GET", "/v1/jobs/job-1"): golden("job-running")}).transport(), clock=lambda: next(times))
    with pytest.raises(errors.DeadlineExceeded, match="still running after 10 s"):
        jobs.wait("job-1", timeout=10)


def test_jobs_are_listed_page_by_page_as_they_are_asked_for() -> None:
    pages = {"": (["job-9", "job-8"], "job-8"), "job-8": (["job-7", "job-6"], "job-6"), "job-6": (["job-5"], "")}

    def page(request: httpx.Request) -> object:
        ids, following = pages[request.url.params.get("after", "")]
        return {"items": [{**golden("job-running"), "id": name} for name in ids], "next": following}

    server = FakeServer({("GET", "/v1/jobs"): page})
    listed = server.cloud().jobs.list()
    assert [next(listed).id for _ in range(3)] == ["job-9", "job-8", "job-7"]
    assert sum(request.url.path == "/v1/jobs" for request in server.requests) == 2
    assert [job.id for job in listed] == ["job-6", "job-5"]


def test_preprocess() -> None:
    server = FakeServer(
        {("POST", "/v1/datasets/clients/versions/1/preprocess"): done("preprocess", {**VERSION, "version": 2})}
    )
    version = parse_dataset_version(VERSION, server.cloud().datasets)
    ready = version.preprocess(
        name="ready", drop=["ID"], balance="undersample", split=(0.6, 0.2, 0.2), fit_in="512 MB",
        drop_missing=["a"], fill={"b": 0}, ranges={"AGE": (18, 100)},
    )  # fmt: skip
    sent(server, "preprocess")
    assert ready.version == 2
    with pytest.raises(errors.InvalidArgument, match="sum up to 1"):
        version.preprocess(split=(0.5, 0.2, 0.2))
    assert [megabytes(s) for s in (256, "512 MB", "1 GB", "1.5 gib")] == [256, 512, 1024, 1536]
    with pytest.raises(errors.InvalidArgument):
        megabytes("much")


def test_download_preview_quarantine() -> None:
    def parquet(values: list[int]) -> httpx.Response:
        target = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table({"a": values}), target)
        return httpx.Response(200, content=target.getvalue())

    server = FakeServer(
        {
            ("GET", f"/v1/blobs/{'a' * 64}"): parquet([1, 2]),
            ("GET", f"/v1/blobs/{'b' * 64}"): parquet([3]),
            ("GET", "/v1/datasets/clients/versions/1/rows"): {"columns": ["a"], "rows": [[1], [2]]},
            ("GET", "/v1/datasets/clients/versions/1/quarantine"): {
                "items": [{"line": 7, "reason": "r", "text": "t"}],
                "next": "",
            },
            ("GET", "/v1/datasets/clients/versions/latest"): VERSION,
        }
    )
    version = server.cloud().datasets.get("clients")
    assert version.to_arrow("train").to_pydict() == {"a": [1, 2]}
    assert version.to_pandas()["a"].tolist() == [1, 2, 3]
    with pytest.raises(errors.NotFound, match="train, test"):
        version.to_arrow("valid")
    assert version.preview().rows == ((1,), (2,))
    assert [(q.line, q.reason) for q in version.quarantine()] == [(7, "r")]


def test_profile_as_text_and_page(tmp_path: Path) -> None:
    profile = Profile(golden("profile"))
    assert profile["LIMIT_BAL"].quantiles["0.5"] == 140000
    assert "imbalanced" in str(profile)
    page = profile.save(tmp_path / "p.html").read_text()
    assert page.count("<svg") == 3
    assert "&lt;b&gt;Taipei" in page
    assert "<b>Taipei" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


def test_train_and_runs() -> None:
    server = FakeServer(
        {("POST", "/v1/runs"): {**golden("run"), "state": "queued"}, ("GET", "/v1/runs/run-1"): golden("run")}
    )
    run = server.cloud().train("risk-fit", "clients@2", {"learning_rate": 0.1})
    sent(server, "create run")
    assert (run.state, run.metrics["auc"], run.points[1].step) == ("succeeded", 0.78, 30)


def test_a_failed_run_is_the_functions_error() -> None:
    failed = {
        **golden("run"),
        "state": "failed",
        "error": {
            "code": "invalid_argument",
            "type": "KeyError",
            "message": "KeyError: 'x'",
            "hint": "h",
            "stack": ["l1"],
        },
    }
    server = FakeServer({("POST", "/v1/runs"): failed, ("GET", "/v1/runs/run-1"): failed})
    with pytest.raises(errors.FunctionError) as caught:
        server.cloud().train("risk-fit", "clients@2")
    assert (caught.value.error_type, caught.value.message, caught.value.stack_trace) == ("KeyError", "'x'", ("l1",))


def test_register_deploy_predict() -> None:
    server = FakeServer(
        {
            ("POST", "/v1/models/risk/versions"): golden("model-version"),
            ("POST", "/v1/models/risk/deploy"): done("deploy", golden("endpoint")),
            ("PUT", "/v1/models/risk/traffic"): golden("endpoint"),
            ("POST", "/v1/models/risk/predict"): golden("predictions"),
            ("POST", "/v1/models/risk/predictions"): done("predict", VERSION),
            ("GET", "/v1/studies/s"): golden("study"),
        }
    )
    cloud = server.cloud()
    version = cloud.models.register("risk", cloud.studies.get("s").best)
    sent(server, "register run")
    assert [c.name for c in version.signature.outputs] == ["prediction", "probability"]
    endpoint = version.deploy()
    sent(server, "deploy")
    assert endpoint.weights == {1: 0.9, 2: 0.1}
    assert endpoint.url == "http://sundog.test/v2/models/risk/infer"
    endpoint.traffic({1: 0.9, 2: 0.1})
    sent(server, "traffic")
    with pytest.raises(errors.InvalidArgument, match="sum"):
        endpoint.traffic({1: 0.9})
    answer = endpoint.predict({"LIMIT_BAL": 10000})
    sent(server, "predict")
    assert answer.column("probability") == [0.25, 0.75]
    assert endpoint.predict_offline("clients@1").reference == "clients@1"
    sent(server, "predict offline")


def test_a_row_that_does_not_fit_is_a_signature_error() -> None:
    body = {"error": {"code": "invalid_argument", "message": 'Column "AGE" (int64) is missing in row 0.', "hint": ""}}
    server = FakeServer({("POST", "/v1/models/risk/predict"): httpx.Response(400, json=body)})
    with pytest.raises(errors.SignatureError, match="AGE"):
        server.cloud().models.predict("risk", [{}])


def test_rows_in_every_form() -> None:
    want = [{"a": 1, "b": 0.5}, {"a": 2, "b": None}]
    frame = pandas.DataFrame({"a": [1, 2], "b": [0.5, float("nan")]})
    for rows in (frame, pyarrow.table({"a": [1, 2], "b": [0.5, None]}), want, Predictions(want)):
        got = to_row_dicts(rows)
        assert got == want
        json.dumps(got, allow_nan=False)
    assert to_row_dicts({"a": numpy.int64(3)}) == [{"a": 3}]
    assert to_row_dicts([{"t": pandas.Timestamp("2026-01-02T03:04:05"), "n": pandas.NaT}]) == [
        {"t": "2026-01-02T03:04:05", "n": None}
    ]
    with pytest.raises(errors.InvalidArgument):
        to_row_dicts([1, 2])


def test_predict_local_answers_as_the_servers_code_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    from sklearn.linear_model import LogisticRegression

    from sundog.runtime import estimators, serving

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    frame = pandas.DataFrame({"LIMIT_BAL": [1, 2, 3, 4, 5, 6]})
    kind, content = estimators.dumps(LogisticRegression().fit(frame, [0, 0, 1, 0, 1, 1]))
    blob = hashlib.sha256(content).hexdigest()
    json_ = {**golden("model-version"), "artefact": {"blob": blob, "format": kind, "bytes": len(content)}}
    downloads: list[int] = []

    def download(request: httpx.Request) -> httpx.Response:
        downloads.append(1)
        return httpx.Response(200, content=content)

    server = FakeServer({("GET", f"/v1/blobs/{blob}"): download, ("GET", "/v1/models/risk/versions/1"): json_})
    version = server.cloud().models.version("risk", 1)
    rows = [{"LIMIT_BAL": 2}, {"LIMIT_BAL": 5}]
    model = serving.Model({**json_, "format": kind}, estimators.loads(kind, content))
    online = json.loads(json.dumps(serving.answer_rows(model, json.dumps({"rows": rows}).encode())))
    assert list(version.predict_local(rows)) == online["rows"]
    assert list(version.predict_local(pandas.DataFrame(rows))) == online["rows"]
    assert downloads == [1]
    with pytest.raises(errors.SignatureError, match="LIMIT_BAL"):
        version.predict_local([{"x": 1}])


def test_a_damaged_artefact_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    server = FakeServer(
        {
            ("GET", f"/v1/blobs/{'a' * 64}"): httpx.Response(200, content=b"other"),
            ("GET", "/v1/models/risk/versions/1"): golden("model-version"),
        }
    )
    with pytest.raises(errors.DataLoss):
        server.cloud().models.version("risk", 1).predict_local([{"LIMIT_BAL": 2}])
    assert not list((tmp_path / "sundog" / "blobs").iterdir())


class Twice:
    __sundog_environment__ = sundog.Environment()

    def predict(self, rows: Any) -> Any:
        return rows["x"] * 2


def test_register_what_lives_here() -> None:
    server = FakeServer(
        {
            ("PUT", "/v1/blobs"): {"id": "a" * 64},
            ("POST", "/v1/environments"): golden("environment"),
            ("POST", "/v1/models/twice/versions"): golden("model-version"),
        }
    )
    models = server.cloud().models
    models.register("twice", Twice(), sample=pandas.DataFrame({"x": [1, 2]}), metrics={"a": 1.0})
    body = server.bodies("POST", "/v1/models/twice/versions")[0]
    assert body == {
        "artefact": "a" * 64,
        "format": "cloudpickle",
        "environment": "e1",
        "metrics": {"a": 1.0},
        "signature": {
            "inputs": [{"name": "x", "type": "int64", "nullable": True}],
            "outputs": [{"name": "prediction", "type": "int64"}],
        },
    }
    with pytest.raises(errors.InvalidArgument, match="signature is not known"):
        models.register("twice", Twice())
    with pytest.raises(errors.InvalidArgument, match="Which packages"):
        models.register("twice", object(), sample=pandas.DataFrame({"x": [1]}))


def test_environments_and_keys() -> None:
    failed = {**golden("environment"), "state": "failed", "log": "No solution found: pandas>99"}
    server = FakeServer(
        {
            ("POST", "/v1/environments"): [{**golden("environment"), "state": "building"}, failed],
            ("GET", "/v1/environments/e1"): golden("environment"),
            ("POST", "/v1/keys"): golden("key"),
        }
    )
    cloud = server.cloud()
    env = sundog.Environment("scikit-learn==1.9.1", "pandas", python="3.11")
    assert cloud.ensure(env).layer == "arn:aws:lambda:local:000000000000:layer:sundog-environment-e1:1"
    sent(server, "ensure environment")
    with pytest.raises(errors.InvalidArgument, match="No solution found"):
        cloud.ensure(env)
    key = cloud.keys.create("deployer", name="ci")
    sent(server, "create key")
    assert "sk-1" not in repr(key)


def test_a_training_environment_has_what_it_needs() -> None:
    from sundog.environments import training_environment

    packages = training_environment(sundog.Environment("scikit-learn==1.9.1", "pandas==3.1.1")).packages
    names = [p.split("=")[0] for p in packages]
    assert names == ["cloudpickle", "pandas", "pyarrow", "scikit-learn", "skops"]
    assert "pandas==3.1.1" in packages
    assert f"pyarrow=={pyarrow.__version__}" in packages


def test_bill() -> None:
    bill = parse_bill(golden("bill"))
    text = str(bill)
    assert "risk-fit" in text
    assert "Always-on servers of the same memory, since each function's first call: $0.0600, 619 times as much." in text
    assert "risk-fit" in bill._repr_html_()
    assert [money(x) for x in (0, 0.0000001, 0.25, 1234.5)] == ["$0.0000", "$0.0000001", "$0.2500", "$1,234.50"]
    assert "Always-on" in str(parse_bill({"lines": [], "total": 0}))
