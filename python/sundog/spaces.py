"""Search spaces: what a study may choose a parameter from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sundog.errors import InvalidArgument
from sundog.transport import Json

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Uniform:
    """A real number between `low` and `high`; with `log`, as likely in each factor of ten."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise InvalidArgument(f"{self.low:g} to {self.high:g} is no {'logarithmic ' if self.log else ''}range.")

    def json(self) -> Json:
        return {"type": "loguniform" if self.log else "uniform", "low": self.low, "high": self.high}

    def distribution(self) -> optuna.distributions.BaseDistribution:
        import optuna

        return optuna.distributions.FloatDistribution(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Integer:
    """A whole number between `low` and `high`, both included."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high or (self.log and self.low < 1):
            raise InvalidArgument(f"{self.low} to {self.high} is no {'logarithmic ' if self.log else ''}range.")

    def json(self) -> Json:
        return {"type": "integer", "low": self.low, "high": self.high, "log": self.log}

    def distribution(self) -> optuna.distributions.BaseDistribution:
        import optuna

        return optuna.distributions.IntDistribution(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """One of some values: numbers, texts, booleans or None."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values or not all(v is None or isinstance(v, str | int | float | bool) for v in self.values):
            raise InvalidArgument(f"{list(self.values)} is no choice.", "Give numbers, texts, booleans or None.")

    def json(self) -> Json:
        return {"type": "choice", "values": list(self.values)}

    def distribution(self) -> optuna.distributions.BaseDistribution:
        import optuna

        return optuna.distributions.CategoricalDistribution(self.values)


Range = Uniform | Integer | Choice


def uniform(low: float, high: float) -> Uniform:
    """A real number between `low` and `high`."""
    return Uniform(float(low), float(high))


def loguniform(low: float, high: float) -> Uniform:
    """A real number between `low` and `high`, as likely in each factor of ten: 0.01 to 0.1 as often as 0.1 to 1."""
    return Uniform(float(low), float(high), log=True)


def integer(low: int, high: int, *, log: bool = False) -> Integer:
    """A whole number between `low` and `high`, both included."""
    return Integer(int(low), int(high), log)


def choice(values: Sequence[Any]) -> Choice:
    """One of `values`."""
    return Choice(tuple(values))


def space_json(space: Mapping[str, Range]) -> Json:
    """The space as a study keeps it.

    Raises:
        InvalidArgument: It is empty, or a parameter has no range.
    """
    if not space:
        raise InvalidArgument(
            "The search space is empty.", 'For example: space={"learning_rate": loguniform(0.01, 0.5)}.'
        )
    for name, values in space.items():
        if not isinstance(values, Uniform | Integer | Choice):
            raise InvalidArgument(
                f"Parameter {name!r} has {values!r}, which is no range.", "Use uniform, loguniform, integer or choice."
            )
    return {name: values.json() for name, values in space.items()}
