"""`sundog demo`: the risk-assessment example, live, on a server of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sundog.bill import Bill, money
from sundog.errors import NotFound

if TYPE_CHECKING:
    from rich.console import Console

    from sundog.cloud import Cloud
    from sundog.launch import LocalServer

MODULE = "risk_assessment"
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def example_folder() -> Path:
    """Where the example lies: in the installed package, or in the checkout.

    Raises:
        NotFound: In neither.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "examples" / "risk-assessment", package.parent.parent / "examples" / "risk-assessment"):
        if (folder / "risk.py").is_file():
            return folder
    raise NotFound("The example risk-assessment is not installed.", "Install the package with: pip install .")


def load_example() -> Any:
    """The example's module."""
    spec = importlib.util.spec_from_file_location(MODULE, example_folder() / "risk.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    spec.loader.exec_module(module)
    return module


@dataclass
class StepRecord:
    """One step of the demo. `cost` in the price plan's currency."""

    title: str
    seconds: float = 0.0
    cost: float = 0.0
    result: str = ""


class _Step:
    """The running step, as the example sees it."""

    def __init__(self, record: StepRecord, show: Callable[[str], None]) -> None:
        self._record = record
        self._show = show

    def __call__(self, note: str, done: int, total: int) -> None:
        self._show(f"{note} {100 * done // total} %" if total and done < total else note)

    def result(self, text: str) -> None:
        self._record.result = text


@dataclass
class View:
    """Shows steps as they go: a live line on a terminal, one plain line each elsewhere, nothing with `quiet`."""

    console: Console
    quiet: bool = False
    cost: Callable[[], float] = field(default=lambda: 0.0)
    records: list[StepRecord] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[_Step]:
        record = StepRecord(title)
        start, before = time.monotonic(), self.cost()
        with contextlib.ExitStack() as stack:
            show = self._live(title, stack)
            yield _Step(record, show)
            record.seconds = time.monotonic() - start
            record.cost = max(0.0, self.cost() - before)
        self.records.append(record)
        if not self.quiet:
            cost = money(record.cost) if record.cost else ""
            self._print(
                f"[green]✓[/green] {title:<42} {record.seconds:7.2f} s  {cost:<13} [dim]{_plain(record.result)}[/dim]"
            )

    def say(self, text: str, style: str = "") -> None:
        if not self.quiet:
            self._print(f"[{style}]{_plain(text)}[/{style}]" if style else _plain(text))

    def _print(self, markup: str) -> None:
        self.console.print(markup, soft_wrap=True, highlight=False)

    def _live(self, title: str, stack: contextlib.ExitStack) -> Callable[[str], None]:
        if self.quiet or not self.console.is_terminal:
            return lambda text: None
        status = stack.enter_context(self.console.status(title))
        return lambda text: status.update(f"{title}  [dim]{_plain(text)[:80]}[/dim]")


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def run_demo(*, cloud: Cloud | None = None, keep: bool = False, as_json: bool = False) -> dict[str, Any]:
    """Runs the demo and gives what it measured.

    Args:
        cloud: A server to use; None: one is started in a temporary folder.
        keep: Leave the started server running.
        as_json: Print the measurements only.
    """
    from rich.console import Console

    from sundog.cloud import connect
    from sundog.launch import LocalServer

    view = View(Console(highlight=False), quiet=as_json)
    server: LocalServer | None = None
    folder: Path | None = None
    finished = False
    for number in ENDS:
        signal.signal(number, _interrupted)
    try:
        if cloud is None:
            with view.step("Start a server") as report:
                folder = Path(tempfile.mkdtemp(prefix="sundog-demo-"))
                server = LocalServer(folder / "data", outlives_us=keep)
                token = server.wait_ready()
                cloud = connect(server.url, token)
                report.result(server.url)
        else:
            token = ""
        measured = _show(cloud, view, token)
        finished = True
    finally:
        if not (keep and finished):
            _end(view, server, folder)
    if keep and server is not None:
        measured["server"] = {"url": server.url, "pid": server.process.pid, "data": str(server.data)}
        view.say(f"\nThe server goes on at {server.url} (process {server.process.pid}).", "bold")
        view.say(f"Talk to it:  export SUNDOG_DATA={server.data}; sundog fleet --watch")
        view.say(f"End it:      kill {server.process.pid}")
    if as_json:
        print(json.dumps(measured, indent=2, ensure_ascii=False))
    return measured


def _interrupted(number: int, _frame: Any) -> None:
    raise SystemExit(128 + number)


def _end(view: View, server: LocalServer | None, folder: Path | None) -> None:
    """Leaves nothing: no process, no file; a second Ctrl-C does not keep it from that."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDS}
    try:
        view.cost = lambda: 0.0
        with view.step("End the server, remove its folder"):
            if server is not None:
                server.stop()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(cloud: Cloud, view: View, token: str) -> dict[str, Any]:
    view.cost = lambda: cloud.bill().total
    found = load_example().assess(cloud, view.step)
    predictions = _predict_with_curl(cloud, view, token, found.clients)
    decisions = _decide(view, found)
    left, zero = _to_zero(cloud, view)
    first, warm = _back_from_zero(view, found)
    bill = cloud.bill()
    view.say("")
    view.say(str(bill))
    environment = sum(r.seconds for r in view.records if r.title.startswith("Build the environment"))
    total = sum(r.seconds for r in view.records)
    view.say(f"\nIn all {total - environment:.1f} s, and {environment:.1f} s for the environment.", "bold")
    return {
        "seconds": round(total - environment, 2),
        "environment_seconds": round(environment, 2),
        "steps": [vars(record) for record in view.records],
        "valid_auc": found.valid_auc,
        "test_auc": found.test_auc,
        "chosen": found.chosen,
        "predictions": predictions,
        "decisions": decisions,
        "seconds_to_zero": zero,
        "instances_left": left,
        "first_call_from_zero_ms": first,
        "warm_call_ms": warm,
        "bill": bill.json,
        "always_on_factor": _factor(bill),
    }


def _factor(bill: Bill) -> float | None:
    return round(bill.always_on / bill.total, 1) if bill.total > 0 else None


def _predict_with_curl(cloud: Cloud, view: View, token: str, clients: list[dict[str, Any]]) -> Any:
    """Shows the curl command for two clients, and runs it where curl is."""
    body = json.dumps({"rows": clients})
    address = f"{cloud.url}/v1/models/risk/predict"
    shown = body if len(body) < 200 else body[:160] + " …"
    view.say(f"\ncurl {address} -H \"Authorization: Bearer $SUNDOG_KEY\" -d '{shown}'", "cyan")
    if token and shutil.which("curl"):
        # The token goes by stdin: a command line can be read by every user of the machine.
        configuration = f'header = "Authorization: Bearer {token}"\n'
        command = [
            "curl",
            "-sS",
            "--noproxy",
            "*",
            "--max-time",
            "60",
            "-K",
            "-",
            "-H",
            "Content-Type: application/json",
        ]
        done = subprocess.run(
            [*command, "-d", body, address], input=configuration, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            view.say(done.stdout.strip())
            return json.loads(done.stdout).get("rows")
        view.say(done.stderr.strip(), "red")
    answer = list(cloud.models.predict("risk", clients))
    view.say(json.dumps(answer))
    return answer


def _decide(view: View, found: Any) -> list[Any]:
    decisions = [found.decide.remote(client) for client in found.clients]
    for decision in decisions:
        view.say(f"\n{decision['decision'].capitalize()}: score {decision['score']:.2f}", "bold")
        for reason in decision["reasons"]:
            value = f" = {reason['value'][0]:g}" if len(reason["value"]) == 1 else ""
            view.say(f"    {reason['feature']}{value} moved it by {reason['effect']:+.3f}")
    view.say("")
    return decisions


def _to_zero(cloud: Cloud, view: View, timeout: float = 30.0) -> tuple[int, float]:
    """Waits until no instance runs; how many still do, and the seconds waited."""
    with view.step("Do nothing until the fleet is at zero") as report:
        start = time.monotonic()
        while True:
            # A parked instance runs nothing and costs its tenant nothing.
            count = sum(one["state"] != "parked" for one in cloud.fleet().get("instances") or ())
            waited = time.monotonic() - start
            if count == 0 or waited > timeout:
                break
            report(f"{count} instances", 0, 0)
            time.sleep(0.1)
        report.result(f"{count} instances" + ("; nothing runs, nothing costs" if not count else " still run"))
    return count, round(waited, 2)


def _back_from_zero(view: View, found: Any) -> tuple[float, float]:
    """The milliseconds of a first call, and of the best of ten more."""
    with view.step("First call from zero") as report:
        first = _milliseconds(lambda: found.endpoint.predict(found.clients[:1]))
        warm = min(_milliseconds(lambda: found.endpoint.predict(found.clients[:1])) for _ in range(10))
        report.result(f"{first:.1f} ms; warm {warm:.1f} ms")
    return round(first, 2), round(warm, 2)


def _milliseconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000
