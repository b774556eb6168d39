"""Training runs: one fit each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sundog.errors import Cancelled, DeadlineExceeded, FunctionError, SundogError, error_from_json
from sundog.tables import html_table
from sundog.transport import Json, Request, Transport, items


@dataclass(frozen=True)
class Point:
    """Metrics that a run logged at a step; `n` counts all points of the run."""

    n: int
    step: float
    time: str
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class Run:
    """One training run as the server described it last. `billed_ms` of handler time; `cost` in the price plan's currency."""

    id: str
    name: str
    function: str
    state: str
    dataset: str = ""
    study: str = ""
    version: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    artefact: Json = None
    error: Json = None
    attempt: int = 0
    billed_ms: int = 0
    cost: float = 0.0
    created: str = ""
    started: str = ""
    ended: str = ""
    points: tuple[Point, ...] = field(default=(), repr=False)
    json: Json = field(default=None, repr=False, compare=False)

    @property
    def over(self) -> bool:
        return self.state in ("succeeded", "failed", "stopped")

    def _repr_html_(self) -> str:
        rows = [
            [self.id, self.function, self.state, str(dict(self.parameters)), str(dict(self.metrics)), self.billed_ms]
        ]
        return html_table(["run", "function", "state", "parameters", "metrics", "billed ms"], rows)


def parse_run(json: Json) -> Run:
    """A Run of protocol/api.md."""
    return Run(
        id=json["id"],
        name=json.get("name") or "",
        function=json.get("function") or "",
        state=json["state"],
        dataset=json.get("dataset") or "",
        study=json.get("study") or "",
        version=str(json.get("version") or ""),
        parameters=json.get("parameters") or {},
        metrics=json.get("metrics") or {},
        artefact=json.get("artefact"),
        error=json.get("error"),
        attempt=int(json.get("attempt") or 0),
        billed_ms=int(json.get("billed_ms") or 0),
        cost=float(json.get("cost") or 0.0),
        created=json.get("created") or "",
        started=json.get("started") or "",
        ended=json.get("ended") or "",
        points=tuple(
            Point(int(p["n"]), float(p.get("step") or 0), p.get("time") or "", p.get("values") or {})
            for p in json.get("points") or ()
        ),
        json=json,
    )


def create_run_request(
    function: str, dataset: str, parameters: Mapping[str, Any], qualifier: str = "", name: str = ""
) -> Request:
    body: dict[str, Any] = {"function": function, "dataset": dataset, "parameters": dict(parameters)}
    if qualifier:
        body["qualifier"] = qualifier
    if name:
        body["name"] = name
    return Request("POST", "/v1/runs", body=body)


def get_run_request(run_id: str, wait: int = 0, after: int = 0) -> Request:
    """The run once it has points later than the `after`-th, has changed, or `wait` seconds have passed."""
    params = {"wait": wait or None, "metrics_after": after}
    return Request("GET", f"/v1/runs/{run_id}", params=params, timeout=wait + 30.0)


def run_error(run: Run) -> SundogError:
    """Why a run that is over has no result."""
    if run.state == "stopped":
        return Cancelled(f"Run {run.id} ({run.function}) was stopped.")
    error = run.error or {}
    if error.get("stack"):
        trace = tuple(str(line) for line in error["stack"])
        message = str(error.get("message") or "").removeprefix(f"{error.get('type')}: ")
        return FunctionError(message, str(error.get("type") or ""), trace, hint=str(error.get("hint") or ""))
    return error_from_json(error, f"Run {run.id} ({run.function}) failed.")


class Runs:
    """The training runs of this tenant."""

    def __init__(self, transport: Transport, clock: Callable[[], float] = time.monotonic) -> None:
        self._transport = transport
        self._clock = clock

    def create(
        self, function: str, dataset: str, parameters: Mapping[str, Any], *, qualifier: str = "", name: str = ""
    ) -> Run:
        """Begins a run of a deployed training function on a dataset version ("clients@2")."""
        return parse_run(self._transport.call(create_run_request(function, dataset, parameters, qualifier, name)))

    def get(self, run_id: str, *, wait: int = 0, after: int = 0) -> Run:
        """The run, with its points later than the `after`-th; `wait` (seconds, at most 30) for something new."""
        return parse_run(self._transport.call(get_run_request(run_id, wait, after)))

    def list(self, study: str = "") -> Iterator[Run]:
        return (parse_run(json) for json in items(self._transport, "/v1/runs", {"study": study} if study else None))

    def stop(self, run_id: str) -> None:
        """Asks it to stop: a queued run ends at once, a running one at its next `run.log()`, or killed after 10 s."""
        self._transport.call(Request("POST", f"/v1/runs/{run_id}/stop", idempotent=True))

    def follow(self, run_id: str, *, timeout: float = 24 * 3600.0) -> Iterator[Run]:
        """The run again and again as it changes, each time with its new points only; ends once it is over."""
        deadline = self._clock() + timeout
        after = 0
        while True:
            left = deadline - self._clock()
            run = self.get(run_id, wait=max(0, min(20, int(left))), after=after)
            after = max([after, *(point.n for point in run.points)])
            yield run
            if run.over:
                return
            if left <= 0:
                raise DeadlineExceeded(f"Run {run_id} is still {run.state} after {timeout:g} s.", "It goes on.")

    def wait(
        self, run: Run | str, *, on_point: Callable[[Point], None] | None = None, timeout: float = 24 * 3600.0
    ) -> Run:
        """Waits until it has succeeded; tells `on_point` of metrics as they are logged.

        Raises:
            FunctionError: The training function raised.
            Cancelled: The run was stopped.
            DeadlineExceeded: Not within `timeout` seconds; it goes on.
        """
        last = self.get(run) if isinstance(run, str) else run
        for now in self.follow(last.id, timeout=timeout):
            last = now
            if on_point is not None:
                for point in now.points:
                    on_point(point)
        if last.state != "succeeded":
            raise run_error(last)
        return last
