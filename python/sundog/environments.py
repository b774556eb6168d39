"""Environments on the server: ensure one, wait until it is built."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata

from sundog.app import Environment, requirement_name
from sundog.errors import DeadlineExceeded, InvalidArgument
from sundog.jobs import Progress
from sundog.tables import html_table
from sundog.transport import Json, Request, Transport, items

_LAYER = "arn:aws:lambda:local:000000000000:layer:sundog-environment-{}:1"


@dataclass(frozen=True)
class BuiltEnvironment:
    """An environment as the server knows it. `bytes` on disk; `build_seconds` 0 if another one's folder was shared."""

    id: str
    python: str
    packages: tuple[str, ...]
    resolved: tuple[str, ...]
    state: str
    log: str = field(default="", repr=False)
    bytes: int = 0
    build_seconds: float = 0.0
    json: Json = field(default=None, repr=False, compare=False)

    @property
    def layer(self) -> str:
        """How a function names it: an ARN for Lambda's `Layers`."""
        return _LAYER.format(self.id)

    def _repr_html_(self) -> str:
        return html_table(["package"], [[p] for p in self.resolved], f"Environment {self.id[:12]} ({self.state})")


def parse_environment(json: Json) -> BuiltEnvironment:
    """An Environment of protocol/api.md."""
    return BuiltEnvironment(
        id=json["id"],
        python=json.get("python", ""),
        packages=tuple(json.get("packages") or ()),
        resolved=tuple(json.get("resolved") or ()),
        state=json["state"],
        log=json.get("log") or "",
        bytes=int(json.get("bytes") or 0),
        build_seconds=float(json.get("build_seconds") or 0.0),
        json=json,
    )


def ensure_request(environment: Environment) -> Request:
    return Request(
        "POST",
        "/v1/environments",
        body={"python": environment.python, "packages": list(environment.packages)},
        idempotent=True,
    )


def training_environment(environment: Environment) -> Environment:
    """With what a training function needs: pyarrow and cloudpickle as here, pandas, and skops beside scikit-learn."""
    needed = [f"cloudpickle=={metadata.version('cloudpickle')}", f"pyarrow=={metadata.version('pyarrow')}", "pandas"]
    if "scikit-learn" in {requirement_name(package) for package in environment.packages}:
        needed.append("skops")
    return environment.with_packages(*needed)


class Environments:
    """The environments that the server has."""

    def __init__(self, transport: Transport, clock: Callable[[], float] = time.monotonic) -> None:
        self._transport = transport
        self._clock = clock

    def list(self) -> Iterator[BuiltEnvironment]:
        return (parse_environment(json) for json in items(self._transport, "/v1/environments"))

    def get(self, environment_id: str) -> BuiltEnvironment:
        return parse_environment(self._transport.call(Request("GET", f"/v1/environments/{environment_id}")))

    def ensure(
        self, environment: Environment, *, progress: Progress | None = None, timeout: float = 900.0
    ) -> BuiltEnvironment:
        """Builds it unless it is there, and waits for it.

        Args:
            environment: What to build.
            progress: Told while it is built.
            timeout: Seconds.

        Raises:
            InvalidArgument: It cannot be resolved or built; the message has uv's own words.
            DeadlineExceeded: Not within `timeout`; the build goes on.
        """
        built = parse_environment(self._transport.call(ensure_request(environment)))
        deadline = self._clock() + timeout
        while built.state == "building":
            if progress is not None:
                progress(f"building {', '.join(environment.packages)}", 0, 0)
            if self._clock() >= deadline:
                raise DeadlineExceeded(f"Environment {built.id} is still being built after {timeout:g} s.")
            request = Request("GET", f"/v1/environments/{built.id}", params={"wait": 20}, timeout=60.0)
            built = parse_environment(self._transport.call(request))
        if built.state == "failed":
            raise InvalidArgument(
                f"Environment {list(environment.packages)} for Python {environment.python} cannot be built:\n"
                + built.log[-2000:].strip()
            )
        return built
