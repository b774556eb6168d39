"""The risk-assessment example's own code on the real table, without a server: the AUC, the decision, its reasons."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest

from sundog.demo import View, load_example
from sundog.packaging import package_function

risk = load_example()


class Part:
    def __init__(self, frame: pandas.DataFrame) -> None:
        self.frame = frame

    def xy(self) -> tuple[pandas.DataFrame, Any]:
        return self.frame.drop(columns=risk.LABEL), self.frame[risk.LABEL].to_numpy()

    def weights(self) -> Any:
        labels = self.frame[risk.LABEL].to_numpy()
        return len(labels) / (2 * numpy.bincount(labels)[labels])


class Data:
    """The table, prepared as the example asks the server to: stratified 60 : 20 : 20, the training part balanced by weights."""

    def __init__(self) -> None:
        random = numpy.random.default_rng(1)
        table = pandas.read_csv(risk.CSV).drop(columns=risk.LEFT_OUT)
        parts: dict[str, list[pandas.DataFrame]] = {"train": [], "valid": [], "test": []}
        for _, rows in table.groupby(risk.LABEL):
            order = rows.iloc[random.permutation(len(rows))]
            a, b = round(0.6 * len(rows)), round(0.8 * len(rows))
            for name, part in (("train", order[:a]), ("valid", order[a:b]), ("test", order[b:])):
                parts[name].append(part)
        self.parts = {name: pandas.concat(pieces) for name, pieces in parts.items()}

    def split(self, name: str) -> Part:
        return Part(self.parts[name])


class Run:
    def __init__(self) -> None:
        self.points: list[tuple[float | None, float]] = []

    def log(self, step: float | None = None, *, auc: float) -> None:
        self.points.append((step, auc))


@pytest.fixture(scope="module")
def data() -> Data:
    return Data()


@pytest.fixture(scope="module")
def trees(data: Data) -> Any:
    run = Run()
    model = risk.fit_trees(run, data, learning_rate=0.06, max_leaf_nodes=15)
    assert [step for step, _ in run.points] == [50, 100, 150]
    return model


def test_the_table_is_the_real_one() -> None:
    table = pandas.read_csv(risk.CSV)
    assert table.shape == (30000, 34)
    assert table[risk.LABEL].sum() == 6636


def test_auc_on_the_held_out_fifth(data: Data, trees: Any) -> None:
    x, y = data.split("test").xy()
    assert len(y) == 6000
    assert risk.auc(y.tolist(), trees.predict_proba(x)[:, 1].tolist()) >= 0.77


def test_the_trees_beat_logistic_regression(data: Data, trees: Any) -> None:
    run = Run()
    risk.fit_logistic(run, data)
    x, y = data.split("valid").xy()
    assert 0.7 < run.points[-1][1] < risk.auc(y.tolist(), trees.predict_proba(x)[:, 1].tolist())


def test_auc_is_scikit_learns() -> None:
    from sklearn.metrics import roc_auc_score

    random = numpy.random.default_rng(0)
    labels, scores = random.integers(0, 2, 500), random.integers(0, 20, 500) / 20
    assert risk.auc(labels.tolist(), scores.tolist()) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_the_decision_names_what_moved_it(
    data: Data, trees: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import pickle

    from sundog.runtime import host

    x, _ = data.split("test").xy()
    columns = list(x.columns)
    calls: list[tuple[str, str | None, int]] = []

    def invoke(function: str, payload: Any, *, qualifier: str | None = None) -> Any:
        calls.append((function, qualifier, len(payload["rows"])))
        json.dumps(payload)
        scores = trees.predict_proba(pandas.DataFrame(payload["rows"])[columns])[:, 1]
        return {"rows": [{"probability": float(s)} for s in scores]}

    monkeypatch.setattr(host, "invoke", invoke)
    typical = {c: float(x[c].median()) for c in columns}
    package = package_function(risk.decision_function("risk", typical))
    decide = pickle.loads(zipfile.ZipFile(io.BytesIO(package.content)).read("sundog_function.pkl"))
    late = {**typical, "PAY_0": 3, "PAY_2": 3}
    answer = decide(late)
    assert answer["decision"] == "freeze until the previous bills are covered"
    assert answer["reasons"][0]["feature"] == "repayment status in September"
    assert all(reason["effect"] > 0 for reason in answer["reasons"])
    assert calls == [("model-risk", "live", 21)]
    calm = decide(typical)
    assert calm["decision"] == "proceed"
    assert calm["score"] < 0.5
    assert all(reason["effect"] < 0 for reason in calm["reasons"])


def test_the_view_prints_plain_lines_without_a_terminal() -> None:
    from rich.console import Console

    target = io.StringIO()
    view = View(Console(file=target, width=200), cost=lambda: 0.0)
    with view.step("Do a thing") as report:
        report("half", 1, 2)
        report.result("[done]")
    assert "Do a thing" in target.getvalue()
    assert "[done]" in target.getvalue()
    assert target.getvalue().count("\n") == 1
    assert view.records[0].result == "[done]"
