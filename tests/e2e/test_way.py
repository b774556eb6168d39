"""The whole way through the SDK on a generated table: dataset, profile, preprocess, train, tune, register, deploy, roll out, predict."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import numpy
import pandas
import pytest

import sundog
from harness import Server

app = sundog.App("way")
ENVIRONMENT = sundog.Environment("scikit-learn==1.9.1", "pandas==3.1.1", "numpy==2.4.6")


@app.training(environment=ENVIRONMENT, memory=512, timeout=120)
def fit(run, data, *, regularisation: float = 1.0):
    """A logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    x, y = data.split("train").xy()
    model = LogisticRegression(C=regularisation, max_iter=200).fit(x, y)
    x, y = data.split("valid").xy()
    run.log(auc=float(roc_auc_score(y, model.predict_proba(x)[:, 1])))
    return model


def table(rows: int = 4000) -> pandas.DataFrame:
    """Generated, not real: two numbers that tell the label, one that does not."""
    random = numpy.random.default_rng(7)
    frame = pandas.DataFrame(
        {
            "a": random.normal(size=rows),
            "b": random.normal(size=rows),
            "noise": random.normal(size=rows),
        }
    )
    frame["label"] = (frame.a + 0.5 * frame.b + random.normal(scale=0.7, size=rows) > 0.8).astype("int64")
    return frame


@pytest.fixture(scope="module")
def cloud(server: Server) -> Iterator[sundog.Cloud]:
    """The SDK's connection to the session's server."""
    yield server.cloud()


@pytest.fixture(scope="module")
def data(cloud: sundog.Cloud) -> sundog.DatasetVersion:
    """The table, preprocessed."""
    raw = cloud.datasets.create("way", table(), label="label")
    assert raw.rows == 4000
    return raw.preprocess(balance="undersample", split=(0.6, 0.2, 0.2), fit_in="512 MB")


@pytest.fixture(scope="module")
def study(cloud: sundog.Cloud, data: sundog.DatasetVersion) -> sundog.Study:
    """Four trials, two at a time."""
    space = {"regularisation": sundog.loguniform(0.01, 10.0)}
    return cloud.tune(fit, data, space=space, trials=4, parallel=2, maximise="auc", name="way-study")


@pytest.fixture(scope="module")
def endpoint(cloud: sundog.Cloud, study: sundog.Study) -> sundog.Endpoint:
    """The best trial, deployed."""
    return cloud.models.register("way", study.best).deploy(alias="live")


def test_profile_sees_the_classes(cloud: sundog.Cloud, data: sundog.DatasetVersion) -> None:
    profile = cloud.datasets.get("way@1").profile()
    assert profile.rows == 4000
    assert set(profile.classes) == {"0", "1"}
    assert sum(profile.classes.values()) == 4000


def test_preprocess_splits_without_loss_and_balances_only_training(
    data: sundog.DatasetVersion,
) -> None:
    frame = table()
    train, valid, test = (data.to_pandas(split) for split in ("train", "valid", "test"))
    assert len(valid) + len(test) == pytest.approx(1600, abs=4)
    assert valid.label.mean() == pytest.approx(frame.label.mean(), abs=0.01)
    assert train.label.mean() == pytest.approx(0.5, abs=0.01)
    assert data.lineage["parents"] == ["way@1"]


def test_study_finds_a_model(study: sundog.Study) -> None:
    assert len(study.trials) == 4
    assert study.best.value > 0.85


def test_study_resumes_by_name(cloud: sundog.Cloud, data: sundog.DatasetVersion, study: sundog.Study) -> None:
    space = {"regularisation": sundog.loguniform(0.01, 10.0)}
    again = cloud.tune(fit, data, space=space, trials=4, parallel=2, maximise="auc", name="way-study")
    assert [t.run for t in again.trials] == [t.run for t in study.trials]


