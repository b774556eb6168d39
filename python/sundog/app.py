"""Apps, environments and the decorators that mark what an app deploys.

    app = sundog.App("risk")
    env = sundog.Environment("scikit-learn==1.9.1", "pandas")

    @app.function(memory=256)
    def add(a, b): ...

    @app.training(environment=env, memory=512, timeout=300)
    def fit(run, data, *, learning_rate: float = 0.1): ...

    @app.model(environment=env)
    class Decision: ...

A decorated function is still an ordinary one: calling it runs it here. `add.remote(1, 2)` runs it on the server.
"""

from __future__ import annotations

import copy
import functools
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, overload

from sundog.errors import InvalidArgument

if TYPE_CHECKING:
    from sundog.cloud import Cloud
    from sundog.functions import DeployedFunction

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Network = Literal["none", "egress", "host"]
Kind = Literal["function", "training"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class Environment:
    """A set of Python packages that functions import; resolved and built once by the server, shared by all.

    Args:
        packages: Requirements as pip takes them, e.g. "scikit-learn==1.9.1".
        python: The Python's version, e.g. "3.11"; None: this one's (a function that is sent as a pickle needs the same).
    """

    def __init__(self, *packages: str, python: str | None = None) -> None:
        for package in packages:
            if not isinstance(package, str) or not package.strip():
                raise InvalidArgument(f"{package!r} is no requirement.", 'Give them as text: Environment("pandas>=2").')
        self.packages = tuple(sorted({package.strip() for package in packages}))
        self.python = python or this_python()

    def __repr__(self) -> str:
        return (
            f"Environment({', '.join(map(repr, self.packages))}{', ' if self.packages else ''}python={self.python!r})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Environment) and (self.packages, self.python) == (other.packages, other.python)

    def __hash__(self) -> int:
        return hash((self.packages, self.python))

    def with_packages(self, *packages: str) -> Environment:
        """This and more; a package that is already named keeps its own requirement."""
        have = {requirement_name(p) for p in self.packages}
        return Environment(
            *self.packages, *(p for p in packages if requirement_name(p) not in have), python=self.python
        )


def this_python() -> str:
    """The running Python's version: "3.11"."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def requirement_name(requirement: str) -> str:
    """ "scikit-learn[x]==1.9" → "scikit-learn"."""
    return re.split(r"[\s\[<>=!~;@]", requirement.strip(), maxsplit=1)[0].lower().replace("_", "-")


@dataclass(frozen=True)
class Settings:
    """How a function runs. `memory` in MB (128–10,240), `timeout` in seconds (1–900)."""

    memory: int = 128
    timeout: int = 30
    environment: Environment | None = None
    network: Network = "none"
    variables: Mapping[str, str] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    description: str = ""
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 128 <= self.memory <= 10_240:
            raise InvalidArgument(f"memory={self.memory} is outside 128 to 10,240 MB.")
        if not 1 <= self.timeout <= 900:
            raise InvalidArgument(f"timeout={self.timeout} is outside 1 to 900 s.")
        if self.network not in ("none", "egress", "host"):
            raise InvalidArgument(f"network={self.network!r} is none of none, egress, host.")
        if self.network == "egress" and not self.allow:
            hint = 'Give it: allow=["api.example.com:443", "*.example.org"].'
            raise InvalidArgument('network="egress" needs a list of what may be reached.', hint)
        if self.network != "egress" and self.allow:
            hint = 'Add network="egress", or leave allow out.'
            raise InvalidArgument(f"allow={list(self.allow)} is for network='egress', not {self.network!r}.", hint)
        for entry in self.allow:
            if "," in entry or not entry.strip():
                raise InvalidArgument(f"allow has {entry!r}: one host, address or block for each entry.")


class Function(Generic[P, R]):
    """A function that an app deploys. Calling it runs it here; `remote` and `map` run it on the server."""

    def __init__(
        self, app: App, name: str, call: Callable[P, R], kind: Kind, settings: Settings, is_handler: bool = False
    ) -> None:
        self.app = app
        self.name = check_name(f"{app.name}-{name}")
        self.call = call
        self.kind = kind
        self.settings = settings
        self.is_handler = is_handler
        functools.update_wrapper(self, call)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.call(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<sundog {self.kind} {self.name!r}, {self.settings.memory} MB, {self.settings.timeout} s>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Code that runs in an instance meets the plain function: the SDK is not there.
        return copy.copy, (self.call,)

    def deploy(self, cloud: Cloud | None = None) -> DeployedFunction:
        """Sends it to the server (the connected one, unless given) and waits until it is active."""
        return _cloud(cloud).functions.deploy(self)

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Runs it on the server, deployed first if need be; gives what it returns, as JSON carries it."""
        return self.deploy().remote(*args, **kwargs)

    def map(self, arguments: Iterable[Any], *, parallel: int = 8) -> list[Any]:
        """Runs it on the server once for each item (a tuple: several arguments); results in the same order."""
        return list(self.deploy().map(arguments, parallel=parallel))


class App:
    """A name that groups functions: function `f` of app `risk` is deployed as `risk-f`."""

    def __init__(self, name: str) -> None:
        self.name = check_name(name)
        self.functions: dict[str, Function[..., Any]] = {}
        self.models: dict[str, type] = {}

    def __repr__(self) -> str:
        return f"App({self.name!r}, functions={sorted(self.functions)})"

    @overload
    def function(self, call: Callable[P, R], /) -> Function[P, R]: ...
    @overload
    def function(
        self,
        *,
        memory: int = ...,
        timeout: int = ...,
        environment: Environment | Sequence[str] | None = ...,
        network: Network = ...,
        allow: Sequence[str] = ...,
        variables: Mapping[str, str] | None = ...,
        include: Sequence[str] = ...,
        name: str | None = ...,
        handler: bool = ...,
    ) -> Callable[[Callable[P, R]], Function[P, R]]: ...
    def function(  # type: ignore[misc]  # mypy does not bind P and R of a returned decorator
        self,
        call: Any = None,
        /,
        *,
        memory: int = 128,
        timeout: int = 30,
        environment: Environment | Sequence[str] | None = None,
        network: Network = "none",
        allow: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        include: Sequence[str] = (),
        name: str | None = None,
        handler: bool = False,
    ) -> Any:
        """Marks a function to deploy.

        Args:
            memory: MB, 128 to 10,240. The share of CPU is in proportion.
            timeout: Seconds, 1 to 900.
            environment: The packages it imports.
            network: "none"; "egress": what `allow` names, through a proxy that the environment variables tell of; or
                "host" (for the operator's admins).
            allow: With "egress": `host[:port]`, `*.host[:port]` (names below it) or addresses; without a port 443 and 80.
            variables: Environment variables.
            include: Local modules, files or folders that it imports; they travel along.
            name: Its name within the app, when other than its own.
            handler: It is a Lambda handler `(event, context)` and gets the payload as it is.
        """
        settings = _settings(memory, timeout, environment, network, variables, include, allow)

        def mark(call: Callable[..., Any]) -> Function[..., Any]:
            return self._add(call, "function", settings, name, handler)

        return mark(call) if call is not None else mark

    def handler(
        self,
        *,
        memory: int = 128,
        timeout: int = 30,
        environment: Environment | Sequence[str] | None = None,
        network: Network = "none",
        allow: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        include: Sequence[str] = (),
        name: str | None = None,
    ) -> Callable[[Callable[P, R]], Function[P, R]]:
        """Marks a Lambda handler `(event, context)`; the same as `function(handler=True, …)`."""
        settings = _settings(memory, timeout, environment, network, variables, include, allow)
        return lambda call: self._add(call, "function", settings, name, True)

    def training(
        self,
        *,
        memory: int = 512,
        timeout: int = 900,
        environment: Environment | Sequence[str] | None = None,
        network: Network = "none",
        allow: Sequence[str] = (),
        include: Sequence[str] = (),
        name: str | None = None,
    ) -> Callable[[Callable[P, R]], Function[P, R]]:
        """Marks a training function `fit(run, data, *, parameter=default, …)` that returns a fitted model.

        `run` logs metrics and keeps checkpoints (`run.log(auc=0.78)`), `data` is the dataset version
        (`data.split("train").xy()` gives a frame of n rows × the feature columns, and the n labels). pyarrow, pandas and
        cloudpickle are added to the environment, and skops when scikit-learn is in it.
        """
        settings = _settings(memory, timeout, environment or Environment(), network, None, include, allow)
        return lambda call: self._add(call, "training", settings, name, False)

    def model(self, *, environment: Environment | Sequence[str] | None = None) -> Callable[[type[T]], type[T]]:
        """Marks a class whose instances can be registered as models: custom code around other models.

        The class has `predict(self, rows)`, where `rows` is a pandas frame of n rows with the columns of the signature; it
        returns n values, or a frame of n rows with the output columns.
        """
        env = _environment(environment) or Environment()

        def mark(cls: type[T]) -> type[T]:
            if not callable(getattr(cls, "predict", None)):
                raise InvalidArgument(f"Class {cls.__name__} has no method predict(self, rows).")
            cls.__sundog_environment__ = env  # type: ignore[attr-defined]
            self.models[cls.__name__] = cls
            return cls

        return mark

    def deploy(self, cloud: Cloud | None = None) -> list[DeployedFunction]:
        """Deploys every function of the app; what has not changed is left alone."""
        return [_cloud(cloud).functions.deploy(function) for function in self.functions.values()]

    def _add(
        self, call: Callable[P, R], kind: Kind, settings: Settings, name: str | None, is_handler: bool
    ) -> Function[P, R]:
        if isinstance(call, Function):
            raise InvalidArgument(f"{call.name} is decorated twice.")
        function = Function(self, name or call.__name__, call, kind, settings, is_handler)
        self.functions[function.name] = function
        return function


def check_name(name: str) -> str:
    """The name, if it can be one of a function (Lambda's rule).

    Raises:
        InvalidArgument: It cannot.
    """
    if not _NAME.match(name):
        raise InvalidArgument(f"{name!r} is no name of a function.", "Use 1 to 64 letters, digits, - and _.")
    return name


def _environment(given: Environment | Sequence[str] | None) -> Environment | None:
    if given is None or isinstance(given, Environment):
        return given
    return Environment(*([given] if isinstance(given, str) else given))


def _settings(
    memory: int,
    timeout: int,
    environment: Environment | Sequence[str] | None,
    network: Network,
    variables: Mapping[str, str] | None,
    include: Sequence[str],
    allow: Sequence[str],
) -> Settings:
    entries = (allow,) if isinstance(allow, str) else tuple(allow)
    return Settings(
        memory, timeout, _environment(environment), network, dict(variables or {}), tuple(include), allow=entries
    )


def _cloud(given: Cloud | None) -> Cloud:
    if given is not None:
        return given
    from sundog.cloud import current

    return current()
