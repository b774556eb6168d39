"""Studies: hyper-parameter searches. Optuna decides here, the server runs the trials and keeps everything."""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from sundog.errors import InvalidArgument, NotFound, SundogError
from sundog.jobs import Progress
from sundog.runs import Run, Runs, parse_run, run_error
from sundog.search import Pruner, Search, pruner_json
from sundog.spaces import Range, space_json
from sundog.tables import html_table
from sundog.transport import Json, Request, Transport, items


@dataclass(frozen=True)
class Trial:
    """One candidate of a study. `value` is its metric, None until it has succeeded."""

    number: int
    run: str
    parameters: Mapping[str, Any]
    state: str
    value: float | None = None


@dataclass(frozen=True)
class Study:
    """A search as the server described it last. `total` is how many trials were asked for."""

    name: str
    function: str
    dataset: str
    metric: str
    direction: str
    total: int
    trials: tuple[Trial, ...] = ()
    space: Json = None
    json: Json = field(default=None, repr=False, compare=False)

    @property
    def maximise(self) -> bool:
        return self.direction == "maximise"

    @property
    def best(self) -> Trial:
        """The trial with the best value.

        Raises:
            NotFound: No trial has succeeded yet.
        """
        done = [t for t in self.trials if t.state == "succeeded" and t.value is not None]
        if not done:
            raise NotFound(f"No trial of study {self.name} has succeeded.", f"See: sundog studies show {self.name}")
        sign = 1.0 if self.maximise else -1.0
        return max(done, key=lambda t: sign * (t.value or 0.0))

    def _repr_html_(self) -> str:
        names = sorted({name for trial in self.trials for name in trial.parameters})
        rows = [[t.number, t.state, t.value, *(t.parameters.get(n) for n in names)] for t in self.trials]
        return html_table(["trial", "state", self.metric, *names], rows, f"Study {self.name}")


def parse_study(json: Json) -> Study:
    """A Study of protocol/api.md; in a list its trials are missing."""
    trials = json.get("trials")
    listed = trials if isinstance(trials, list) else []
    return Study(
        name=json["name"],
        function=json.get("function") or "",
        dataset=json.get("dataset") or "",
        metric=json.get("metric") or "",
        direction=json.get("direction") or "maximise",
        total=int(json.get("total") or (trials if isinstance(trials, int) else len(listed))),
        trials=tuple(
            Trial(int(t["number"]), t.get("run") or "", t.get("parameters") or {}, t["state"], t.get("value"))
            for t in listed
        ),
        space=json.get("space"),
        json=json,
    )


def study_path(name: str) -> str:
    return f"/v1/studies/{quote(name)}"


def default_name(settings: Mapping[str, Any], code_sha256: str) -> str:
    """A name that the same search has again, so that a script that is started again goes on where it was."""
    text = json.dumps({**settings, "code": code_sha256}, sort_keys=True).encode()
    return f"{str(settings['function'])[:50]}-{hashlib.sha256(text).hexdigest()[:8]}"


@dataclass
class Plan:
    """What a search should do. `max_cost` in the price plan's currency: at this sum no further trial is begun."""

    function: str
    dataset: str
    space: Mapping[str, Range]
    metric: str
    maximise: bool = True
    trials: int = 20
    parallel: int = 4
    pruner: Pruner = "asha"
    max_cost: float | None = None
    seed: int = 1
    name: str = ""
    code_sha256: str = ""

    def settings(self) -> dict[str, Any]:
        """The study as POST /v1/studies takes it."""
        if self.trials < 1 or self.parallel < 1:
            raise InvalidArgument(f"trials={self.trials}, parallel={self.parallel}: both are at least 1.")
        settings: dict[str, Any] = {
            "function": self.function,
            "dataset": self.dataset,
            "space": space_json(self.space),
            "metric": self.metric,
            "direction": "maximise" if self.maximise else "minimise",
            "trials": self.trials,
            "pruner": pruner_json(self.pruner),
        }
        return {"name": self.name or default_name(settings, self.code_sha256), **settings}


class Studies:
    """The studies of this tenant."""

    def __init__(self, transport: Transport, runs: Runs) -> None:
        self._transport = transport
        self._runs = runs

    def get(self, name: str) -> Study:
        return parse_study(self._transport.call(Request("GET", study_path(name))))

    def list(self) -> Iterator[Study]:
        return (parse_study(study) for study in items(self._transport, "/v1/studies"))

    def run(self, plan: Plan, *, progress: Progress | None = None) -> Study:
        """Runs the search to its end, or goes on with one of that name, and gives the study.

        Raises:
            Conflict: A study of that name exists with other settings; the message names them.
            SundogError: The first trials failed, every one; the error is the last one's.
        """
        settings = plan.settings()
        study = parse_study(self._transport.call(Request("POST", "/v1/studies", body=settings, idempotent=True)))
        stored = list((study.json or {}).get("trials") or [])
        _Tuning(self._transport, self._runs, plan, study, stored, progress).run()
        return self.get(study.name)


