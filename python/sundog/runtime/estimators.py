"""Fitted models: kept as an artefact and loaded again, and what they answer as named columns.

Formats, the safest that can hold the model: `xgboost-json` for XGBoost, `skops` for scikit-learn (only types of scikit-learn,
numpy and scipy are trusted), else `cloudpickle`, which is only ever loaded inside a sandbox or by its owner.
"""

from __future__ import annotations

import io
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sundog.runtime.signature import arrow, frame_of, type_name

FORMATS = ("skops", "xgboost-json", "cloudpickle")
_TRUSTED = ("sklearn.", "numpy.", "scipy.")
# Rows are scored in blocks whose length is a multiple of this, and never more than _CHUNK at a time: the linear algebra
# libraries sum the rows of a remainder in another order, so that a row would else score differently (in the last bit) alone
# than among others.
BLOCK = 16
_CHUNK = 4096


class ArtefactError(Exception):
    """An artefact that cannot be made, or not be loaded here."""


def dumps(model: Any) -> tuple[str, bytes]:
    """The model's format and bytes.

    Raises:
        ArtefactError: No format holds it.
    """
    if _is_xgboost(model):
        return "xgboost-json", _xgboost_bytes(model)
    if _is_sklearn(model):
        content = _skops_bytes(model)
        if content is not None:
            return "skops", content
    return "cloudpickle", _pickle_bytes(model)


def loads(kind: str, content: bytes) -> Any:
    """The model of an artefact, set to one thread: sums then have one order, and the answer one value."""
    if kind == "xgboost-json":
        model = _load_xgboost(content)
    elif kind == "skops":
        model = _load_skops(content)
    elif kind == "cloudpickle":
        model = _load_pickle(content)
    else:
        raise ArtefactError(f'No artefact format "{kind}": it is one of {", ".join(FORMATS)}.')
    one_job(model)
    return model


def _is_xgboost(model: Any) -> bool:
    return type(model).__module__.split(".")[0] == "xgboost" and hasattr(model, "save_model")


def _is_sklearn(model: Any) -> bool:
    return type(model).__module__.split(".")[0] == "sklearn"


