"""The command line, without a server: tables, JSON, errors and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from sdk import FakeServer, golden
from sundog.cli import app
from sundog.cli.output import Connection

VERSION = golden("dataset-version")
FUNCTION = {
    "FunctionName": "t-add",
    "Runtime": "python3.11",
    "Handler": "h",
    "MemorySize": 128,
    "Timeout": 3,
    "State": "Active",
}


def run(fake: FakeServer, *words: str, stdin: str = "") -> Result:
    connection = Connection("http://sundog.test", "sk-1", httpx.MockTransport(fake))
    return CliRunner().invoke(app, list(words), obj=connection, input=stdin, catch_exceptions=False)


def done(result: Any) -> Any:
    return {**golden("job-running"), "state": "succeeded", "result": result}


ANSWERS: dict[tuple[str, str], Any] = {
    ("GET", "/v1/doctor"): {"checks": [{"check": "seccomp", "ok": False, "detail": "off", "without": "fewer calls blocked"}]},
    ("GET", "/v1/bill"): golden("bill"),
    ("GET", "/v1/bill/verify"): {"ok": True, "days": [{"day": "2026-11-23", "state": "matches", "records": 12, "duplicates": 0, "problem": ""}]},
    ("GET", "/v1/bill/operator"): {"currency": "USD", "plan": "mine", "lines": [{"what": "parked", "gb_seconds": 12.5, "cost": 0.25, "billed": False}]},
    ("GET", "/v1/invoice"): golden("invoice"),
    ("GET", "/v1/budgets"): golden("budgets"),
    ("PUT", "/v1/budgets"): golden("budgets"),
    ("DELETE", "/v1/budgets"): golden("budgets"),
    ("GET", "/v1/fleet"): {"instances": [{"function": "f", "version": "1", "state": "idle", "pid": 1, "memory_mb": 128, "age_ms": 1500}], "templates": [], "queued": 0, "memory_bytes": 1, "budget_bytes": 2},
    ("GET", "/v1/keys"): {"items": [golden("key")], "next": ""},
    ("GET", "/2015-03-31/functions"): {"Functions": [FUNCTION]},
    ("GET", "/2015-03-31/functions/t-add/configuration"): {
        **FUNCTION, "Sundog": {"Start": "init", "StartReason": "1 thread was left running by init"}
    },
    ("GET", "/2015-03-31/functions/t-add/versions"): {"Versions": [FUNCTION]},
    ("GET", "/v1/environments"): {"items": [golden("environment")], "next": ""},
    ("GET", "/v1/datasets"): {"items": [{"name": "clients", "created": "2026", "label": "default", "latest": 1, "versions": [1]}], "next": ""},
    ("GET", "/v1/datasets/clients/versions/latest"): VERSION,
    ("GET", "/v1/datasets/clients/versions/1/rows"): {"columns": ["a"], "rows": [[1]]},
    ("GET", "/v1/datasets/clients/versions/1/quarantine"): {"items": [{"line": 7, "reason": "two columns", "text": "1,2"}], "next": ""},
    ("POST", "/v1/datasets/clients/versions/1/profile"): done(golden("profile")),
    ("GET", "/v1/runs"): {"items": [golden("run")], "next": ""},
    ("GET", "/v1/runs/run-1"): golden("run"),
    ("GET", "/v1/studies"): {"items": [{k: v for k, v in golden("study").items() if k != "trials"}], "next": ""},
    ("GET", "/v1/studies/s"): golden("study"),
    ("GET", "/v1/models"): {"items": [{"name": "risk", "versions": [1], "aliases": {}, "created": "2026"}], "next": ""},
    ("GET", "/v1/models/risk"): {"name": "risk", "versions": [golden("model-version")], "aliases": {}},
    ("GET", "/v1/models/risk/endpoint"): golden("endpoint"),
    ("POST", "/v1/models/risk/predict"): golden("predictions"),
    ("GET", "/v1/endpoints"): {"items": [golden("endpoint")], "next": ""},
    ("GET", "/v1/jobs"): {"items": [golden("job-running")], "next": ""},
    ("GET", "/v1/jobs/job-1"): golden("job-running"),
    ("GET", "/v1/functions/t-add/dead-letters"): {"items": [{"id": "d1", "request_id": "r", "payload": "{}", "attempts": 3, "reason": "x", "died": "t"}], "next": ""},
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("status", "0.1.0"),
        ("version", "0.1.0"),
        ("doctor", "fewer calls blocked"),
        ("bill", "619 times as much"),
        ("bill --verify", "what the records add up to"),
        ("bill --operator", "$0.2500"),
        ("invoice --month 2026-11", "Total 0.00007620015 USD so far"),
        ("budget", "85.0%"),
        ("budget set 5.00 --alarm 0.8", "tell-me"),
        ("budget clear --function risk-fit", "Spent in 2026-11: 4.25 USD"),
        ("fleet", "1.5 s"),
        ("keys list", "AKSD1"),
        ("functions list", "t-add"),
        ("functions show t-add", "1 thread was left running by init"),
        ("environments list", "scikit-learn==1.9.1"),
        ("dead-letters list t-add", "d1"),
        ("data list", "clients"),
        ("data show clients", "30,000 rows"),
        ("data rows clients", "1"),
        ("data profile clients", "imbalanced"),
        ("data quarantine clients", "two columns"),
        ("runs list", "run-1"),
        ("runs show run-1", "auc=0.78"),
        ("studies list", "clients@2"),
        ("studies show s", "learning_rate=0.1"),
        ("models list", "risk"),
        ("models show risk", "skops"),
        ("endpoints list", "http://sundog.test/v2/models/risk/infer"),
        ("endpoints show risk", "90%"),
        ("jobs list", "job-1"),
        ("jobs list --limit 1", "job-1"),
        ("jobs show job-1", "reading"),
    ],
)
def test_each_noun_as_table_and_as_json(words: str, shown: str) -> None:
    table = run(FakeServer(dict(ANSWERS)), *words.split())
    assert table.exit_code == 0, table.output
    assert shown in table.stdout
    listed = run(FakeServer(dict(ANSWERS)), *words.split(), "--json")
    assert listed.exit_code == 0, listed.output
    json.loads(listed.stdout)


def test_secrets_are_not_listed() -> None:
    for words in (("keys", "list"), ("keys", "list", "--json")):
        assert "sk-1" not in run(FakeServer(dict(ANSWERS)), *words).stdout


def test_an_error_is_a_sentence_a_hint_and_exit_code_1() -> None:
    fake = FakeServer({("GET", "/v1/datasets/none/versions/latest"): httpx.Response(404, json=golden("error"))})
    result = run(fake, "data", "show", "none")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == ['No dataset "clients".', "sundog data list shows those that exist."]


def test_no_server() -> None:
    result = run(FakeServer({("GET", "/v1/status"): httpx.ConnectError("refused")}), "status")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["No server answers at http://sundog.test.", "Start one with: sundog up"]


def test_wrong_usage_is_exit_code_2() -> None:
    assert run(FakeServer({}), "data", "show").exit_code == 2
    assert run(FakeServer({}), "no-such-noun").exit_code == 2


def test_invoke() -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        event = json.loads(request.content)
        if event == "raise":
            error = {"errorType": "ValueError", "errorMessage": "no", "stackTrace": ['  File "a.py", line 1\n']}
            return httpx.Response(200, json=error, headers={"x-amz-function-error": "Unhandled"})
        return httpx.Response(200, json={"got": event})

    fake = FakeServer({**ANSWERS, ("POST", "/2015-03-31/functions/t-add/invocations"): echo})
    assert json.loads(run(fake, "functions", "invoke", "t-add", '{"a": 1}').stdout) == {"got": {"a": 1}}
    assert json.loads(run(fake, "functions", "invoke", "t-add", "-", stdin="[2]").stdout) == {"got": [2]}
    failed = run(fake, "functions", "invoke", "t-add", '"raise"')
    assert failed.exit_code == 1
    assert failed.stderr.splitlines() == ["ValueError: no", '  File "a.py", line 1']
    assert "no JSON" in run(fake, "functions", "invoke", "t-add", "{a}").stderr


def test_create_and_preprocess(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("a,b\n1,2\n")
    fake = FakeServer(
        {
            **ANSWERS,
            ("PUT", "/v1/blobs"): {"id": "a"},
            ("POST", "/v1/datasets"): done(VERSION),
            ("POST", "/v1/datasets/clients/versions/1/preprocess"): done({**VERSION, "version": 2}),
        }
    )
    created = run(
        fake, "data", "create", "clients", str(path), "--label", "default", "--missing", "n/a", "--type", "a=string"
    )
    assert created.exit_code == 0
    assert "sundog data quarantine clients@1" in created.stderr
    assert fake.bodies("POST", "/v1/datasets")[0]["types"] == {"a": "string"}
    words = "data preprocess clients --drop ID --fill b=0 --fill c=mean --range AGE=18:100 --balance weights --split 0.8,0.2"
    assert "clients@2" in run(fake, *words.split()).stdout
    body = fake.bodies("POST", "/v1/datasets/clients/versions/1/preprocess")[0]
    assert body["missing"]["fill"] == {"b": 0, "c": "mean"}
    assert body["ranges"] == {"AGE": [18.0, 100.0]}
    assert body["split"] == {"parts": [0.8, 0.2], "seed": 1}
    assert run(fake, "data", "preprocess", "clients", "--range", "AGE").exit_code == 1


def test_profile_page(tmp_path: Path) -> None:
    target = tmp_path / "p.html"
    assert run(FakeServer(dict(ANSWERS)), "data", "profile", "clients", "--html", str(target)).exit_code == 0
    assert target.read_text().startswith("<!doctype html>")


def test_predict(tmp_path: Path) -> None:
    fake = FakeServer(dict(ANSWERS))
    assert "0.75" in run(fake, "models", "predict", "risk", '[{"LIMIT_BAL": 1}]').stdout
    (tmp_path / "rows.csv").write_text("LIMIT_BAL\n5\n")
    run(fake, "models", "predict", "risk", f"@{tmp_path / 'rows.csv'}")
    assert fake.bodies("POST", "/v1/models/risk/predict") == [
        {"rows": [{"LIMIT_BAL": 1}]},
        {"rows": [{"LIMIT_BAL": 5}]},
    ]


def test_deploy_a_script(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text('import sundog\napp = sundog.App("t")\n\n@app.function\ndef add(a):\n    return a\n')
    fake = FakeServer(
        {
            **ANSWERS,
            ("GET", "/2015-03-31/functions/t-add"): httpx.Response(404, json={"Message": "none"}),
            ("POST", "/2015-03-31/functions"): FUNCTION,
        }
    )
    assert "t-add" in run(fake, "functions", "deploy", str(script)).stdout
    assert run(fake, "functions", "deploy", f"{script}:other").exit_code == 1
    assert "no Python file" in run(fake, "functions", "deploy", str(tmp_path)).stderr


def test_deploy_a_folder_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return event\n")
    fake = FakeServer(
        {
            **ANSWERS,
            ("GET", "/2015-03-31/functions/t-add"): httpx.Response(404, json={"Message": "none"}),
            ("POST", "/2015-03-31/functions"): FUNCTION,
        }
    )
    folder = ["functions", "deploy", str(tmp_path), "--name", "t-add", "--handler", "app.handler"]
    egress = ["--network", "egress", "--allow", "api.example.com", "--allow", "*.example.org:443"]
    assert "t-add" in run(fake, *folder, *egress).stdout
    tags = {"sundog:network": "egress", "sundog:allow": "api.example.com,*.example.org:443"}
    assert fake.bodies("POST", "/2015-03-31/functions")[0]["Tags"] == {"sundog:kind": "function", **tags}
    for more, why in (
        (["--allow", "api.example.com"], "is for network='egress'"),
        (["--network", "egress"], "needs a list of what may be reached"),
        (["--network", "all"], "none of none, egress, host"),
    ):
        refused = run(fake, *folder, *more)
        assert refused.exit_code == 1
        assert why in refused.stderr
    assert "are for a folder" in run(fake, "functions", "deploy", "risk.py", *egress).stderr


@pytest.mark.parametrize("length", [20, 40, 60, 100])
def test_an_error_that_a_program_reads_is_not_broken_into_lines(tmp_path: Path, length: int) -> None:
    folder = tmp_path / ("f" * length)
    folder.mkdir()
    said = run(FakeServer({}), "functions", "deploy", str(folder)).stderr
    assert f"{folder} is no Python file." in said.splitlines()[0]


def test_up_execs_the_server_with_everything_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for program in ("sundog-server", "sundog-launcher", "sundog-data", "sundog-runtime-api"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("SUNDOG_BIN_DIR", str(tmp_path))
    called: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, words: called.append(words))
    result = run(
        FakeServer({}),
        *("up", "--data", str(tmp_path / "d"), "--port", "9100", "--strict", "--no-prebuild", "--log-level", "debug"),
    )
    assert result.exit_code == 0, result.output
    words = called[0]
    given = dict(zip(words[1::2], words[2::2], strict=False))
    assert words[0] == str(tmp_path / "sundog-server")
    assert (given["--data"], given["--host"], given["--port"]) == (str(tmp_path / "d"), "127.0.0.1", "9100")
    assert given["--launcher"] == str(tmp_path / "sundog-launcher")
    assert given["--runtime-api"] == str(tmp_path / "sundog-runtime-api")
    assert given["--data-worker"] == str(tmp_path / "sundog-data")
    assert Path(given["--runtime"], "template.py").is_file()
    assert Path(given["--uv"]).is_file()
    assert Path(given["--pyarrow"], "__init__.py").is_file()
    assert {"--strict", "--no-prebuild"} <= set(words)


def test_up_without_programs_or_with_another_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sundog import launch

    monkeypatch.setenv("SUNDOG_BIN_DIR", str(tmp_path / "none"))
    result = run(FakeServer({}), "up", "--data", str(tmp_path))
    assert result.exit_code == 1
    assert "sundog-server" in result.stderr
    monkeypatch.setattr(launch.metadata, "version", lambda name: "25.0.0")
    result = run(FakeServer({}), "up", "--data", str(tmp_path))
    assert "pyarrow 25.0.0 is installed, but the server needs 26.0.*" in result.stderr
    assert 'pip install "pyarrow==26.0.*"' in result.stderr


def test_doctor_asks_a_server_of_its_own_where_none_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sundog import cloud, launch
    from sundog.errors import Unavailable

    monkeypatch.setenv("SUNDOG_DATA", str(tmp_path / "none"))
    monkeypatch.delenv("SUNDOG_URL", raising=False)
    stopped = []

    class OwnServer:
        url = "http://own"

        def __init__(self, data: Path) -> None:
            assert data.parent.is_dir()

        def wait_ready(self) -> str:
            return "sk-own"

        def stop(self) -> None:
            stopped.append(True)

    def connect(url: str | None = None, key: str | None = None, **_: object) -> object:
        if url is None:
            raise Unavailable("No server answers.")
        assert (url, key) == ("http://own", "sk-own")
        return type("Own", (), {"doctor": lambda self: [{"check": "seccomp", "ok": True, "detail": "works"}]})()

    monkeypatch.setattr(launch, "LocalServer", OwnServer)
    monkeypatch.setattr(cloud, "connect", connect)
    result = CliRunner().invoke(app, ["doctor"], obj=Connection(), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "seccomp" in result.stdout
    assert stopped == [True]
