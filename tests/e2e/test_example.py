"""The example from end to end, as `sundog demo` runs it: 30,000 real clients to decisions with reasons, and a bill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import BIN, ROOT, eventually


def demo(folder: Path, *options: str) -> subprocess.Popen[str]:
    """The demo, started on a temporary folder of its own: whatever runs for it has that folder on its command line."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "python"),
        "SUNDOG_BIN_DIR": str(BIN),
        "TMPDIR": str(folder),
        "COLUMNS": "120",
    }
    environment.pop("SUNDOG_URL", None)
    command = [sys.executable, "-m", "sundog", "demo", *options]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def processes_of(folder: Path) -> list[str]:
    """The command lines of the processes that were started for a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it has ended
            if str(folder) in line:
                found.append(f"{entry.name}: {line}")
    return found


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the demo measured."""
    folder = tmp_path_factory.mktemp("demo")
    running = demo(folder, "--json")
    out, err = running.communicate(timeout=280)
    assert running.returncode == 0, err
    eventually(lambda: not processes_of(folder), within=10, what="the end of the demo's processes")
    assert list(folder.iterdir()) == [], "nothing is left behind"
    measured: dict[str, Any] = json.loads(out)
    return measured


def test_the_auc_on_clients_that_no_training_saw(shown: dict[str, Any]) -> None:
    assert shown["test_auc"] >= 0.77
    assert shown["valid_auc"]["gradient-boosted trees"] > shown["valid_auc"]["logistic regression"] > 0.7
    assert shown["chosen"] == "gradient-boosted trees"


def test_decisions_have_reasons(shown: dict[str, Any]) -> None:
    decided = {decision["decision"]: decision for decision in shown["decisions"]}
    assert set(decided) == {"proceed", "freeze until the previous bills are covered"}
    for decision in decided.values():
        freezes = decision["decision"] != "proceed"
        assert freezes == (decision["score"] >= 0.5)
        assert decision["reasons"]
        assert all((reason["effect"] > 0) == freezes for reason in decision["reasons"]), (
            "reasons speak for the decision"
        )


def test_curl_and_the_decision_give_one_score(shown: dict[str, Any]) -> None:
    for prediction, decision in zip(shown["predictions"], shown["decisions"], strict=True):
        assert round(prediction["probability"], 4) == decision["score"]


def test_the_fleet_goes_to_zero_and_comes_back(shown: dict[str, Any]) -> None:
    assert shown["instances_left"] == 0
    assert 0 < shown["first_call_from_zero_ms"] < 5000


def test_the_bill_has_every_kind(shown: dict[str, Any]) -> None:
    lines = shown["bill"]["lines"]
    assert {line["kind"] for line in lines} >= {"training", "prediction", "data", "function"}
    assert shown["bill"]["total"] == pytest.approx(sum(line["total"] for line in lines))
    assert shown["bill"]["always_on"]["total"] > 0


def test_every_step_has_its_time(shown: dict[str, Any]) -> None:
    assert len(shown["steps"]) >= 11
    assert all(step["seconds"] > 0 for step in shown["steps"])
    assert sum(step["cost"] for step in shown["steps"]) > 0


def test_a_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    running = demo(tmp_path)
    try:
        assert running.stdout is not None
        assert "Start a server" in running.stdout.readline()
        assert processes_of(tmp_path)
    finally:
        running.kill()
        running.communicate()
    eventually(lambda: not processes_of(tmp_path), within=30, what="the end of the demo's processes")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    running = demo(tmp_path)
    try:
        assert running.stdout is not None
        assert "Start a server" in running.stdout.readline()
        assert processes_of(tmp_path)
        running.send_signal(number)
        running.communicate(timeout=120)
        assert running.returncode == 128 + number
    finally:
        running.kill()
    eventually(lambda: not processes_of(tmp_path), within=10, what="the end of the demo's processes")
    assert list(tmp_path.iterdir()) == []