@dataclass
class _Event:
    """What a follower saw: the run again, or why it cannot be followed."""

    number: int
    run: Run | None
    error: BaseException | None = None
    taken: threading.Event = field(default_factory=threading.Event)


class _Tuning:
    """One sitting of a search: this thread alone decides, one thread for each running trial watches it."""

    def __init__(
        self, transport: Transport, runs: Runs, plan: Plan, study: Study, stored: list[Json], progress: Progress | None
    ) -> None:
        self._transport = transport
        self._runs = runs
        self._plan = plan
        self._study = study
        self._progress = progress
        startup = min(10, max(3, plan.trials // 3))
        self._search = Search(
            plan.space,
            maximise=plan.maximise,
            pruner=pruner_json(plan.pruner),
            trials=stored,
            startup=startup,
            seed=plan.seed,
        )
        self._events: queue.Queue[_Event] = queue.Queue()
        self._closed = threading.Event()
        self._running: dict[int, str] = {}
        self._pruned: set[int] = set()
        self._begun = len(stored)
        self._values = {t.number: t.value for t in study.trials if t.state == "succeeded" and t.value is not None}
        self._over = sum(1 for t in study.trials if t.state != "running")
        self._cost = 0.0

    def run(self) -> None:
        try:
            self._run()
        finally:
            self._closed.set()

    def _run(self) -> None:
        if self._plan.max_cost is not None:
            self._cost = sum(run.cost for run in self._runs.list(self._study.name) if run.over)
        for trial in self._study.trials:
            if trial.state == "running":
                self._watch(trial.number, trial.run)
        self._tell_progress()
        while True:
            while len(self._running) < self._plan.parallel and self._may_begin():
                self._begin()
            if not self._running:
                return
            event = self._events.get()
            self._take(event)
            event.taken.set()

    def _may_begin(self) -> bool:
        if self._plan.max_cost is not None and self._cost >= self._plan.max_cost:
            return False
        return self._begun < self._plan.trials

    def _begin(self) -> None:
        number, parameters = self._search.ask()
        body = {"number": number, "parameters": parameters}
        # The same trial again gives the run that exists, so sending it twice does no harm.
        request = Request("POST", f"{study_path(self._study.name)}/trials", body=body, idempotent=True)
        run = parse_run(self._transport.call(request))
        self._begun += 1
        self._watch(number, run.id)

    def _watch(self, number: int, run_id: str) -> None:
        self._running[number] = run_id

        def follow() -> None:
            try:
                for run in self._runs.follow(run_id):
                    event = _Event(number, run)
                    self._events.put(event)
                    # Asks for more only once what was seen is decided on, so that a stop is never late by a look ahead.
                    while not event.taken.wait(1.0):
                        if self._closed.is_set():
                            return
            except BaseException as error:
                self._events.put(_Event(number, None, error))

        threading.Thread(target=follow, name=f"trial-{number}", daemon=True).start()

    def _take(self, event: _Event) -> None:
        if event.error is not None:
            raise event.error
        run = event.run
        assert run is not None
        for point in run.points:
            value = point.values.get(self._plan.metric)
            if value is None or event.number in self._pruned:
                continue
            if self._search.report(event.number, int(point.step), float(value)) and not run.over:
                self._pruned.add(event.number)
                self._runs.stop(run.id)
        if run.over:
            self._end(event.number, run)

    def _end(self, number: int, run: Run) -> None:
        del self._running[number]
        self._over += 1
        self._cost += run.cost
        value = run.metrics.get(self._plan.metric)
        state = run.state
        if state == "stopped" and number in self._pruned:
            state = "pruned"
        if state == "succeeded" and value is None:
            raise InvalidArgument(
                f"{run.function} ended without logging {self._plan.metric!r}; it logged {sorted(run.metrics) or 'nothing'}.",
                f"Call run.log({self._plan.metric}=…) in it.",
            )
        self._search.tell(number, state, value if state == "succeeded" else None)
        outcome = {"state": state, "value": value}
        self._transport.call(Request("PUT", f"{study_path(self._study.name)}/trials/{number}", body=outcome))
        if state == "succeeded" and value is not None:
            self._values[number] = value
        self._tell_progress()
        if state == "failed" and not self._values and self._over >= min(3, self._plan.trials):
            self._give_up(run)

    def _give_up(self, run: Run) -> None:
        for run_id in self._running.values():
            self._runs.stop(run_id)
        error = run_error(run)
        error.hint = f"{error.hint} All {self._over} trials so far failed; the search ended.".strip()
        raise error

    def _tell_progress(self) -> None:
        if self._progress is None:
            return
        note = f"{self._over} of {self._plan.trials} trials"
        if self._values:
            best = max(self._values.values()) if self._plan.maximise else min(self._values.values())
            note += f", best {self._plan.metric} {best:.4f}"
        if self._pruned:
            note += f", {len(self._pruned)} stopped early"
        self._progress(note, self._over, self._plan.trials)


__all__ = ["Plan", "Studies", "Study", "SundogError", "Trial", "parse_study"]
