"""Models served from every artefact format: the same answers alone, in a shard and on a laptop. All data is generated."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))
sys.path.insert(0, str(Path(__file__).parent))

import xgboost  # noqa: E402
from sklearn.compose import make_column_transformer  # noqa: E402
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402

from fake_host import NUMBERS, SCHEMA, FakeHost, dataset, generated_frame, parquet_bytes  # noqa: E402
from sundog.runtime import estimators  # noqa: E402
from sundog.runtime.data import Data  # noqa: E402
from sundog.runtime.serving import Model, answer  # noqa: E402
from sundog.runtime.signature import SignatureError, table_of  # noqa: E402
from sundog.runtime.training import signature_of  # noqa: E402

GOLDEN = ROOT / "protocol" / "golden" / "v2"
FRAME = generated_frame(600)
ALL = [*NUMBERS, "colour"]


class Decision:
    """Custom code around another model: its answer is a frame of its own columns."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        score = self.inner.predict_proba(rows[NUMBERS])[:, 1]
        return pd.DataFrame({"score": score, "decision": np.where(score > 0.5, "proceed", "freeze")})


class Doubling:
    """The model of protocol/golden/v2."""

    def predict(self, rows: pd.DataFrame) -> dict[str, Any]:
        total = rows["amount"] * 2 + rows["count"]
        return {"total": total, "large": total > 10, "text": rows["colour"] + "!"}


def encoder() -> Any:
    return make_column_transformer((OneHotEncoder(), ["colour"]), (StandardScaler(), NUMBERS))


def fitted(name: str) -> Any:
    x, y = FRAME[ALL], FRAME["label"]
    colours = FRAME["colour"]
    makers: dict[str, Any] = {
        "linear": lambda: make_pipeline(encoder(), LogisticRegression()).fit(x, y),
        "boosting": lambda: HistGradientBoostingClassifier(max_iter=15).fit(x[NUMBERS], y),
        "three-classes": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(x[NUMBERS], colours),
        "forest": lambda: RandomForestRegressor(n_estimators=20, n_jobs=2, random_state=1).fit(
            x[NUMBERS], FRAME["debt"]
        ),
        "xgboost": lambda: xgboost.XGBClassifier(n_estimators=10, max_depth=3).fit(x[NUMBERS], y),
        "xgboost-regressor": lambda: xgboost.XGBRegressor(n_estimators=10, max_depth=3).fit(x[NUMBERS], FRAME["debt"]),
        "booster": lambda: xgboost.train({"max_depth": 3}, xgboost.DMatrix(x[NUMBERS], y), num_boost_round=5),
        "custom": lambda: Decision(make_pipeline(StandardScaler(), LogisticRegression()).fit(x[NUMBERS], y)),
    }
    return makers[name]()


FORMAT_OF = {
    "linear": "skops",
    "boosting": "skops",
    "three-classes": "skops",
    "forest": "skops",
    "xgboost": "xgboost-json",
    "xgboost-regressor": "xgboost-json",
    "booster": "xgboost-json",
    "custom": "cloudpickle",
}


def registered(name: str, folder: Path) -> Model:
    """Trained, kept, and loaded from the files that a model's package holds."""
    host = FakeHost()
    kind, content = estimators.dumps(fitted(name))
    assert kind == FORMAT_OF[name]
    signature = signature_of(estimators.loads(kind, content), Data(dataset(host), host.open_blob))
    manifest = {"model": name, "version": 1, "format": kind, "signature": signature, "lineage": {}, "environment": ""}
    folder.mkdir(exist_ok=True)
    (folder / "model.json").write_text(json.dumps(manifest))
    (folder / "artefact").write_bytes(content)
    return Model.load(folder)


@pytest.fixture(scope="module", params=sorted(FORMAT_OF))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return registered(request.param, tmp_path_factory.mktemp("model") / request.param)


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    for row, (_, source) in zip(rows, frame.iterrows(), strict=True):
        for name in ("income", "debt"):
            row[name] = float(source[name])  # to_json rounds
    return rows


def online(model: Model, frame: pd.DataFrame) -> pd.DataFrame:
    reply = answer(model, "rows", json.dumps({"rows": rows_of(frame)}).encode(), None)
    return pd.DataFrame(json.loads(json.dumps(reply))["rows"])


