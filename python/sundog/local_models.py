"""Models that live on this machine: answering here, and what it takes to register one that was fitted here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sundog.app import Environment, requirement_name
from sundog.environments import training_environment
from sundog.errors import InvalidArgument, SignatureError, Unsupported
from sundog.rows import Predictions, Rows
from sundog.transport import Json


class LocalModel:
    """A model version loaded here; answers by the code that the server's instances run."""

    def __init__(self, name: str, version: int, model: Any) -> None:
        self._name, self._version, self._model = name, version, model

    def predict(self, rows: Rows) -> Predictions:
        """Scores n rows; see `ModelVersion.predict_local`.

        Raises:
            SignatureError: A column is missing or has the wrong type; the message names it.
        """
        from sundog.runtime import serving, signature, tensors

        given = [rows] if isinstance(rows, Mapping) else list(rows) if isinstance(rows, Predictions) else rows
        try:
            with serving.one_thread():
                answers = self._model.predict_table(signature.table_of(given, self._model.inputs))
        except signature.SignatureError as error:
            raise SignatureError(str(error)) from error
        names = [column["name"] for column in self._model.outputs]
        columns = [tensors.json_values(answers.column(c["name"]), c["type"]) for c in self._model.outputs]
        listed = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
        return Predictions(listed, self._name, self._version)


def local_model(name: str, version: int, artefact: Path, json: Json) -> LocalModel:
    """The model of a downloaded artefact; loaded once.

    Raises:
        Unsupported: A package that the model needs is not installed here; the message names it.
    """
    return LocalModel(name, version, _loaded(artefact, _Manifest(json)))


class _Manifest:
    """A model version's JSON; equal if it is the same version's."""

    def __init__(self, json: Json) -> None:
        self.json = json
        self._key = (json["model"], json["version"], json["artefact"]["blob"])

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Manifest) and self._key == other._key


@lru_cache(maxsize=8)
def _loaded(artefact: Path, manifest: _Manifest) -> Any:
    from sundog.runtime import estimators, serving

    json = manifest.json
    try:
        estimator = estimators.loads(json["artefact"]["format"], artefact.read_bytes())
    except estimators.ArtefactError as error:
        raise Unsupported(
            f"Version {json['version']} of {json['model']} cannot be loaded here: {error}",
            "Install the packages of its environment in the same versions.",
        ) from error
    return serving.Model({**json, "format": json["artefact"]["format"]}, estimator)


@dataclass(frozen=True)
class LocalArtefact:
    """What registering a model of this machine sends."""

    content: bytes
    format: str
    signature: Json
    environment: Environment


def local_artefact(
    model: Any, *, sample: Any, signature: Json, environment: Environment | Sequence[str] | None
) -> LocalArtefact:
    """The artefact, signature and environment of a fitted model or of an `@app.model` class's instance.

    Raises:
        InvalidArgument: Sample or environment is missing, or the model cannot be kept.
    """
    env = environment if isinstance(environment, Environment) or environment is None else Environment(*environment)
    env = env or getattr(model, "__sundog_environment__", None)
    if env is None:
        raise InvalidArgument(
            f"Which packages does this {type(model).__name__} need?",
            'Say environment=Environment("scikit-learn==1.9.1").',
        )
    env = training_environment(env)
    form, content = _dumps(model, env)
    if signature is None:
        signature = _signature(model, sample)
    return LocalArtefact(content, form, signature, env)


def _dumps(model: Any, environment: Environment) -> tuple[str, bytes]:
    from sundog.packaging import pickle_by_value
    from sundog.runtime import estimators

    library = type(model).__module__.partition(".")[0]
    if library not in ("xgboost", "sklearn"):
        return "cloudpickle", pickle_by_value(model)
    _same_version("scikit-learn" if library == "sklearn" else "xgboost", library, environment)
    try:
        return estimators.dumps(model)
    except estimators.ArtefactError as error:
        raise InvalidArgument(str(error)) from error


def _same_version(package: str, module: str, environment: Environment) -> None:
    """A scikit-learn model loads in its own version only; say so here rather than at the first prediction."""
    import importlib

    here = str(importlib.import_module(module).__version__)
    for requirement in environment.packages:
        _, pinned, version = requirement.partition("==")
        if requirement_name(requirement).startswith(package) and pinned and version.strip() != here:
            raise InvalidArgument(
                f"The model was fitted with {package} {here}, but its environment has {requirement}.",
                f"Use Environment({f'{package}=={here}'!r}).",
            )


def _signature(model: Any, sample: Any) -> Json:
    """Inputs: the sample's columns (in the fitted order, if the model knows one). Outputs: what it answers for them."""
    import pyarrow

    from sundog.runtime import estimators
    from sundog.runtime.signature import type_name

    if sample is None:
        raise InvalidArgument(
            "The model's signature is not known.", "Give sample= (some rows of its input) or signature=."
        )
    if isinstance(sample, list):
        table = pyarrow.Table.from_pylist(sample)
    elif isinstance(sample, pyarrow.Table):
        table = sample
    elif hasattr(sample, "iloc"):
        table = pyarrow.Table.from_pandas(sample, preserve_index=False)
    else:
        raise InvalidArgument(f"sample= cannot be a {type(sample).__name__}.", "Give a frame, an Arrow table or dicts.")
    table = table.slice(0, 64)
    names = estimators.feature_names(model)
    if names:
        table = table.select(names)
    inputs = [{"name": f.name, "type": type_name(f.type), "nullable": True} for f in table.schema]
    return {"inputs": inputs, "outputs": estimators.outputs_of(estimators.answer(model, table))}
