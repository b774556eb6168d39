"""The training handler, against a host without a server. All data is generated."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))
sys.path.insert(0, str(Path(__file__).parent))

from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402

from fake_host import NUMBERS, FakeHost, dataset, generated_frame  # noqa: E402
from sundog.runtime import estimators  # noqa: E402
from sundog.runtime.data import Data  # noqa: E402
from sundog.runtime.training import Stopped, load_function, train  # noqa: E402


def meta(host: FakeHost, parameters: dict[str, Any] | None = None, **about: Any) -> dict[str, Any]:
    return {
        "run": "run-1",
        "parameters": parameters or {},
        "data": dataset(host, **about),
        "checkpoint": "",
        "attempt": 1,
    }


def test_a_run_hands_in_metrics_artefact_and_signature() -> None:
    host = FakeHost()

    def fit(run: Any, data: Any, *, learning_rate: float = 0.1) -> Any:
        x, y = data.split("train").xy()
        model = HistGradientBoostingClassifier(learning_rate=learning_rate, max_iter=20).fit(x, y)
        valid_x, valid_y = data.split("valid").xy()
        run.log(accuracy=model.score(valid_x, valid_y), rate=learning_rate)
        return model

    result = train(fit, meta(host, {"learning_rate": 0.3}, drop=("colour",)), host)

    assert result["error"] is None and not result["stopped"]
    assert result["metrics"]["rate"] == 0.3
    assert result["metrics"]["accuracy"] > 0.75
    assert result["artefact"]["format"] == "skops"
    assert len(host.blobs[result["artefact"]["blob"]]) == result["artefact"]["bytes"]
    assert [column["name"] for column in result["signature"]["inputs"]] == NUMBERS
    assert result["signature"]["inputs"][2] == {"name": "children", "type": "int64", "nullable": False}
    assert result["signature"]["outputs"] == [
        {"name": "prediction", "type": "int64"},
        {"name": "probability", "type": "float64"},
    ]
    assert json.loads(json.dumps(result)) == result
    assert host.metrics() == [{"step": None, "values": {"accuracy": result["metrics"]["accuracy"], "rate": 0.3}}]


def test_metrics_may_be_returned_beside_the_model_or_alone() -> None:
    host = FakeHost()

    def fit(run: Any, data: Any) -> Any:
        x, y = data.split("train").xy()
        return LogisticRegression().fit(x, y), {"auc": np.float32(0.5)}

    assert train(fit, meta(host, drop=("colour",)), host)["metrics"] == {"auc": 0.5}
    alone = train(lambda run, data: {"loss": 1}, meta(FakeHost()), FakeHost())
    assert alone["metrics"] == {"loss": 1} and alone["artefact"] is None


def test_not_a_number_is_kept_as_missing_and_a_string_is_refused() -> None:
    host = FakeHost()

    def fit(run: Any, data: Any) -> Any:
        run.log(step=3, loss=float("nan"), auc=0.7)
        run.log(name="x")

    result = train(fit, meta(host), host)
    assert host.metrics() == [{"step": 3.0, "values": {"loss": None, "auc": 0.7}}]
    assert result["metrics"] == {"auc": 0.7}
    assert result["error"]["errorType"] == "TypeError"
    assert '"name" is a str' in result["error"]["errorMessage"]


def test_a_stop_passes_through_except_exception() -> None:
    host = FakeHost(stop_after=2)
    steps = []

    def fit(run: Any, data: Any) -> Any:
        for step in range(10):
            steps.append(step)
            with contextlib.suppress(Exception):  # a careless user
                run.log(step=step, loss=1.0 / (step + 1))
        return None

    result = train(fit, meta(host), host)
    assert result["stopped"] and result["error"] is None
    assert steps == [0, 1]
    assert result["metrics"] == {"loss": 0.5}


def test_a_run_stopped_before_it_began_calls_nothing() -> None:
    host = FakeHost(stop_after=0)
    result = train(lambda run, data: pytest.fail("was called"), meta(host), host)
    assert result["stopped"] and result["metrics"] == {}


def test_the_users_error_comes_with_the_users_frames_alone() -> None:
    def fit(run: Any, data: Any) -> Any:
        return {}["income"]

    host = FakeHost()
    error = train(fit, meta(host), host)["error"]
    assert error["errorType"] == "KeyError" and error["errorMessage"] == "'income'"
    assert len(error["stackTrace"]) == 1 and 'return {}["income"]' in error["stackTrace"][0]


def test_an_attempt_goes_on_from_the_last_checkpoint() -> None:
    def fit(run: Any, data: Any) -> Any:
        state = run.resume() or {"step": 0, "sum": 0}
        for step in range(state["step"], 6):
            state = {"step": step + 1, "sum": state["sum"] + step}
            run.checkpoint(state)
            if step == 3 and run.attempt == 1:
                raise SystemExit("the instance is killed here")
        assert run.resume() is None or run.attempt == 2
        return {"sum": state["sum"], "attempt": run.attempt}

    first = FakeHost()
    about = meta(first)
    with pytest.raises(SystemExit):
        train(fit, about, first)
    second = FakeHost(checkpoint=first.checkpoint, attempt=2)
    second.blobs = dict(first.blobs)
    assert train(fit, about, second)["metrics"] == {"sum": 15, "attempt": 2}


def test_data_is_read_a_batch_at_a_time() -> None:
    host = FakeHost()
    data = Data(dataset(host, rows=1000, shards=2), host.open_blob)
    batches = data.split("train").batches(rows=300)
    assert next(batches).num_rows == 300
    assert len(host.opened) == 1, "the second shard is not touched before it is needed"
    assert [table.num_rows for table in batches] == [200, 300, 200]


def test_data_knows_its_columns_splits_and_label() -> None:
    host = FakeHost()
    data = Data(dataset(host), host.open_blob)
    assert data.splits == ["train", "valid"] and data.label == "label"
    assert data.features == [*NUMBERS, "colour"]
    train_part = data.split("train")
    assert train_part.rows == 600 and len(train_part.pandas()) == 600
    assert data.rows == 800 and data.table().num_rows == 800
    x, y = train_part.xy()
    assert list(x.columns) == data.features and y.tolist() == generated_frame(600)["label"].tolist()
    assert data.weights() is None
    with pytest.raises(KeyError, match="no split 'test'"):
        data.split("test")


def test_a_model_fitted_on_columns_of_its_own_is_refused_with_the_way_out() -> None:
    host = FakeHost()

    def fit(run: Any, data: Any) -> Any:
        x, y = data.split("train").xy()
        return LogisticRegression().fit(x.assign(ratio=x["debt"] / (x["income"].abs() + 1)), y)

    error = train(fit, meta(host, drop=("colour",)), host)["error"]
    assert "ratio" in error["errorMessage"] and "Pipeline" in error["errorMessage"]


def test_the_handler_of_a_package_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    """As in a template: the environment variables are set, the module is imported, then the handler is called."""

    def fit(run: Any, data: Any, *, depth: int) -> Any:
        run.log(depth=depth)
        return None

    (tmp_path / "sundog_function.pkl").write_bytes(cloudpickle.dumps(fit))
    (tmp_path / "sundog.json").write_text('{"function":{"pickle":"sundog_function.pkl"}}')
    code = f"""
