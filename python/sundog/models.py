"""Models: registered, versioned, deployed, asked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sundog.datasets import Datasets, DatasetVersion, parse_dataset_version
from sundog.environments import Environments
from sundog.errors import DataLoss, InvalidArgument, NotFound, SignatureError
from sundog.jobs import Jobs, Progress
from sundog.local_models import local_artefact, local_model
from sundog.rows import Predictions, Rows, to_row_dicts
from sundog.runs import Run
from sundog.studies import Study, Trial
from sundog.tables import html_table
from sundog.transport import Json, Request, Transport, items


@dataclass(frozen=True)
class SignatureColumn:
    """A column that goes in or comes out: type is int64, float64, string, bool, timestamp or date."""

    name: str
    type: str
    nullable: bool = True


@dataclass(frozen=True)
class Signature:
    """The columns that a model takes and gives, in their order."""

    inputs: tuple[SignatureColumn, ...]
    outputs: tuple[SignatureColumn, ...]

    def _repr_html_(self) -> str:
        rows = [["in", c.name, c.type] for c in self.inputs] + [["out", c.name, c.type] for c in self.outputs]
        return html_table(["", "column", "type"], rows)


def parse_signature(json: Json) -> Signature:
    def columns(side: str) -> tuple[SignatureColumn, ...]:
        listed = (json or {}).get(side) or ()
        return tuple(SignatureColumn(c["name"], c["type"], bool(c.get("nullable", True))) for c in listed)

    return Signature(columns("inputs"), columns("outputs"))


@dataclass(frozen=True)
class ModelVersion:
    """An immutable version of a model: artefact, signature, metrics, lineage."""

    model: str
    version: int
    format: str
    bytes: int
    signature: Signature = field(repr=False)
    metrics: Mapping[str, float]
    run: str = ""
    environment: str = ""
    created: str = ""
    json: Json = field(default=None, repr=False, compare=False)
    _models: Models | None = field(default=None, repr=False, compare=False)

    @property
    def lineage(self) -> Mapping[str, Any]:
        """Where it comes from: dataset version, code, environment, parameters."""
        return dict((self.json or {}).get("lineage") or {})

    def deploy(
        self,
        *,
        alias: str = "live",
        memory: int = 512,
        timeout: int = 30,
        weight: float = 1.0,
        progress: Progress | None = None,
    ) -> Endpoint:
        """Makes it answer behind an alias; what answers there now is replaced without a failed request.

        Args:
            alias: The endpoint's name within the model.
            memory: MB of one instance.
            timeout: Seconds for one request.
            weight: Its share of the alias's traffic, above 0 and at most 1; what answers there now keeps the rest.
            progress: Told of every step.
        """
        return self._home.deploy(
            self.model, self.version, alias=alias, memory=memory, timeout=timeout, weight=weight, progress=progress
        )

    def predict_local(self, rows: Rows) -> Predictions:
        """Answers here, from the same artefact and by the same code as the server: bit-identical.

        The artefact is downloaded once. Its packages (scikit-learn, …) must be installed here in the same versions.
        """
        return self._home.predict_local(self, rows)

    def alias(self, name: str) -> None:
        """Points a name of the registry at this version."""
        self._home.set_alias(self.model, name, self.version)

    @property
    def _home(self) -> Models:
        if self._models is None:
            raise InvalidArgument(f"{self.model} version {self.version} belongs to no connection.")
        return self._models

    def _repr_html_(self) -> str:
        rows: list[list[Any]] = [["format", self.format], ["run", self.run], *map(list, self.metrics.items())]
        return html_table([f"{self.model} version {self.version}", ""], rows)


def parse_model_version(json: Json, models: Models | None = None) -> ModelVersion:
    """A ModelVersion of protocol/api.md."""
    artefact = json.get("artefact") or {}
    return ModelVersion(
        model=json["model"],
        version=int(json["version"]),
        format=artefact.get("format") or "",
        bytes=int(artefact.get("bytes") or 0),
        signature=parse_signature(json.get("signature")),
        metrics=json.get("metrics") or {},
        run=json.get("run") or "",
        environment=json.get("environment") or "",
        created=json.get("created") or "",
        json=json,
        _models=models,
    )


@dataclass(frozen=True)
class Endpoint:
    """A deployed model. `weights`: share of the traffic of each model version."""

    model: str
    alias: str
    function: str
    weights: Mapping[int, float]
    memory_mb: int
    path: str
    json: Json = field(default=None, repr=False, compare=False)
    _models: Models | None = field(default=None, repr=False, compare=False)

    def predict(self, rows: Rows, *, timeout: float = 30.0) -> Predictions:
        """Scores rows now.

        Args:
            rows: A pandas or polars frame, an Arrow table, a list of dicts or one dict: n rows with the columns of
                the signature's inputs. Extra columns are ignored.
            timeout: Seconds to wait for all rows, start of an instance included.

        Returns:
            n dicts of the signature's outputs, in the rows' order.

        Raises:
            SignatureError: A column is missing or has the wrong type; the message names it.
            Throttled: No instance could take the rows in time; `retry_after` says when to try again.
        """
        return self._home.predict(self.model, rows, alias=self.alias, timeout=timeout)

    def predict_offline(
        self,
        data: DatasetVersion | str,
        *,
        name: str | None = None,
        split: str | None = None,
        parallel: int = 2,
        progress: Progress | None = None,
    ) -> DatasetVersion:
        """Scores a whole dataset by `parallel` instances over its shards; gives a dataset with the outputs added."""
        return self._home.predict_offline(self, data, name=name, split=split, parallel=parallel, progress=progress)

    def predict_local(self, rows: Rows) -> Predictions:
        """Answers here with the version that has most of the traffic; see `ModelVersion.predict_local`."""
        version = max(self.weights, key=lambda v: self.weights[v])
        return self._home.version(self.model, version).predict_local(rows)

    def traffic(self, weights: Mapping[int, float]) -> Endpoint:
        """Shares the traffic over versions that are deployed: {1: 0.9, 2: 0.1}."""
        return self._home.traffic(self.model, weights, alias=self.alias)

    @property
    def _home(self) -> Models:
        if self._models is None:
            raise InvalidArgument(f"The endpoint of {self.model} belongs to no connection.")
        return self._models

    @property
    def url(self) -> str:
        """Where the Open Inference Protocol v2 answers for it."""
        return (self._models.url if self._models else "") + self.path

    def _repr_html_(self) -> str:
        rows = [[f"version {v}", f"{w:.0%}"] for v, w in self.weights.items()]
        return html_table([f"{self.model}:{self.alias}", "traffic"], rows, self.url)


def parse_endpoint(json: Json, models: Models | None = None) -> Endpoint:
    """An Endpoint of protocol/api.md."""
    return Endpoint(
        model=json["model"],
        alias=json.get("alias") or "live",
        function=json.get("function") or "",
        weights={int(v): float(w) for v, w in (json.get("weights") or {}).items()},
        memory_mb=int(json.get("memory_mb") or 0),
        path=json.get("url") or f"/v2/models/{json['model']}/infer",
        json=json,
        _models=models,
    )


def parse_predictions(json: Json) -> Predictions:
    return Predictions(json.get("rows") or [], json.get("model") or "", int(json.get("version") or 0))


def predict_request(model: str, rows: list[dict[str, Any]], timeout: float, alias: str = "") -> Request:
    # A prediction changes nothing, so sending it again does no harm.
    path = f"/v1/models/{quote(model)}/predict"
    params = {"alias": alias or None}
    return Request("POST", path, params=params, body={"rows": rows}, timeout=timeout, idempotent=True)


class Models:
    """The models of this tenant."""

    def __init__(self, transport: Transport, jobs: Jobs, environments: Environments, datasets: Datasets) -> None:
        self._transport = transport
        self._jobs = jobs
        self._environments = environments
        self._datasets = datasets

    @property
    def url(self) -> str:
        return self._transport.url

    def register(
        self,
        name: str,
        source: Any,
        *,
        sample: Any = None,
        signature: Json = None,
        environment: Any = None,
        metrics: Mapping[str, float] | None = None,
    ) -> ModelVersion:
        """Registers the next version of a model.

        Args:
            name: The model's name: letters, digits, - and _, at most 58.
            source: A training run (or its id), a trial (`study.best`), a study (its best trial), or a fitted model or an
                instance of an `@app.model` class that lives here.
            sample: For a model that lives here: some rows of its input (a frame), from which the signature is made.
            signature: Instead of `sample`: {"inputs": [{"name","type"}], "outputs": [{"name","type"}]}.
            environment: For a model that lives here: the packages it needs; an `@app.model` class brings its own.
            metrics: For a model that lives here.
        """
        path = f"/v1/models/{quote(name)}/versions"
        if isinstance(source, Study):
            source = source.best
        run = source.id if isinstance(source, Run) else source.run if isinstance(source, Trial) else source
        if isinstance(run, str):
            body: dict[str, Any] = {"run": run}
        else:
            artefact = local_artefact(source, sample=sample, signature=signature, environment=environment)
            blob = self._transport.call(Request("PUT", "/v1/blobs", content=artefact.content, timeout=600.0))["id"]
            body = {
                "artefact": blob,
                "format": artefact.format,
                "signature": artefact.signature,
                "environment": self._environments.ensure(artefact.environment).id,
                **({"metrics": dict(metrics)} if metrics else {}),
            }
        return parse_model_version(self._transport.call(Request("POST", path, body=body)), self)

    def list(self) -> Iterator[Json]:
        """{"name","created","latest","aliases","versions"} of each."""
        return items(self._transport, "/v1/models")

    def get(self, name: str) -> Json:
        """{"name","created","latest","aliases","versions"}."""
        return self._transport.call(Request("GET", f"/v1/models/{quote(name)}"))

    def versions(self, name: str) -> Sequence[ModelVersion]:
        return [parse_model_version(v, self) for v in self.get(name).get("versions") or ()]

    def version(self, name: str, version: int | str = "latest") -> ModelVersion:
        """A version by its number, by an alias of the registry, or "latest"."""
        path = f"/v1/models/{quote(name)}/versions/{quote(str(version))}"
        return parse_model_version(self._transport.call(Request("GET", path)), self)

    def delete_version(self, name: str, version: int) -> None:
        self._transport.call(Request("DELETE", f"/v1/models/{quote(name)}/versions/{version}"))

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self._transport.call(
            Request("PUT", f"/v1/models/{quote(name)}/aliases/{quote(alias)}", body={"version": version})
        )

    def delete_alias(self, name: str, alias: str) -> None:
        self._transport.call(Request("DELETE", f"/v1/models/{quote(name)}/aliases/{quote(alias)}"))

    def deploy(
        self,
        name: str,
        version: int,
        *,
        alias: str = "live",
        memory: int = 512,
        timeout: int = 30,
        weight: float = 1.0,
        progress: Progress | None = None,
    ) -> Endpoint:
        """See `ModelVersion.deploy`."""
        body = {"version": version, "alias": alias, "memory_mb": memory, "timeout_s": timeout, "weight": weight}
        job = self._transport.call(Request("POST", f"/v1/models/{quote(name)}/deploy", body=body))
        return parse_endpoint(self._jobs.wait(job, progress=progress).result, self)

    def endpoint(self, name: str, alias: str = "") -> Endpoint:
        """A deployed model's endpoint; `alias` "": live, or the first there is."""
        request = Request("GET", f"/v1/models/{quote(name)}/endpoint", params={"alias": alias or None})
        return parse_endpoint(self._transport.call(request), self)

    def endpoints(self) -> Iterator[Endpoint]:
        return (parse_endpoint(json, self) for json in items(self._transport, "/v1/endpoints"))

    def traffic(self, name: str, weights: Mapping[int, float], *, alias: str = "live") -> Endpoint:
        """See `Endpoint.traffic`."""
        if abs(sum(weights.values()) - 1.0) > 1e-6:
            raise InvalidArgument(f"The shares {dict(weights)} do not sum up to 1.")
        body = {"alias": alias, "weights": {str(v): w for v, w in weights.items()}}
        return parse_endpoint(
            self._transport.call(Request("PUT", f"/v1/models/{quote(name)}/traffic", body=body)), self
        )

    def predict(self, name: str, rows: Rows, *, alias: str = "", timeout: float = 30.0) -> Predictions:
        """See `Endpoint.predict`."""
        try:
            answer = self._transport.call(predict_request(name, to_row_dicts(rows), timeout, alias))
        except InvalidArgument as error:
            raise SignatureError(error.message, error.hint) from error
        return parse_predictions(answer)

    def predict_offline(
        self,
        endpoint: Endpoint,
        data: DatasetVersion | str,
        *,
        name: str | None = None,
        split: str | None = None,
        parallel: int = 2,
        progress: Progress | None = None,
    ) -> DatasetVersion:
        """See `Endpoint.predict_offline`."""
        reference = data.reference if isinstance(data, DatasetVersion) else data
        body: dict[str, Any] = {"dataset": reference, "alias": endpoint.alias, "parallel": parallel}
        body["as"] = name or f"{reference.partition('@')[0]}-scored"
        if split:
            body["split"] = split
        job = self._transport.call(Request("POST", f"/v1/models/{quote(endpoint.model)}/predictions", body=body))
        return parse_dataset_version(self._jobs.wait(job, progress=progress).result, self._datasets)

    def predict_local(self, version: ModelVersion, rows: Rows) -> Predictions:
        """See `ModelVersion.predict_local`."""
        return local_model(version.model, version.version, self._artefact(version), version.json).predict(rows)

    def _artefact(self, version: ModelVersion) -> Path:
        """The artefact's file in this user's cache, downloaded if it is not there."""
        blob = str(((version.json or {}).get("artefact") or {}).get("blob") or "")
        if not blob:
            raise NotFound(f"{version.model} version {version.version} has no artefact.")
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sundog" / "blobs"
        target = folder / blob
        if target.is_file():
            return target
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{blob}.{os.getpid()}.part"
        digest = hashlib.sha256()
        with part.open("wb") as file:

            def write(piece: bytes) -> None:
                digest.update(piece)
                file.write(piece)

            self._transport.download(Request("GET", f"/v1/blobs/{blob}", timeout=600.0), write)
        if digest.hexdigest() != blob:
            part.unlink()
            raise DataLoss(f"The artefact of {version.model} version {version.version} does not match its address.")
        part.replace(target)
        return target
