"""Connecting to a server: `cloud = sundog.connect()`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sundog.app import Environment, Function
from sundog.bill import Bill, bill_request, parse_bill, verify_request
from sundog.budgets import Budgets
from sundog.datasets import Datasets, DatasetVersion
from sundog.environments import BuiltEnvironment, Environments
from sundog.errors import InvalidArgument, Unauthenticated
from sundog.functions import DeployedFunction, Functions, function_name
from sundog.invoice import Invoice, invoice_request, parse_invoice
from sundog.jobs import Jobs, Progress
from sundog.keys import Keys
from sundog.models import Models
from sundog.packaging import package_function
from sundog.runs import Run, Runs
from sundog.search import Pruner
from sundog.spaces import Range
from sundog.studies import Plan, Studies, Study
from sundog.tables import html_table
from sundog.transport import Json, Request, Transport

if TYPE_CHECKING:
    import httpx

DEFAULT_URL = "http://127.0.0.1:9000"
_current: list[Cloud] = []


def data_folder() -> Path:
    """The server's data folder of this user: $SUNDOG_DATA, else ~/.local/share/sundog."""
    given = os.environ.get("SUNDOG_DATA")
    return Path(given) if given else Path.home() / ".local" / "share" / "sundog"


def find_server(
    url: str | None = None, key: str | None = None, data: Path | None = None, variables: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """The address and key to use: those given, else $SUNDOG_URL and $SUNDOG_KEY, else the local server's own file.

    A server on this machine leaves `client.json` in its data folder: {"id","token","secret","url"}. Its key is used
    for its own address only.
    """
    environment = os.environ if variables is None else variables
    url = url or environment.get("SUNDOG_URL") or None
    key = key or environment.get("SUNDOG_KEY") or None
    local = _client_file(data or data_folder())
    local_url = str(local.get("url") or "")
    if url is None:
        url = local_url or DEFAULT_URL
    if key is None and local and url.rstrip("/") == (local_url or DEFAULT_URL).rstrip("/"):
        key = str(local.get("token") or "")
    return url, key or ""


def _client_file(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "client.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def connect(
    url: str | None = None,
    key: str | None = None,
    *,
    data: str | Path | None = None,
    http: httpx.BaseTransport | None = None,
) -> Cloud:
    """Connects to a server and checks that it answers.

    Args:
        url: Where it answers; None: $SUNDOG_URL, else the server of this machine.
        key: The token ("sk-…"); None: $SUNDOG_KEY, else the local server's own key.
        data: The local server's data folder, if it is not the usual one.
        http: Replaces the network (tests).

    Raises:
        Unavailable: No server answers there; the hint says how to start one.
        Unauthenticated: The key is missing, wrong or revoked.
    """
    url, key = find_server(url, key, Path(data) if data else None)
    if not url.startswith(("http://", "https://")):
        raise InvalidArgument(f"{url!r} is no address of a server.", f"It looks like {DEFAULT_URL}.")
    cloud = Cloud(Transport(url, key, http=http))
    try:
        cloud.status()
    except Unauthenticated as error:
        if not key:
            error.hint = "Set SUNDOG_KEY, or pass key=. An admin makes keys with: sundog keys create"
        raise
    _current[:] = [cloud]
    return cloud


def current() -> Cloud:
    """The connection made last; the first call connects to the usual server."""
    return _current[0] if _current else connect()


class Cloud:
    """A server, seen through one key. Its nouns: datasets, functions, environments, runs, studies, models, jobs, keys, budgets."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    @property
    def url(self) -> str:
        return self.transport.url

    def __repr__(self) -> str:
        return f"<sundog server at {self.url}>"

    def _repr_html_(self) -> str:
        return html_table(["server", ""], [[k, str(v)] for k, v in {"url": self.url, **self.status()}.items()])

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(self.transport)

    @cached_property
    def datasets(self) -> Datasets:
        return Datasets(self.transport, self.jobs)

    @cached_property
    def environments(self) -> Environments:
        return Environments(self.transport)

    @cached_property
    def functions(self) -> Functions:
        return Functions(self.transport, self.environments)

    @cached_property
    def runs(self) -> Runs:
        return Runs(self.transport)

    @cached_property
    def studies(self) -> Studies:
        return Studies(self.transport, self.runs)

    @cached_property
    def models(self) -> Models:
        return Models(self.transport, self.jobs, self.environments, self.datasets)

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.transport)

    @cached_property
    def budgets(self) -> Budgets:
        return Budgets(self.transport)

    def status(self) -> Json:
        """{"version","data_folder","uptime_s","tenant","role","pythons"}."""
        return self.transport.call(Request("GET", "/v1/status", timeout=10.0))

    def doctor(self) -> list[Json]:
        """What the server's machine can seal, and what is lost without: {"check","ok","detail","without"} each."""
        return list(self.transport.call(Request("GET", "/v1/doctor"))["checks"])

    def fleet(self) -> Json:
        """What runs now: {"instances","templates","queued","memory_bytes","parked_bytes","template_bytes","budget_bytes"}."""
        return self.transport.call(Request("GET", "/v1/fleet"))

    def bill(
        self,
        start: str | None = None,
        end: str | None = None,
        by: Sequence[str] = ("function", "kind"),
        *,
        tenant: str = "",
    ) -> Bill:
        """What was used and what it costs, from `start` (None: this month's first day) to `end` (None: now); RFC 3339, UTC.

        `tenant`: another one's, for an admin of the operator's tenant; here and below.
        """
        return parse_bill(self.transport.call(bill_request(start, end, by, tenant)))

    def operator_cost(self) -> Json:
        """What memory was held for since the server started: {"currency","plan","lines":[{"what","gb_seconds","cost","billed"}]}.

        For an admin of the operator's tenant. Only what was busy is on a tenant's bill.
        """
        return self.transport.call(Request("GET", "/v1/bill/operator"))

    def verify_bill(self, start: str | None = None, end: str | None = None, *, tenant: str = "") -> Json:
        """Whether the roll-ups are what the records add up to: {"ok","days":[{"day","state","records","duplicates","problem"}]}."""
        return self.transport.call(verify_request(start, end, tenant))

    def invoice(
        self, month: str | None = None, *, start: str | None = None, end: str | None = None, tenant: str = ""
    ) -> Invoice:
        """The invoice of a month ("2026-11"), of the span from `start` to `end`, or of this month so far."""

        def document(format: str) -> str:
            return self.transport.send(invoice_request(month, start, end, tenant, format)).content.decode()

        return parse_invoice(self.transport.call(invoice_request(month, start, end, tenant)), document)

    def ensure(self, environment: Environment, *, progress: Progress | None = None) -> BuiltEnvironment:
        """Builds an environment unless it is there."""
        return self.environments.ensure(environment, progress=progress)

    def train(
        self,
        function: Function[..., Any] | DeployedFunction | str,
        data: DatasetVersion | str,
        parameters: Mapping[str, Any] | None = None,
        *,
        name: str = "",
        wait: bool = True,
        progress: Progress | None = None,
    ) -> Run:
        """One training run, of a decorated function (deployed first) or a deployed one.

        Args:
            function: The training function.
            data: A dataset version, or its name "clients@2".
            parameters: Its keyword arguments.
            name: A name for the run.
            wait: Until it is over; else the run is returned at once (`cloud.runs.wait(run)` waits).
            progress: Told of the deployment.

        Raises:
            FunctionError: The training function raised (with `wait`).
        """
        deployed, qualifier = self._deployed(function, progress)
        run = self.runs.create(deployed, _reference(data), parameters or {}, qualifier=qualifier, name=name)
        return self.runs.wait(run) if wait else run

    def tune(
        self,
        function: Function[..., Any] | DeployedFunction | str,
        data: DatasetVersion | str,
        *,
        space: Mapping[str, Range],
        trials: int = 20,
        parallel: int = 4,
        maximise: str | None = None,
        minimise: str | None = None,
        name: str = "",
        pruner: Pruner = "asha",
        max_cost: float | None = None,
        seed: int = 1,
        progress: Progress | None = None,
    ) -> Study:
        """Searches for good parameters: trials run as parallel instances, unpromising ones are stopped early.

        The study lives on the server. The same call again goes on where an earlier one was interrupted (or gives its
        result at once); a changed function, dataset or setting begins a new study.

        Args:
            function: The training function; it logs the metric with `run.log`.
            data: A dataset version, or its name "clients@2".
            space: Parameter → uniform, loguniform, integer or choice.
            trials: How many candidates in all.
            parallel: How many at a time.
            maximise, minimise: The metric's name; exactly one of them.
            name: The study's name; "": one that follows from its settings and the function's code.
            pruner: "asha" (successive halving), "hyperband" or "none".
            max_cost: Begin no further trial at this sum, in the price plan's currency.
            seed: Makes the proposals repeatable.
            progress: Told after each trial.
        """
        if (maximise is None) == (minimise is None):
            raise InvalidArgument("Say either maximise= or minimise=.", 'For example: maximise="auc".')
        deployed, _ = self._deployed(function, progress)
        code = package_function(function).sha256_hex if isinstance(function, Function) else ""
        plan = Plan(
            function=deployed,
            dataset=_reference(data),
            space=space,
            metric=maximise or minimise or "",
            maximise=maximise is not None,
            trials=trials,
            parallel=parallel,
            pruner=pruner,
            max_cost=max_cost,
            seed=seed,
            name=name,
            code_sha256=code,
        )
        return self.studies.run(plan, progress=progress)

    def _deployed(
        self, function: Function[..., Any] | DeployedFunction | str, progress: Progress | None
    ) -> tuple[str, str]:
        if isinstance(function, Function):
            if function.kind != "training":
                raise InvalidArgument(f"{function.name} is no training function.", "Decorate it with @app.training(…).")
            return self.functions.deploy(function, progress=progress).name, ""
        return function_name(function), function.qualifier if isinstance(function, DeployedFunction) else ""


def _reference(data: DatasetVersion | str) -> str:
    return data.reference if isinstance(data, DatasetVersion) else data