def test_online_offline_and_local_are_bit_identical(cloud: sundog.Cloud, endpoint: sundog.Endpoint) -> None:
    rows = table(300).drop(columns="label")
    online = endpoint.predict(rows).to_pandas()
    local = endpoint.predict_local(rows).to_pandas()
    raw = cloud.datasets.create("way-score", rows)
    offline = endpoint.predict_offline(raw).to_pandas()
    assert online.probability.tolist() == local.probability.tolist()
    assert offline.probability.tolist() == local.probability.tolist()
    assert offline.a.tolist() == rows.a.tolist()


def test_signature_errors_name_the_column(endpoint: sundog.Endpoint) -> None:
    with pytest.raises(sundog.SignatureError, match="noise"):
        endpoint.predict([{"a": 1.0, "b": 2.0}])
    with pytest.raises(sundog.SignatureError, match="b"):
        endpoint.predict([{"a": 1.0, "b": "two", "noise": 0.0}])


def test_inference_protocol_v2(server: Server, endpoint: sundog.Endpoint) -> None:
    with server.http() as http:
        assert http.get("/v2/health/ready").status_code == 200
        assert http.get("/v2/models/way/ready").status_code == 200
        names = [column["name"] for column in http.get("/v2/models/way").json()["inputs"]]
        assert names == ["a", "b", "noise"]
        tensors = [{"name": n, "shape": [2, 1], "datatype": "FP64", "data": [0.5, -0.5]} for n in names]
        answer = http.post("/v2/models/way/infer", json={"id": "42", "inputs": tensors}).json()
        assert answer["id"] == "42"
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        local = endpoint.predict_local([dict.fromkeys(names, v) for v in (0.5, -0.5)]).to_pandas()
        assert outputs["probability"] == local.probability.tolist()
        wrong = http.post("/v2/models/way/infer", json={"inputs": tensors[:1]})
        assert wrong.status_code == 400
        assert "b" in wrong.json()["error"]
        assert http.post("/v2/models/nothing/infer", json={"inputs": tensors}).status_code == 404


def test_roll_out_without_a_failed_request(
    server: Server,
    cloud: sundog.Cloud,
    data: sundog.DatasetVersion,
    endpoint: sundog.Endpoint,
) -> None:
    second = cloud.models.register("way", cloud.train(fit, data, {"regularisation": 0.05}))
    failed: list[httpx.Response] = []
    versions: list[int] = []
    over = threading.Event()

    def ask() -> None:
        body = {"rows": [{"a": 0.1, "b": 0.2, "noise": 0.3}]}
        with server.http() as http:
            while not over.is_set():
                answer = http.post("/v1/models/way/predict", json=body)
                if answer.status_code != 200:
                    failed.append(answer)
                else:
                    versions.append(answer.json()["version"])

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    first = endpoint.predict([{"a": 0.1, "b": 0.2, "noise": 0.3}]).version
    try:
        second.deploy(alias="live", weight=0.1)
        for weights in ({second.version: 1.0}, {first: 1.0}):
            count = len(versions)
            endpoint.traffic(weights)
            while len(versions) < count + 200 and not failed:
                over.wait(0.01)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert [f.text for f in failed] == []
    assert set(versions) == {first, second.version}
    assert versions[-50:] == [first] * 50


def test_bill_has_every_kind(cloud: sundog.Cloud, endpoint: sundog.Endpoint) -> None:
    bill = cloud.bill(by=("kind",))
    assert {line.kind for line in bill.lines} >= {"training", "prediction", "data"}
    assert bill.total > 0


def test_a_plain_function(cloud: sundog.Cloud) -> None:
    @app.function(memory=128, timeout=10)
    def add(a: int, b: int = 1) -> int:
        return a + b

    assert add(2) == 3
    deployed = add.deploy(cloud)
    assert deployed.remote(2, b=40) == 42
    with pytest.raises(sundog.FunctionError, match="can only concatenate str"):
        deployed.remote("x")
