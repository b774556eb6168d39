"""Functions on the server, through AWS Lambda's own HTTP API."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sundog.app import Environment, Function, Network, Settings, check_name
from sundog.environments import Environments, training_environment
from sundog.errors import (
    Conflict,
    DeadlineExceeded,
    FunctionError,
    InvalidArgument,
    NotFound,
    Unavailable,
    function_error,
)
from sundog.event_stream import read_events
from sundog.jobs import Progress
from sundog.packaging import Package, package_folder, package_function
from sundog.tables import html_table
from sundog.transport import Json, Reply, Request, Transport, items

_ROOT = "/2015-03-31/functions"
# Lambda demands a role; Sundog keeps it and does not use it.
_ROLE = "arn:aws:iam::000000000000:role/sundog"
_NETWORK, _ALLOW = "sundog:network", "sundog:allow"


@dataclass(frozen=True)
class FunctionInfo:
    """What the server says of a function or version. `memory` in MB, `timeout` in seconds, `code_bytes` zipped.

    `start_reason`: why each instance runs init itself, because what init left behind does not survive a fork; mostly empty.
    """

    name: str
    version: str
    arn: str
    runtime: str
    handler: str
    memory: int
    timeout: int
    state: str
    state_reason: str
    code_sha256: str
    code_bytes: int
    layers: tuple[str, ...]
    variables: Mapping[str, str]
    last_modified: str
    description: str = ""
    start_reason: str = ""


@dataclass(frozen=True)
class LogLine:
    """One line that a function wrote; `sequence` grows per function."""

    sequence: int
    time: str
    request_id: str
    text: str


def parse_function(json: Json) -> FunctionInfo:
    """Lambda's FunctionConfiguration."""
    return FunctionInfo(
        name=json["FunctionName"],
        version=json.get("Version") or "$LATEST",
        arn=json.get("FunctionArn") or "",
        runtime=json.get("Runtime") or "",
        handler=json.get("Handler") or "",
        memory=int(json.get("MemorySize") or 128),
        timeout=int(json.get("Timeout") or 3),
        state=json.get("State") or "Active",
        state_reason=json.get("StateReason") or "",
        code_sha256=json.get("CodeSha256") or "",
        code_bytes=int(json.get("CodeSize") or 0),
        layers=tuple(layer["Arn"] for layer in json.get("Layers") or ()),
        variables=dict((json.get("Environment") or {}).get("Variables") or {}),
        last_modified=json.get("LastModified") or "",
        description=json.get("Description") or "",
        start_reason=(json.get("Sundog") or {}).get("StartReason") or "",
    )


def configuration(package: Package, settings: Settings, python: str, layers: Sequence[str]) -> dict[str, Any]:
    """The fields that CreateFunction and UpdateFunctionConfiguration share."""
    return {
        "Runtime": f"python{python}",
        "Handler": package.handler,
        "Role": _ROLE,
        "MemorySize": settings.memory,
        "Timeout": settings.timeout,
        "Description": settings.description,
        "Environment": {"Variables": dict(settings.variables)},
        "Layers": list(layers),
    }


def settings_tags(settings: Settings, kind: str) -> dict[str, str]:
    """Sundog's own settings, which Lambda's API carries as tags."""
    tags = {"sundog:kind": kind, _NETWORK: settings.network}
    if settings.allow:
        tags[_ALLOW] = ",".join(settings.allow)
    return tags


def create_request(name: str, package: Package, fields: Mapping[str, Any], tags: Mapping[str, str]) -> Request:
    body = {
        "FunctionName": name,
        "PackageType": "Zip",
        **fields,
        "Code": {"ZipFile": base64.b64encode(package.content).decode()},
        "Tags": dict(tags),
    }
    return Request("POST", _ROOT, body=body, timeout=120.0)


def tag_request(name: str, tags: Mapping[str, str]) -> Request:
    return Request("POST", f"/2017-03-31/tags/{quote(name)}", body={"Tags": dict(tags)})


def update_code_request(name: str, package: Package) -> Request:
    body = {"ZipFile": base64.b64encode(package.content).decode()}
    return Request("PUT", f"{_ROOT}/{quote(name)}/code", body=body, timeout=120.0)