def _xgboost_bytes(model: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(path)
        return path.read_bytes()


def _load_xgboost(content: bytes) -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise ArtefactError("The model's environment has no xgboost: add xgboost to the Environment.") from error
    booster = xgboost.Booster()
    booster.load_model(bytearray(content))
    described = booster.attr("scikit_learn") or ""
    if "classifier" in described:
        model: Any = xgboost.XGBClassifier()
    elif "regressor" in described:
        model = xgboost.XGBRegressor()
    else:
        return booster
    model.load_model(bytearray(content))
    return model


def _untrusted(content: bytes) -> list[str]:
    import skops.io

    found: list[str] = skops.io.get_untrusted_types(data=content)
    return found


def _skops_bytes(model: Any) -> bytes | None:
    """None if skops is not there, or cannot hold the model with trusted types alone."""
    try:
        import skops.io
    except ImportError:
        print("sundog: the model is kept as a pickle; add skops to the Environment for a safer format.")
        return None
    try:
        content: bytes = skops.io.dumps(model)
        foreign = [name for name in _untrusted(content) if not name.startswith(_TRUSTED)]
        if not foreign:
            _load_skops(content)
            return content
        print(f"sundog: the model is kept as a pickle, since it holds {', '.join(foreign[:3])}.")
    except Exception as error:  # whatever skops meets in a model it does not know
        print(f"sundog: the model is kept as a pickle; skops says: {error}")
    return None


def _load_skops(content: bytes) -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise ArtefactError("The model's environment has no skops: add skops to the Environment.") from error
    untrusted = _untrusted(content)
    foreign = [name for name in untrusted if not name.startswith(_TRUSTED)]
    if foreign:
        raise ArtefactError(f"The artefact holds types that are not trusted: {', '.join(foreign)}.")
    return skops.io.loads(content, trusted=untrusted)


def _pickle_bytes(model: Any) -> bytes:
    try:
        import cloudpickle
    except ImportError as error:
        raise ArtefactError("The environment has no cloudpickle: add cloudpickle to the Environment.") from error
    target = io.BytesIO()
    try:
        cloudpickle.dump(model, target, protocol=5)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise ArtefactError(f"A {type(model).__name__} cannot be kept as an artefact: {error}") from error
    return target.getvalue()


def _load_pickle(content: bytes) -> Any:
    try:
        return pickle.loads(content)
    except ModuleNotFoundError as error:
        raise ArtefactError(f"The model needs {error.name}: add it to the Environment.") from error


def one_job(model: Any) -> None:
    """Several threads add the trees of a forest in the order in which they come."""
    if not hasattr(model, "get_params") or not hasattr(model, "set_params"):
        return
    jobs = {
        key: 1 for key, value in model.get_params(deep=True).items() if key.endswith("n_jobs") and value is not None
    }
    if jobs:
        model.set_params(**jobs)


def feature_names(model: Any) -> list[str] | None:
    """The columns that the model was fitted on, in order, if it knows them."""
    names = getattr(model, "feature_names_in_", None)
    if names is None and type(model).__module__.startswith("xgboost"):
        names = getattr(model, "feature_names", None)
    return None if names is None else [str(name) for name in names]


def answer(model: Any, table: Any) -> Any:
    """Scores n rows: an Arrow table of the model's columns → an Arrow table of n rows of its outputs."""
    pa = arrow()
    pieces = []
    for start in range(0, max(table.num_rows, 1), _CHUNK):
        part = table.slice(start, _CHUNK)
        rows = part.num_rows
        missing = -rows % BLOCK if rows else 0
        if missing:
            last = part.slice(rows - 1, 1)
            part = pa.concat_tables([part] + [last] * missing).combine_chunks()
        columns = _columns(model, frame_of(part)) if rows else {}
        pieces.append(
            pa.table({name: _as_arrow(values, name, rows + missing)[:rows] for name, values in columns.items()})
        )
    return pa.concat_tables(pieces)


def _columns(model: Any, frame: Any) -> dict[str, Any]:
    """The model's answer for a frame of n rows, as lists of n values by name."""
    classes = getattr(model, "classes_", None)
    if classes is not None and not isinstance(classes, list) and hasattr(model, "predict_proba"):
        probabilities = model.predict_proba(frame)
        columns: dict[str, Any] = {"prediction": model.predict(frame)}
        if len(classes) == 2:
            columns["probability"] = probabilities[:, 1]
        else:
            columns.update({f"probability_{name}": probabilities[:, i] for i, name in enumerate(classes)})
        return columns
    return _named(model.predict(_for_booster(model, frame)))


def _for_booster(model: Any, frame: Any) -> Any:
    if type(model).__module__.startswith("xgboost") and type(model).__name__ == "Booster":
        import xgboost

        return xgboost.DMatrix(frame)
    return frame


def _named(values: Any) -> dict[str, Any]:
    if hasattr(values, "columns") and hasattr(values, "iloc"):
        return {str(name): values[name] for name in values.columns}
    if isinstance(values, Mapping):
        return {str(name): column for name, column in values.items()}
    if getattr(values, "ndim", 1) == 2:
        if values.shape[1] == 1:
            return {"prediction": values[:, 0]}
        return {f"prediction_{i}": values[:, i] for i in range(values.shape[1])}
    return {"prediction": values}


def _as_arrow(values: Any, name: str, rows: int) -> Any:
    pa = arrow()
    if hasattr(values, "to_numpy") and not isinstance(values, (pa.Array, pa.ChunkedArray)):
        values = pa.Array.from_pandas(values)
    array = values if isinstance(values, pa.Array) else pa.array(values)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if len(array) != rows:
        raise ValueError(f'The model answered {len(array)} values of "{name}" for {rows} rows.')
    return array


def outputs_of(answers: Any) -> list[dict[str, str]]:
    """The signature's outputs for a table that answer() gave."""
    return [{"name": field.name, "type": type_name(field.type)} for field in answers.schema]