def test_one_row_many_rows_a_shard_and_local_answer_alike_to_the_bit(model: Model) -> None:
    frame = generated_frame(301, seed=3)[ALL]
    local = model.predict(frame)

    host = FakeHost()
    shard = host.put(parquet_bytes(frame, row_group=100))
    reply = answer(model, "shard", json.dumps({"blob": shard, "columns_out": None}).encode(), host)
    offline = parquet.read_table(io.BytesIO(host.blobs[reply["blob"]])).to_pandas()
    assert reply["rows"] == 301 and reply["bytes"] == len(host.blobs[reply["blob"]])
    pd.testing.assert_frame_equal(offline[ALL], frame, check_dtype=False)

    together = online(model, frame)
    alone = pd.concat([online(model, frame.iloc[[at]]) for at in range(25)], ignore_index=True)
    for column in local.columns:
        expected = local[column].tolist()
        assert offline[column].tolist() == expected
        assert together[column].tolist() == expected
        assert alone[column].tolist() == expected[:25]


def test_the_artefact_answers_as_the_model_that_was_fitted(model: Model) -> None:
    rows = table_of(generated_frame(160, seed=4)[ALL], model.inputs)
    original = fitted(str(model.manifest["model"]))
    estimators.one_job(original)  # a forest's threads add up in any order
    served = model.predict_table(rows)
    assert served.equals(estimators.answer(original, rows).cast(served.schema))


def test_outputs_follow_from_the_kind_of_model(tmp_path: Path) -> None:
    names = {name: [c["name"] for c in registered(name, tmp_path / name).outputs] for name in FORMAT_OF}
    assert names["linear"] == names["boosting"] == names["xgboost"] == ["prediction", "probability"]
    assert names["three-classes"] == ["prediction", "probability_blue", "probability_green", "probability_red"]
    assert names["forest"] == names["xgboost-regressor"] == names["booster"] == ["prediction"]
    assert names["custom"] == ["score", "decision"]


# ---- signature ----

INPUTS = [column for column in SCHEMA if column["name"] != "label"]
GOOD = {"income": 1.0, "debt": 2, "children": 3, "owner": True, "colour": "red"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"debt": "12"}, 'Column "debt" is float64, but row 1 has a string ("12").'),
        ({"debt": True}, 'Column "debt" is float64, but row 1 has a boolean (True).'),
        ({"debt": None}, 'Column "debt" (float64) may not be empty, but is in row 1.'),
        ({"children": 2.5}, 'Column "children" is int64, but row 1 has a number (2.5).'),
        ({"children": 2**70}, 'Column "children" is int64, but holds a value out of range'),
        ({"owner": 1}, 'Column "owner" is bool, but row 1 has an integer (1).'),
        ({"colour": 7}, 'Column "colour" is string, but row 1 has an integer (7).'),
        ({"colour": ["red"]}, 'Column "colour" is string, but row 1 has a list.'),
        ({"colour": ...}, 'Column "colour" (string) is missing in row 1.'),
    ],
)
def test_a_row_that_does_not_fit_names_column_and_value(change: dict[str, Any], message: str) -> None:
    row = {name: value for name, value in {**GOOD, **change}.items() if value is not ...}
    with pytest.raises(SignatureError) as error:
        table_of([GOOD, row], INPUTS)
    assert message in str(error.value)


def test_what_changes_nothing_is_coerced_and_other_columns_are_ignored() -> None:
    table = table_of([{**GOOD, "children": 3.0, "other": "x"}, {**GOOD, "income": None}], INPUTS)
    assert table.column_names == ALL
    assert table.column("children").to_pylist() == [3, 3]
    assert table.column("debt").type == "double" and table.column("income").to_pylist() == [1.0, None]


def test_times_are_taken_as_iso_text() -> None:
    inputs = [{"name": "at", "type": "timestamp"}, {"name": "day", "type": "date"}]
    table = table_of([{"at": "2026-01-02T03:04:05+01:00", "day": "2026-01-02"}], inputs)
    assert table.column("at").to_pylist()[0].isoformat() == "2026-01-02T02:04:05"
    with pytest.raises(SignatureError, match='row 0 has "yesterday"'):
        table_of([{"at": "yesterday", "day": "2026-01-02"}], inputs)


def test_a_frame_that_does_not_fit_names_the_column() -> None:
    frame = generated_frame(5)[ALL]
    with pytest.raises(SignatureError, match='Column "owner" \\(bool\\) is missing'):
        table_of(frame.drop(columns="owner"), INPUTS)
    with pytest.raises(SignatureError, match='Column "debt" is float64, but the rows have'):
        table_of(frame.assign(debt="a lot"), INPUTS)
    with pytest.raises(SignatureError, match='Column "children" is int64'):
        table_of(frame.assign(children=0.5), INPUTS)
    assert table_of(frame.assign(children=[1.0, 2.0, 3.0, 4.0, 5.0]), INPUTS).column("children").to_pylist() == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_payloads_that_are_none() -> None:
    model = Model(json.loads((GOLDEN / "model.json").read_text()), Doubling())
    for payload in (
        b"",
        b"[1",
        b"[]",
        b"{}",
        b'{"rows": 3}',
        b'{"columns": []}',
        b'{"rows": [1]}',
        b'{"rows": [null]}',
    ):
        with pytest.raises(SignatureError):
            answer(model, "rows", payload, None)
    assert answer(model, "rows", b'{"rows": []}', None)["rows"] == []
    columns = b'{"columns": {"amount": [1], "count": [2], "colour": ["red"]}}'
    assert answer(model, "rows", columns, None)["rows"] == [{"total": 4.0, "large": False, "text": "red!"}]