def update_configuration_request(name: str, fields: Mapping[str, Any]) -> Request:
    return Request("PUT", f"{_ROOT}/{quote(name)}/configuration", body=dict(fields))


def invoke_request(
    name: str, payload: bytes, qualifier: str = "", kind: str = "RequestResponse", timeout: float = 930.0
) -> Request:
    return Request(
        "POST",
        f"{_ROOT}/{quote(name)}/invocations",
        params={"Qualifier": qualifier or None},
        content=payload,
        headers={"content-type": "application/json", "x-amz-invocation-type": kind},
        timeout=timeout,
    )


def stream_request(name: str, payload: bytes, qualifier: str = "", timeout: float = 930.0) -> Request:
    return Request(
        "POST",
        f"/2021-11-15/functions/{quote(name)}/response-streaming-invocations",
        params={"Qualifier": qualifier or None},
        content=payload,
        headers={"content-type": "application/json"},
        timeout=timeout,
    )


def parse_stream(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of a streamed answer, from its event stream.

    Raises:
        FunctionError: The function failed, after the pieces that came before.
        Unavailable: The answer broke off.
    """
    for event in read_events(pieces):
        if event.type == "PayloadChunk":
            yield event.payload
        elif event.type == "InvokeComplete":
            complete = json.loads(event.payload)
            if complete.get("ErrorCode"):
                raise function_error(str(complete.get("ErrorDetails") or complete["ErrorCode"]).encode())
            return
    raise Unavailable("The streamed answer ended before it was complete.")


def parse_invocation(reply: Reply) -> Any:
    """The value that the function returned (text that is no JSON: as bytes).

    Raises:
        FunctionError: The function raised, timed out or ran out of memory.
    """
    if reply.headers.get("x-amz-function-error"):
        raise function_error(reply.content, reply.headers.get("x-amzn-requestid", ""))
    try:
        return reply.json()
    except ValueError:
        return reply.content


def differs(info: FunctionInfo, fields: Mapping[str, Any]) -> bool:
    """Whether the server's function is configured otherwise than `fields`."""
    have = {
        "Runtime": info.runtime,
        "Handler": info.handler,
        "MemorySize": info.memory,
        "Timeout": info.timeout,
        "Description": info.description,
        "Environment": {"Variables": dict(info.variables)},
        "Layers": list(info.layers),
    }
    return any(fields[name] != value for name, value in have.items())


class DeployedFunction:
    """A function on the server."""

    def __init__(self, transport: Transport, name: str, qualifier: str = "") -> None:
        self._transport = transport
        self.name = name
        self.qualifier = qualifier

    def __repr__(self) -> str:
        return f"<sundog function {self.name!r}{':' + self.qualifier if self.qualifier else ''}>"

    def _repr_html_(self) -> str:
        info = self.info()
        row = [info.name, info.version, info.runtime, info.memory, info.timeout, info.state]
        return html_table(["function", "version", "runtime", "memory MB", "timeout s", "state"], [row])

    @property
    def path(self) -> str:
        return f"{_ROOT}/{quote(self.name)}"

    def info(self) -> FunctionInfo:
        """What the server says of it now."""
        request = Request("GET", f"{self.path}/configuration", params={"Qualifier": self.qualifier or None})
        return parse_function(self._transport.call(request))

    def invoke(self, payload: Any = None, *, timeout: float = 930.0) -> Any:
        """Calls it with a payload and gives its answer.

        Args:
            payload: What JSON can carry, or bytes that are JSON; at most 6 MB.
            timeout: Seconds to wait, start of an instance included.

        Raises:
            FunctionError: The function raised, timed out or ran out of memory.
            Throttled: No instance could take it in time.
        """
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return parse_invocation(
            self._transport.send(invoke_request(self.name, content, self.qualifier, timeout=timeout))
        )

    def stream(self, payload: Any = None, *, timeout: float = 930.0) -> Iterator[bytes]:
        """Calls it and gives its answer piece by piece, each as soon as the function has yielded it.

        A function that yields (a generator) streams; the answer of any other comes as one piece.

        Args:
            payload: What JSON can carry, or bytes that are JSON; at most 6 MB.
            timeout: Seconds to wait for the next piece, start of an instance included.

        Yields:
            Bytes; text that the function yields is UTF-8. At most 200 MB in all.

        Raises:
            FunctionError: The function raised, timed out or ran out of memory; pieces may have come before.
            Throttled: No instance could take it in time.
        """
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        request = stream_request(self.name, content, self.qualifier, timeout)
        return parse_stream(self._transport.pieces(request))

    def invoke_event(self, payload: Any = None) -> str:
        """Hands it a payload to work on later (kept durably, retried twice, then a dead letter); gives the request id."""
        request = invoke_request(self.name, json.dumps(payload).encode(), self.qualifier, "Event", 60.0)
        return str(self._transport.send(request).headers.get("x-amzn-requestid", ""))

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the Python function behind it with these arguments."""
        return self.invoke({"args": list(args), "kwargs": kwargs})

    def map(self, arguments: Iterable[Any], *, parallel: int = 8) -> Iterator[Any]:
        """Calls it once for each item (a tuple: several arguments), `parallel` at a time; answers in the same order."""
        with ThreadPoolExecutor(parallel) as pool:
            yield from pool.map(lambda item: self.remote(*(item if isinstance(item, tuple) else (item,))), arguments)

    def logs(self, *, after: int = 0, limit: int = 1000, follow: bool = False) -> Iterator[LogLine]:
        """What it printed, oldest first; with `follow`, goes on as new lines come."""
        request = Request(
            "GET",
            f"/v1/functions/{quote(self.name)}/logs",
            params={"after": after, "limit": limit, "follow": 1 if follow else None},
            timeout=24 * 3600.0 if follow else 60.0,
        )
        for line in self._transport.lines(request):
            if line.strip():
                entry = json.loads(line)
                yield LogLine(
                    int(entry["sequence"]), entry.get("time", ""), entry.get("request_id", ""), entry.get("text", "")
                )

    def publish(self, description: str = "") -> DeployedFunction:
        """Makes an immutable version of what is there now (the same one again if nothing changed)."""
        body = {"Description": description} if description else {}
        answer = self._transport.call(Request("POST", f"{self.path}/versions", body=body))
        return DeployedFunction(self._transport, self.name, str(answer["Version"]))

    def versions(self) -> list[FunctionInfo]:
        return [parse_function(v) for v in _pages(self._transport, f"{self.path}/versions", "Versions")]

    def alias(self, name: str, version: str, weights: Mapping[str, float] | None = None) -> DeployedFunction:
        """Points alias `name` at a version; `weights` sends shares of the traffic to others: {"2": 0.1}."""
        body = {
            "Name": name,
            "FunctionVersion": version,
            "RoutingConfig": {"AdditionalVersionWeights": dict(weights or {})},
        }
        try:
            self._transport.call(Request("PUT", f"{self.path}/aliases/{quote(name)}", body=body))
        except NotFound:
            self._transport.call(Request("POST", f"{self.path}/aliases", body=body))
        return DeployedFunction(self._transport, self.name, name)

    def delete(self) -> None:
        self._transport.call(Request("DELETE", self.path, params={"Qualifier": self.qualifier or None}))

    def dead_letters(self) -> list[Json]:
        """Events that failed for good: {"id","request_id","payload","attempts","reason","died"}."""
        return list(items(self._transport, f"/v1/functions/{quote(self.name)}/dead-letters"))

    def redrive(self, letter_id: str | int) -> None:
        """Gives a dead letter to the function again."""
        path = f"/v1/functions/{quote(self.name)}/dead-letters/{quote(str(letter_id))}/redrive"
        self._transport.call(Request("POST", path))


class Functions:
    """The functions of this tenant."""

    def __init__(
        self,
        transport: Transport,
        environments: Environments,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport = transport
        self._environments = environments
        self._clock = clock
        self._sleep = sleep
        self._deployed: dict[str, tuple[str, Settings]] = {}

    def get(self, name: str, qualifier: str = "") -> DeployedFunction:
        """The function of that name; raises NotFound if there is none."""
        function = DeployedFunction(self._transport, name, qualifier)
        function.info()
        return function

    def list(self) -> Iterator[FunctionInfo]:
        return (parse_function(f) for f in _pages(self._transport, _ROOT, "Functions"))

    def deploy(self, function: Function[..., Any], *, progress: Progress | None = None) -> DeployedFunction:
        """Deploys a decorated function and waits until it is active; what has not changed is not sent again."""
        package = package_function(function)
        if self._deployed.get(function.name) != (package.sha256, function.settings):
            environment = function.settings.environment
            if function.kind == "training":
                environment = training_environment(environment or Environment())
            self._deploy(function.name, package, function.settings, environment, function.kind, progress)
            self._deployed[function.name] = (package.sha256, function.settings)
        return DeployedFunction(self._transport, function.name)

    def deploy_folder(
        self,
        name: str,
        folder: str | Path,
        *,
        handler: str,
        memory: int = 128,
        timeout: int = 30,
        environment: Environment | None = None,
        network: Network = "none",
        allow: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> DeployedFunction:
        """Deploys a folder (or one .py file, or a zip) as Lambda takes it.

        Args:
            handler: "module.function".
            network, allow: As of `App.function`: "egress" with a list of what may be reached.

        Raises:
            InvalidArgument: "egress" without a list, or a list without "egress".
        """
        entries = (allow,) if isinstance(allow, str) else tuple(allow)
        settings = Settings(memory, timeout, environment, network, dict(variables or {}), allow=entries)
        self._deploy(check_name(name), package_folder(folder, handler), settings, environment, "function", progress)
        return DeployedFunction(self._transport, name)

    def _deploy(
        self,
        name: str,
        package: Package,
        settings: Settings,
        environment: Environment | None,
        kind: str,
        progress: Progress | None,
    ) -> None:
        layers: list[str] = []
        if environment is not None and environment.packages:
            layers.append(self._environments.ensure(environment, progress=progress).layer)
        fields = configuration(package, settings, (environment or Environment()).python, layers)
        tags = settings_tags(settings, kind)
        function = DeployedFunction(self._transport, name)
        try:
            answer = self._transport.call(Request("GET", function.path))
        except NotFound:
            self._transport.call(create_request(name, package, fields, tags))
            self._until_active(function)
            return
        have = answer.get("Tags") or {}
        _same_tags(name, have, {tag: value for tag, value in tags.items() if tag != _ALLOW})
        if have.get(_ALLOW, "") != tags.get(_ALLOW, ""):
            self._transport.call(tag_request(name, {tag: tags[tag] for tag in (_NETWORK, _ALLOW)}))
            self._until_active(function)
        info = parse_function(answer["Configuration"])
        if differs(info, fields):
            self._transport.call(update_configuration_request(name, fields))
            self._until_active(function)
        if info.code_sha256 != package.sha256:
            self._transport.call(update_code_request(name, package))
        self._until_active(function)

    def _until_active(self, function: DeployedFunction, timeout: float = 900.0) -> None:
        deadline = self._clock() + timeout
        pause = 0.02
        while True:
            info = function.info()
            if info.state == "Active":
                return
            if info.state == "Failed":
                raise FunctionError(f"Function {function.name} cannot start: {info.state_reason}", "InitError")
            if self._clock() >= deadline:
                raise DeadlineExceeded(f"Function {function.name} is still {info.state} after {timeout:g} s.")
            self._sleep(pause)
            pause = min(1.0, pause * 1.6)


def _same_tags(name: str, have: Mapping[str, str], want: Mapping[str, str]) -> None:
    for tag, value in want.items():
        if have.get(tag, value) != value:
            raise Conflict(
                f"Function {name} exists with {tag.removeprefix('sundog:')} {have[tag]!r}, not {value!r}.",
                f"Delete it first (sundog functions delete {name}), or use another name.",
            )


def _pages(transport: Transport, path: str, field: str) -> Iterator[Json]:
    marker = ""
    while True:
        page = transport.call(Request("GET", path, params={"Marker": marker or None}))
        yield from page.get(field) or []
        marker = page.get("NextMarker") or ""
        if not marker:
            return


def function_name(function: Function[..., Any] | DeployedFunction | str) -> str:
    """The name on the server of whatever stands for a function."""
    if isinstance(function, str):
        return function
    if isinstance(function, Function | DeployedFunction):
        return function.name
    raise InvalidArgument(f"{function!r} is no function.", "Decorate it with @app.training(…) or @app.function(…).")
