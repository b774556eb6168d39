"""The handler of training functions: calls the user's `fit(run, data, **parameters)` and hands in what it returns.

An exception of the user's code is an answer of its own ("error"): to run it again would end the same way. A time-out or a crash
is none, and the server delivers the run again; it then goes on from its last checkpoint.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from sundog.runtime import estimators
from sundog.runtime.data import Data
from sundog.runtime.signature import frame_of, inputs_from_schema

_OWN = str(Path(__file__).resolve().parent)
HANDLER = "sundog.runtime.training.handler"
MANIFEST = "sundog.json"


class File(Protocol):
    """A file that becomes a blob."""

    def write(self, data: Any, /) -> Any: ...
    def commit(self) -> str: ...


class Host(Protocol):
    """What the code asks of the server (sundog.runtime.host)."""

    def call(self, name: str, arguments: dict[str, Any], fds: Any = ()) -> tuple[Any, list[int]]: ...
    def open_blob(self, blob: str) -> IO[bytes]: ...
    def create_file(self) -> Any: ...


class Stopped(BaseException):
    """The run was asked to stop. Raised by run.log(); no Exception, so that `except Exception` does not swallow it."""


class Run:
    """What a training function is told, and tells.

    Attributes:
        id: "run-…".
        parameters: Those that it was called with.
        attempt: 1, or more if an earlier attempt met its time limit or the server was restarted.
    """

    def __init__(self, host: Host, meta: Mapping[str, Any]) -> None:
        self._host = host
        self.id: str = meta["run"]
        self.parameters: dict[str, Any] = dict(meta.get("parameters") or {})
        self.metrics: dict[str, float] = {}
        begun, files = host.call("run.start", {})
        self.attempt: int = int(begun["attempt"])
        self._checkpoint = files[0] if files else None
        if begun["stop"]:
            raise Stopped

    def log(self, step: float | None = None, **metrics: float) -> None:
        """Stores metrics, shown live; `step` counts on by itself when left out. Values that are no number are kept as missing.

        Raises:
            Stopped: The run was asked to stop. Let it pass, or keep a checkpoint and raise it again.
        """
        values = {name: _number(name, value) for name, value in metrics.items()}
        self.metrics.update({name: value for name, value in values.items() if value is not None})
        reply, _ = self._host.call(
            "run.metrics", {"step": None if step is None else _number("step", step), "values": values}
        )
        if reply["stop"]:
            raise Stopped

    def checkpoint(self, state: Any) -> None:
        """Keeps `state` (anything that can be pickled), so that a later attempt can go on from it."""
        file = self._host.create_file()
        _pickler().dump(state, file, protocol=5)
        self._host.call("run.checkpoint", {"blob": file.commit()})

    def resume(self) -> Any:
        """What the last checkpoint() of an earlier attempt kept, or None."""
        if self._checkpoint is None:
            return None
        with os.fdopen(os.dup(self._checkpoint), "rb") as file:
            file.seek(0)
            return pickle.load(file)


def _pickler() -> Any:
    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        return pickle


def _number(name: str, value: Any) -> float | int | None:
    if value is None:
        return None
    if isinstance(value, (bool, int)):
        return int(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f'run.log: "{name}" is a {type(value).__name__}, not a number.') from None
    return number if math.isfinite(number) else None


def load_function(folder: Path) -> Callable[..., Any]:
    """The training function of a code package, as its sundog.json names it."""
    manifest = json.loads((folder / MANIFEST).read_text())["function"]
    if "pickle" in manifest:
        sys.path.insert(0, str(folder)) if str(folder) not in sys.path else None
        with open(folder / manifest["pickle"], "rb") as file:
            function: Callable[..., Any] = pickle.load(file)
        return function
    module = importlib.import_module(manifest["module"])
    found: Callable[..., Any] = getattr(module, manifest["name"])
    return found


def train(function: Callable[..., Any], meta: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """Runs one attempt: a training function's answer (docs/formats/instance.md)."""
    result: dict[str, Any] = {"metrics": {}, "artefact": None, "signature": None, "stopped": False, "error": None}
    run = None
    try:
        run = Run(host, meta)
        data = Data(meta["data"], host.open_blob) if meta.get("data") else None
        model, returned = _parts(function(run, data, **run.parameters))
        for name, value in returned.items():
            number = _number(name, value)
            if number is not None:
                run.metrics[name] = number
        if model is not None:
            result["artefact"], result["signature"] = _hand_in(model, data, host)
    except Stopped:
        result["stopped"] = True
    except Exception as error:
        traceback.print_exc()
        result["error"] = _described(error)
    if run is not None:
        result["metrics"] = run.metrics
    return result


def _parts(returned: Any) -> tuple[Any, Mapping[str, Any]]:
    """What fit() may return: a model, metrics, both, or nothing."""
    if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping):
        return returned[0], returned[1]
    if isinstance(returned, Mapping):
        return None, returned
    return returned, {}


def _hand_in(model: Any, data: Data | None, host: Host) -> tuple[dict[str, Any], dict[str, Any] | None]:
    kind, content = estimators.dumps(model)
    signature = signature_of(estimators.loads(kind, content), data)
    file = host.create_file()
    file.write(content)
    return {"blob": file.commit(), "format": kind, "bytes": len(content)}, signature


def signature_of(model: Any, data: Data | None) -> dict[str, Any] | None:
    """Inputs: the columns that the model was fitted on. Outputs: what it answers for some of the data's own rows."""
    if data is None:
        return None
    names = estimators.feature_names(model) or data.used_features()
    inputs = inputs_from_schema(data.schema, names)
    missing = [name for name in names if name not in data.columns]
    if missing:
        raise ValueError(
            f"The model was fitted on columns that the dataset has not: {', '.join(missing[:5])}. "
            "Make them inside the model (a scikit-learn Pipeline, or a class with predict(rows)), so that rows can be scored as they are."
        )
    sample = data.head(64, names)
    answers = estimators.answer(model, sample.select(names))
    return {"inputs": inputs, "outputs": estimators.outputs_of(answers)}


def _described(error: Exception) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    inner = [frame for frame in frames if not frame.filename.startswith(_OWN)]
    return {
        "errorType": type(error).__name__,
        "errorMessage": str(error),
        "stackTrace": [line.rstrip("\n") for line in traceback.format_list(inner or frames)],
    }


def handler(payload: bytes, context: Any) -> bytes:
    """One attempt of a run."""
    from sundog.runtime import host

    meta = getattr(context, "meta", None)
    if not isinstance(meta, Mapping) or "run" not in meta:
        raise ValueError("A training function is started by a run (POST /v1/runs), not by Invoke.")
    function = _FUNCTION if _FUNCTION is not None else load_function(Path(os.environ["LAMBDA_TASK_ROOT"]))
    return json.dumps(train(function, meta, host)).encode()


handler.__sundog_raw__ = True  # type: ignore[attr-defined]

# In a template the function is loaded before any run begins: its imports are then paid once, and a package that cannot be
# loaded is an init error.
_FUNCTION: Callable[..., Any] | None = None
if os.environ.get("_HANDLER") == HANDLER and os.environ.get("LAMBDA_TASK_ROOT"):
    _FUNCTION = load_function(Path(os.environ["LAMBDA_TASK_ROOT"]))

__all__ = ["Data", "Run", "Stopped", "frame_of", "handler", "load_function", "signature_of", "train"]
