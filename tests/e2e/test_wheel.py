"""`pip install .` from a clean copy, into a fresh virtual environment: the command carries the server, anywhere.

The copy always lies at the same place under build/, so that ccache knows its files again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import ROOT

FOLDER = ROOT / "build" / "wheel-test"
USE = """
import json, sys
from pathlib import Path
import pandas
import sundog
from sundog.launch import LocalServer

app = sundog.App("wheel")

@app.function(memory=128)
def twice(n):
    return n * 2

server = LocalServer(Path(sys.argv[1]))
try:
    token = server.wait_ready()
    cloud = sundog.connect(server.url, token)
    answer = {"answer": twice.remote(21), "version": cloud.status()["version"], "from": sundog.__file__}
    # By sundog-data, which needs the Arrow of the installed pyarrow.
    answer["rows"] = cloud.datasets.create("numbers", pandas.DataFrame({"n": range(7)})).rows
    print(json.dumps(answer))
finally:
    server.stop()
"""


def run(*command: str | Path, cwd: Path, timeout: float = 300, **variables: str) -> str:
    """The command's output; what it said if it fails. Nothing of this checkout's environment is passed on."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SUNDOG_", "PYTHON", "VIRTUAL_ENV", "CCACHE_"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, (
        f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    )
    return done.stdout


def base_python() -> str:
    return getattr(sys, "_base_executable", None) or sys.executable


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """A fresh virtual environment into which a clean copy of the tracked files was installed."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    source, venv = FOLDER / "source", FOLDER / "venv"
    source.mkdir(parents=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0"):
        if not name or not (ROOT / name).is_file():
            continue
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    run(base_python(), "-m", "venv", venv, cwd=FOLDER)
    run(venv / "bin" / "pip", "install", "-q", source, cwd=FOLDER, timeout=1500)
    yield venv
    shutil.rmtree(FOLDER, ignore_errors=True)


@pytest.mark.timeout(1800)
def test_the_installed_command_works_anywhere(installed: Path, tmp_path: Path) -> None:
    sundog = installed / "bin" / "sundog"
    assert run(sundog, "version", cwd=tmp_path).strip() == "0.1.0"
    checks = json.loads(run(sundog, "doctor", "--json", cwd=tmp_path, SUNDOG_DATA=str(tmp_path / "none")))
    assert {"seccomp", "kernel", "disk"} <= {check["check"] for check in checks}


def test_the_installed_server_runs_a_function(installed: Path, tmp_path: Path) -> None:
    script = tmp_path / "use.py"
    script.write_text(USE)
    said = json.loads(run(installed / "bin" / "python", script, tmp_path / "data", cwd=tmp_path))
    assert (said["answer"], said["version"], said["rows"]) == (42, "0.1.0", 7)
    assert Path(said["from"]).is_relative_to(installed)


def test_the_wheel_is_whole_and_stripped(installed: Path) -> None:
    (package,) = installed.glob("lib/python3*/site-packages/sundog")
    for program in ("sundog-server", "sundog-launcher", "sundog-data", "sundog-runtime-api"):
        path = package / "bin" / program
        assert os.access(path, os.X_OK)
        linked = run("ldd", path, cwd=installed)
        assert "not found" not in linked, linked
        assert str(ROOT / "build" / "release") not in linked
        assert ".debug_info" not in run("readelf", "-SW", path, cwd=installed)
    arrow = [
        line for line in run("ldd", package / "bin" / "sundog-data", cwd=installed).splitlines() if "arrow" in line
    ]
    assert arrow
    for line in arrow:
        assert Path(line.split("=> ")[1].split(" (")[0]).resolve().is_relative_to(installed.resolve()), line
    assert (package / "runtime" / "_native.abi3.so").is_file()
    assert (package / "examples" / "risk-assessment" / "credit_default.csv.gz").is_file()