import sys, types, json
sys.path[:0] = [{str(ROOT / "python")!r}, {str(Path(__file__).parent)!r}]
from fake_host import FakeHost
import sundog.runtime
sundog.runtime.host = sys.modules["sundog.runtime.host"] = FakeHost()
from sundog.runtime import training
assert training._FUNCTION is not None, "loaded at import"
context = types.SimpleNamespace(meta={{"run": "run-1", "parameters": {{"depth": 4}}, "data": None}})
print(training.handler(b"{{}}", context).decode())
"""
    variables = {**os.environ, "LAMBDA_TASK_ROOT": str(tmp_path), "_HANDLER": "sundog.runtime.training.handler"}
    answer = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["metrics"] == {"depth": 4}


def test_a_package_may_name_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_training.py").write_text("def fit(run, data):\n    return {'answer': 42}\n")
    (tmp_path / "sundog.json").write_text('{"function":{"module":"my_training","name":"fit"}}')
    monkeypatch.syspath_prepend(str(tmp_path))
    host = FakeHost()
    assert train(load_function(tmp_path), meta(host), host)["metrics"] == {"answer": 42}


def test_stopped_is_no_exception() -> None:
    assert not issubclass(Stopped, Exception)


def test_formats_are_the_safest_that_hold_the_model() -> None:
    frame = generated_frame(200)
    x, y = frame[NUMBERS].astype("float64"), frame["label"]
    assert estimators.dumps(LogisticRegression().fit(x, y))[0] == "skops"
    xgboost = pytest.importorskip("xgboost")
    assert estimators.dumps(xgboost.XGBClassifier(n_estimators=3).fit(x, y))[0] == "xgboost-json"

    class Own:
        def predict(self, rows: Any) -> Any:
            return rows["income"]

    assert estimators.dumps(Own())[0] == "cloudpickle"