# ---- Open Inference Protocol ----


@pytest.mark.parametrize("case", sorted(path.stem for path in GOLDEN.glob("*.json") if path.stem != "model"))
def test_golden_requests(case: str) -> None:
    model = Model(json.loads((GOLDEN / "model.json").read_text()), Doubling())
    golden = json.loads((GOLDEN / f"{case}.json").read_text())
    payload = json.dumps(golden["request"]).encode()
    if "error" in golden:
        with pytest.raises(SignatureError) as error:
            answer(model, "v2", payload, None)
        assert str(error.value) == golden["error"]
    else:
        assert json.loads(json.dumps(answer(model, "v2", payload, None), allow_nan=False)) == golden["response"]


def test_one_matrix_of_all_columns(tmp_path: Path) -> None:
    model = registered("three-classes", tmp_path / "m")
    frame = generated_frame(4, seed=5)
    matrix = frame[NUMBERS].astype("float64")
    inputs = [
        {"name": "income", "type": "float64"},
        {"name": "debt", "type": "float64"},
        {"name": "children", "type": "int64"},
        {"name": "owner", "type": "float64"},
    ]
    model = Model({**model.manifest, "signature": {"inputs": inputs, "outputs": model.outputs}}, model.estimator)
    request = {
        "inputs": [{"name": "x", "shape": [4, 4], "datatype": "FP64", "data": matrix.to_numpy().ravel().tolist()}]
    }
    reply = answer(model, "v2", json.dumps(request).encode(), None)
    assert reply["outputs"][0]["data"] == model.predict(matrix)["prediction"].tolist()


def test_metadata() -> None:
    model = Model(json.loads((GOLDEN / "model.json").read_text()), Doubling())
    described = answer(model, "v2-metadata", b"{}", None)
    assert described["name"] == "doubling" and described["versions"] == ["3"]
    assert described["inputs"][1] == {"name": "count", "datatype": "INT64", "shape": [-1, 1]}
    assert [tensor["datatype"] for tensor in described["outputs"]] == ["FP64", "BOOL", "BYTES"]


# ---- as a function ----


def test_a_packaged_model_is_loaded_at_import_and_answers(tmp_path: Path) -> None:
    local = registered("custom", tmp_path / "task").predict(generated_frame(3, seed=6)[ALL])
    payload = json.dumps({"rows": rows_of(generated_frame(3, seed=6)[ALL])})
    code = f"""
import sys, types
sys.path[:0] = [{str(ROOT / "python")!r}, {str(Path(__file__).parent)!r}]
from fake_host import FakeHost
import sundog.runtime
sundog.runtime.host = sys.modules["sundog.runtime.host"] = FakeHost()
from sundog.runtime import serving
assert serving._MODEL is not None, "loaded at import"
sys.stdout.write(serving.handler({payload.encode()!r}, types.SimpleNamespace(meta=None)).decode())
"""
    variables = {**os.environ, "LAMBDA_TASK_ROOT": str(tmp_path / "task"), "_HANDLER": "sundog.runtime.serving.handler"}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert reply["model"] == "custom" and reply["outputs"] == [
        {"name": "score", "type": "float64"},
        {"name": "decision", "type": "string"},
    ]
    assert [row["score"] for row in reply["rows"]] == local["score"].tolist()


def test_an_artefact_of_types_that_are_not_trusted_is_refused() -> None:
    import skops.io

    class Foreign(LogisticRegression):
        pass

    Foreign.__module__, Foreign.__qualname__ = __name__, "Foreign"
    globals()["Foreign"] = Foreign
    content = skops.io.dumps(Foreign())
    with pytest.raises(estimators.ArtefactError, match="not trusted"):
        estimators.loads("skops", content)


def test_a_missing_package_is_named() -> None:
    with pytest.raises(estimators.ArtefactError, match="The model needs no_such_package: add it"):
        estimators.loads("cloudpickle", b"cno_such_package\nThing\n.")
