"""The deciding half of a study: Optuna proposes parameters and says which trials look unpromising. No network here.

Everything it knows can be rebuilt from the trials that the server keeps, so a study survives the restart of either.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sundog.errors import InvalidArgument
from sundog.spaces import Range
from sundog.transport import Json

if TYPE_CHECKING:
    import optuna

Pruner = Literal["asha", "hyperband", "none"]


def pruner_json(pruner: Pruner) -> Json:
    """A pruner's settings as a study keeps them.

    Raises:
        InvalidArgument: There is no such pruner.
    """
    if pruner == "asha":
        return {"type": "asha", "min_resource": 1, "reduction_factor": 3}
    if pruner == "hyperband":
        return {"type": "hyperband", "min_resource": 1, "reduction_factor": 3}
    if pruner == "none":
        return {"type": "none"}
    raise InvalidArgument(f"There is no pruner {pruner!r}.", 'Choose "asha", "hyperband" or "none".')


def _pruner(settings: Mapping[str, Any]) -> optuna.pruners.BasePruner:
    import optuna

    least, factor = int(settings.get("min_resource", 1)), int(settings.get("reduction_factor", 3))
    if settings.get("type") == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=factor)
    if settings.get("type") == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=least, reduction_factor=factor)
    return optuna.pruners.NopPruner()


class Search:
    """An Optuna study by ask and tell. One thread only.

    Args:
        space: The parameters' ranges.
        maximise: Whether more is better.
        pruner: As `pruner_json` gives it.
        trials: What the server already has of this study, as it describes them.
        startup: How many trials are drawn at random before the sampler learns.
        seed: Makes the proposals repeatable.
    """

    def __init__(
        self,
        space: Mapping[str, Range],
        *,
        maximise: bool,
        pruner: Mapping[str, Any],
        trials: Sequence[Json] = (),
        startup: int = 6,
        seed: int = 1,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna = optuna
        self._distributions = {name: values.distribution() for name, values in space.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant_liar is marked experimental
            # A resumed search must not draw the first search's random numbers again.
            sampler = optuna.samplers.TPESampler(
                seed=(seed * 1_000_003 + len(trials)) % 2**32, n_startup_trials=startup, constant_liar=True
            )
        self._study = optuna.create_study(
            direction="maximize" if maximise else "minimize", sampler=sampler, pruner=_pruner(pruner)
        )
        self._trials: dict[int, optuna.Trial] = {}
        self._steps: dict[int, set[int]] = {}
        self._next = 0
        for trial in sorted(trials, key=lambda t: int(t["number"])):
            self._restore(trial)

    def ask(self) -> tuple[int, dict[str, Any]]:
        """The next trial's number and parameters."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self._study.ask(self._distributions)
        number = self._next
        self._next += 1
        self._trials[number] = trial
        return number, dict(trial.params)

    def report(self, number: int, step: int, value: float) -> bool:
        """Takes note of a running trial's metric; True if the trial should be stopped."""
        seen = self._steps.setdefault(number, set())
        if step in seen:  # a run resumed from a checkpoint repeats steps
            return False
        seen.add(step)
        trial = self._trials[number]
        trial.report(value, step)
        return trial.should_prune()

    def tell(self, number: int, state: str, value: float | None) -> None:
        """How a trial ended: state "succeeded" with its value, "pruned", or "failed"."""
        trial = self._trials[number]
        states = self._optuna.trial.TrialState
        if state == "succeeded" and value is not None:
            self._study.tell(trial, value)
        elif state == "pruned" and self._steps.get(number):
            self._study.tell(trial, state=states.PRUNED)
        else:
            self._study.tell(trial, state=states.FAIL)

    def _restore(self, trial: Json) -> None:
        optuna = self._optuna
        number = int(trial["number"])
        states = optuna.trial.TrialState
        points = {
            int(p.get("step") or 0): float(p["value"]) for p in trial.get("points") or () if p["value"] is not None
        }
        value = trial.get("value")
        state = {"succeeded": states.COMPLETE, "pruned": states.PRUNED, "running": states.RUNNING}.get(
            trial["state"], states.FAIL
        )
        if state == states.COMPLETE and value is None:
            state = states.FAIL
        if state == states.PRUNED and not points:
            state = states.FAIL
        frozen = optuna.trial.create_trial(
            state=state,
            value=float(value) if state == states.COMPLETE else None,
            params=dict(trial["parameters"]),
            distributions=self._distributions,
            intermediate_values=points,
        )
        self._study.add_trial(frozen)
        stored = self._study.get_trials(deepcopy=False)[-1]
        self._trials[number] = optuna.Trial(self._study, stored._trial_id)
        self._steps[number] = set(points)
        self._next = max(self._next, number + 1)
