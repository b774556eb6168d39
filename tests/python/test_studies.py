"""Studies: Optuna decides, a pretended server keeps; what survives a restart of either."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import pytest

from sundog import choice, errors, integer, loguniform, uniform
from sundog.cloud import Cloud
from sundog.search import Search, pruner_json
from sundog.spaces import space_json
from sundog.transport import Transport

SPACE = {"x": uniform(0.0, 1.0), "n": integer(1, 9), "k": choice(["a", "b"]), "l": loguniform(0.01, 1.0)}


class Learner:
    """Keeps studies, trials and runs as the server does. A run's metric is `value(parameters, step)` for steps 1, 3, 9.

    With `fail_after` it breaks the connection of whoever asks for one trial more.
    """

    def __init__(self, value: Any, *, steps: tuple[int, ...] = (1, 3, 9), fails: bool = False) -> None:
        self.value, self.steps, self.fails = value, steps, fails
        self.fail_after: int | None = None
        self.studies: dict[str, Any] = {}
        self.runs: dict[str, Any] = {}
        self.stopped: set[str] = set()
        self.lock = threading.Lock()

    def cloud(self) -> Cloud:
        return Cloud(Transport("http://sundog.test", "k", http=httpx.MockTransport(self), attempts=1))

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        with self.lock:
            body = json.loads(request.content) if request.content else {}
            return self.route(request.method, request.url.path.split("/")[2:], body, request.url.params)

    def route(self, method: str, parts: list[str], body: Any, params: Any) -> httpx.Response:
        match method, parts:
            case "POST", ["studies"]:
                have = self.studies.setdefault(body["name"], {**body, "total": body["trials"], "trials": []})
                if {k: have[k] for k in ("function", "dataset", "space")} != {
                    k: body[k] for k in ("function", "dataset", "space")
                }:
                    return httpx.Response(
                        409, json={"error": {"code": "conflict", "message": "Other settings.", "hint": ""}}
                    )
                return httpx.Response(200, json=have)
            case "GET", ["studies", name]:
                return httpx.Response(200, json=self.studies[name])
            case "POST", ["studies", name, "trials"]:
                return self.begin(self.studies[name], body)
            case "PUT", ["studies", name, "trials", number]:
                self.studies[name]["trials"][int(number)].update(body)
                return httpx.Response(200, json={})
            case "GET", ["runs", run]:
                return httpx.Response(200, json=self.advance(self.runs[run], int(params["metrics_after"])))
            case "GET", ["runs"]:
                return httpx.Response(200, json={"items": list(self.runs.values()), "next": ""})
            case "POST", ["runs", run, "stop"]:
                self.stopped.add(run)
                return httpx.Response(200, json={})
        raise AssertionError((method, parts))

    def begin(self, study: Any, body: Any) -> httpx.Response:
        if self.fail_after is not None and len(study["trials"]) >= self.fail_after:
            raise httpx.ConnectError("the server is gone")
        assert body["number"] == len(study["trials"])
        run = {"id": f"run-{body['number']}", "state": "running", "function": study["function"], "cost": 0.5}
        run.update(parameters=body["parameters"], metrics={}, points=[], study=study["name"])
        self.runs[run["id"]] = run
        study["trials"].append({**body, "run": run["id"], "state": "running", "value": None, "points": []})
        return httpx.Response(202, json=run)

    def advance(self, run: Any, after: int) -> Any:
        if run["state"] == "running":
            if self.fails:
                run["state"] = "failed"
                run["error"] = {
                    "code": "invalid_argument",
                    "type": "ValueError",
                    "message": "ValueError: bad",
                    "stack": ["l"],
                }
            elif run["id"] in self.stopped:
                run["state"] = "stopped"
            elif len(run["points"]) == len(self.steps):
                run["state"] = "succeeded"
            else:
                step = self.steps[len(run["points"])]
                value = self.value(run["parameters"], step)
                run["metrics"] = {"auc": value}
                run["points"].append({"n": len(run["points"]) + 1, "step": step, "values": {"auc": value}})
                trial = self.studies[run["study"]]["trials"][int(run["id"][4:])]
                trial["points"].append({"n": len(run["points"]), "step": step, "value": value})
        return {**run, "points": [p for p in run["points"] if p["n"] > after]}


def close_to(parameters: Any, step: int) -> float:
    return 1.0 - abs(parameters["x"] - 0.7) + 0.001 * step


def tune(cloud: Cloud, **more: Any) -> Any:
    settings: dict[str, Any] = {"space": SPACE, "trials": 12, "parallel": 3, "maximise": "auc", "name": "s", **more}
    return cloud.tune("risk-fit", "clients@2", **settings)


def test_a_search_runs_all_trials_and_finds_the_best() -> None:
    learner = Learner(close_to)
    notes: list[tuple[str, int, int]] = []
    study = tune(learner.cloud(), progress=lambda note, done, total: notes.append((note, done, total)))
    assert len(study.trials) == 12
    values = [t.value for t in study.trials if t.state == "succeeded"]
    assert study.best.value == max(values)
    assert {t.state for t in study.trials} <= {"succeeded", "pruned"}
    assert notes[-1][1:] == (12, 12)
    assert f"best auc {study.best.value:.4f}" in notes[-1][0]


def test_unpromising_trials_are_stopped_on_the_server() -> None:
    learner = Learner(close_to)
    study = tune(learner.cloud(), trials=20)
    pruned = [t for t in study.trials if t.state == "pruned"]
    assert pruned
    assert {t.run for t in pruned} <= learner.stopped
    assert all(abs(t.parameters["x"] - 0.7) >= abs(study.best.parameters["x"] - 0.7) for t in pruned)


def test_without_a_pruner_nothing_is_stopped() -> None:
    learner = Learner(close_to)
    study = tune(learner.cloud(), pruner="none")
    assert not learner.stopped
    assert all(t.state == "succeeded" for t in study.trials)


def test_minimise() -> None:
    learner = Learner(lambda p, step: abs(p["x"] - 0.2))
    study = tune(learner.cloud(), maximise=None, minimise="auc", pruner="none")
    assert study.best.value == min(t.value for t in study.trials)


def test_a_study_goes_on_where_the_server_broke_off() -> None:
    learner = Learner(close_to)
    learner.fail_after = 5
    with pytest.raises(errors.Unavailable):
        tune(learner.cloud())
    assert len(learner.studies["s"]["trials"]) == 5
    left_running = [t["run"] for t in learner.studies["s"]["trials"] if t["state"] == "running"]
    assert left_running
    learner.fail_after = None
    study = tune(learner.cloud())  # a new client
    assert [t.number for t in study.trials] == list(range(12))
    assert not [t for t in study.trials if t.state == "running"]
    assert len({json.dumps(t.parameters) for t in study.trials}) == 12


def test_a_finished_study_is_not_run_again() -> None:
    learner = Learner(close_to)
    first = tune(learner.cloud())
    learner.fail_after = 0
    assert tune(learner.cloud()).trials == first.trials


def test_other_settings_under_the_same_name_are_a_conflict() -> None:
    learner = Learner(close_to)
    tune(learner.cloud())
    with pytest.raises(errors.Conflict):
        tune(learner.cloud(), space={"x": uniform(0, 2)})


def test_the_name_follows_from_the_settings() -> None:
    learner = Learner(close_to)
    first = tune(learner.cloud(), name="", trials=3)
    assert tune(learner.cloud(), name="", trials=3).name == first.name
    assert tune(learner.cloud(), name="", trials=3, space={"x": uniform(0, 1)}).name != first.name
    assert len(learner.studies) == 2


def test_no_trial_is_begun_beyond_the_cost() -> None:
    learner = Learner(close_to)
    study = tune(learner.cloud(), trials=50, parallel=1, max_cost=1.5)
    assert len(study.trials) == 3
    assert len(tune(learner.cloud(), trials=50, parallel=1, max_cost=1.5).trials) == 3  # what was spent counts


def test_a_function_that_always_fails_ends_the_search_with_its_error() -> None:
    learner = Learner(close_to, fails=True)
    with pytest.raises(errors.FunctionError, match="ValueError: bad") as caught:
        tune(learner.cloud())
    assert "All 3 trials so far failed" in caught.value.hint
    assert len(learner.studies["s"]["trials"]) <= 6


def test_a_metric_that_is_never_logged_is_named() -> None:
    learner = Learner(close_to)
    with pytest.raises(errors.InvalidArgument, match="without logging 'loss'; it logged \\['auc'\\]"):
        tune(learner.cloud(), maximise="loss", trials=2)


def test_exactly_one_of_maximise_and_minimise() -> None:
    for more in ({"maximise": None}, {"minimise": "auc"}):
        with pytest.raises(errors.InvalidArgument, match="either"):
            tune(Learner(close_to).cloud(), **more)


def test_spaces_that_are_none() -> None:
    for make in (
        lambda: uniform(1, 1),
        lambda: loguniform(0, 1),
        lambda: integer(3, 2),
        lambda: choice([]),
        lambda: choice([[1]]),
    ):
        with pytest.raises(errors.InvalidArgument):
            make()
    with pytest.raises(errors.InvalidArgument, match="empty"):
        space_json({})
    with pytest.raises(errors.InvalidArgument, match="'x'"):
        space_json({"x": (0, 1)})  # type: ignore[dict-item]


def test_a_restored_search_does_not_repeat_itself() -> None:
    def search(trials: list[Any]) -> Search:
        return Search({"x": uniform(0, 1)}, maximise=True, pruner=pruner_json("asha"), trials=trials)

    first = search([])
    number, parameters = first.ask()
    stored = [{"number": number, "parameters": parameters, "state": "succeeded", "value": 0.5, "points": []}]
    number, other = search(stored).ask()
    assert number == 1
    assert other != parameters


def test_a_restored_running_trial_can_be_told() -> None:
    stored = [
        {
            "number": 0,
            "parameters": {"x": 0.5},
            "state": "running",
            "value": None,
            "points": [{"step": 1, "value": 0.3}],
        }
    ]
    search = Search({"x": uniform(0, 1)}, maximise=True, pruner=pruner_json("asha"), trials=stored)
    assert search.report(0, 1, 0.3) is False  # seen before
    search.report(0, 3, 0.4)
    search.tell(0, "succeeded", 0.4)
    assert search.ask()[0] == 1
