"""Every noun of the command line, with --json, against the real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import BIN, ROOT, Server, eventually

HANDLER = """
def handler(event, context):
    print("asked for", event.get("n"))
    if event.get("fail"):
        raise ValueError("as asked")
    return event.get("n", 0) + 1
"""
SCRIPT = """
import sundog

app = sundog.App("cli")
env = sundog.Environment("scikit-learn==1.9.1", "pandas==3.1.1", "numpy==2.4.6")


@app.training(environment=env, memory=512, timeout=120)
def fit(run, data, *, c: float = 1.0):
    from sklearn.linear_model import LogisticRegression

    x, y = data.split("train").xy()
    model = LogisticRegression(C=c).fit(x, y)
    run.log(accuracy=float(model.score(x, y)))
    return model
"""


class Command:
    """`sundog …` of the checkout against one server."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "python"),
            "SUNDOG_BIN_DIR": str(BIN),
            "SUNDOG_URL": server.url,
            "SUNDOG_KEY": server.token,
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sundog", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=200,
            check=False,
        )

    def __call__(self, *words: str) -> Any:
        """What it prints with --json."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, f"sundog {' '.join(words)}: {done.stderr}{done.stdout}"
        return json.loads(done.stdout)

    def text(self, *words: str) -> str:
        """What a person sees."""
        done = self.run(*words)
        assert done.returncode == 0, f"sundog {' '.join(words)}: {done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def sundog(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Command:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "code").mkdir()
    (folder / "code" / "app.py").write_text(HANDLER)
    (folder / "fit.py").write_text(SCRIPT)
    rows = "".join(f"{i % 10},{(i * 7) % 13},{int(i % 10 > 4)}\n" for i in range(400))
    (folder / "table.csv").write_text("a,b,label\n" + rows + "1,2,3,4\n")
    return Command(server, folder)


def test_server_nouns(server: Server, sundog: Command) -> None:
    assert sundog("status")["url"] == server.url
    assert sundog("version")["version"]
    assert {"check", "ok", "detail", "without"} <= set(sundog("doctor")[0])
    assert {"instances", "templates"} <= set(sundog("fleet"))
    for words in (["status"], ["doctor"], ["fleet"], ["bill"]):
        assert sundog.text(*words).strip()


def test_keys(sundog: Command) -> None:
    key = sundog("keys", "create", "--role", "viewer", "--name", "for-a-test")
    assert key["token"].startswith("sk-")
    listed = {k["id"]: k for k in sundog("keys", "list")}
    assert "token" not in listed[key["id"]]
    sundog.text("keys", "revoke", key["id"])
    assert {k["id"]: k for k in sundog("keys", "list")}[key["id"]]["revoked"]


def test_functions_logs_and_dead_letters(sundog: Command) -> None:
    sundog("functions", "deploy", "code", "--name", "cli-add", "--handler", "app.handler")
    assert "cli-add" in [f["name"] for f in sundog("functions", "list")]
    assert sundog("functions", "show", "cli-add")
    assert sundog("functions", "invoke", "cli-add", '{"n": 41}') == 42
    assert "asked for 41" in sundog.text("logs", "cli-add")
    lines = sundog.run("logs", "cli-add", "--json").stdout.splitlines()  # JSON lines, since it may go on with -f
    assert any("asked for 41" in json.loads(line)["text"] for line in lines)
    failed = sundog.run("functions", "invoke", "cli-add", '{"fail": true}')
    assert failed.returncode == 1
    assert "ValueError: as asked" in failed.stderr
    assert sundog("dead-letters", "list", "cli-add") == []
    assert any(line["function"] == "cli-add" for line in sundog("bill", "--by", "function")["lines"])
    sundog.text("functions", "delete", "cli-add")
    assert sundog.run("functions", "show", "cli-add").returncode == 1


def test_from_data_to_predictions(sundog: Command) -> None:
    made = sundog("data", "create", "cli-table", "table.csv", "--label", "label")
    assert (made["rows"], made["quarantined"]) == (400, 1)
    assert "cli-table" in [d["name"] for d in sundog("data", "list")]
    assert sundog("data", "show", "cli-table")["version"] == 1
    assert len(sundog("data", "rows", "cli-table", "-n", "3")) == 3
    assert sundog("data", "quarantine", "cli-table")[0]["line"] == 402
    assert sundog("data", "profile", "cli-table")["rows"] == 400
    sundog.text("data", "profile", "cli-table", "--html", "page.html")
    assert "<svg" in (sundog.folder / "page.html").read_text()
    ready = sundog("data", "preprocess", "cli-table", "--as", "cli-ready", "--balance", "undersample")
    assert ready["lineage"]["parents"] == ["cli-table@1"]

    sundog("functions", "deploy", "fit.py:fit")
    run = sundog("runs", "start", "cli-fit", "cli-ready@1", "-p", "c=0.5")
    assert (run["state"], run["parameters"]) == ("succeeded", {"c": 0.5})
    assert sundog("runs", "show", run["id"])["metrics"]["accuracy"] > 0.9
    assert run["id"] in [r["id"] for r in sundog("runs", "list")]
    assert isinstance(sundog("studies", "list"), list)
    assert {"ingest", "profile", "preprocess"} <= {job["kind"] for job in sundog("jobs", "list")}
    assert sundog("environments", "list")

    assert sundog("models", "register", "cli-model", run["id"])["version"] == 1
    assert sundog("models", "deploy", "cli-model")["weights"] == {"1": 1.0}
    assert "cli-model" in [m["name"] for m in sundog("models", "list")]
    assert sundog("models", "show", "cli-model")
    rows = '[{"a": 9, "b": 1}, {"a": 0, "b": 1}]'
    assert [row["prediction"] for row in sundog("models", "predict", "cli-model", rows)] == [1, 0]
    assert sundog("models", "predict", "cli-model", rows) == sundog("models", "predict", "cli-model", rows, "--local")
    assert (
        sundog("models", "predict-offline", "cli-model", "cli-ready@1", "--as", "cli-scored")["rows"] == ready["rows"]
    )
    assert "cli-model" in [e["model"] for e in sundog("endpoints", "list")]
    assert sundog("endpoints", "show", "cli-model")["alias"] == "live"


def test_errors_are_one_sentence(sundog: Command) -> None:
    done = sundog.run("data", "show", "no-such-table")
    assert done.returncode == 1
    assert "no-such-table" in done.stderr
    assert "Traceback" not in done.stderr


def test_up_says_that_it_is_ready_and_drains_on_ctrl_c(sundog: Command, tmp_path: Path) -> None:
    data = tmp_path / "data"
    environment = {k: v for k, v in sundog.environment.items() if k not in ("SUNDOG_URL", "SUNDOG_KEY")}
    errors = tmp_path / "stderr"
    with errors.open("wb") as stderr:
        running = subprocess.Popen(
            [sys.executable, "-m", "sundog", "up", "--data", str(data), "--port", "0"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        eventually(lambda: "Ready on http://127.0.0.1:" in errors.read_text(), within=30, what="the ready line")
        status = subprocess.run(
            [sys.executable, "-m", "sundog", "status", "--json"],
            env={**environment, "SUNDOG_DATA": str(data)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert status.returncode == 0, status.stderr
        assert json.loads(status.stdout)["data_folder"] == str(data)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0
    finally:
        running.kill()
