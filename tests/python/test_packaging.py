"""Packages: the same code gives the same bytes, and what is sent runs alone."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import sundog
from sundog import errors
from sundog.packaging import included_files, package_folder, package_function, pickle_by_value, zip_bytes

SCRIPT = """
import sundog
from sundog.packaging import package_function, pickle_by_value
app = sundog.App("t")
WORDS = {"a", "b", "c", "d"}

class Helper:
    factor = 3
    def times(self, x): return x * self.factor

@app.model()
class Model:
    def __init__(self, k): self.k = k
    def predict(self, rows): return [Helper().times(self.k)] * len(rows)

@app.function(memory=256)
def triple(x, *, plus=0):
    return Helper().times(x) + plus + (0 if "a" in WORDS else 1)
"""
TAIL = """
if __name__ == "__main__":
    import hashlib
    print(package_function(triple).sha256_hex, hashlib.sha256(pickle_by_value(Model(2))).hexdigest())
"""


def run(script: Path, folder: Path, **variables: str) -> str:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_same_code_gives_the_same_bytes_in_any_process_and_folder(tmp_path: Path) -> None:
    found = set()
    for seed in ("0", "1"):
        folder = tmp_path / seed
        folder.mkdir()
        script = folder / "job.py"
        script.write_text(SCRIPT.replace('{"a", "b", "c", "d"}', '"abcd"') + TAIL)
        found.add(run(script, folder, PYTHONHASHSEED=seed))
    assert len(found) == 1


def test_what_is_sent_runs_without_the_sdk_and_without_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job_of_mine.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(str(tmp_path))
    import job_of_mine

    package = package_function(job_of_mine.triple)
    target = tmp_path / "task"
    zipfile.ZipFile(io.BytesIO(package.content)).extractall(target)
    code = textwrap.dedent("""
        import importlib, json, sys
        sys.path.insert(0, sys.argv[1])
        module, name = sys.argv[2].rsplit(".", 1)
        handler = getattr(importlib.import_module(module), name)
        print(json.dumps([handler(e, None) for e in (
            {"args": [5], "kwargs": {"plus": 1}}, {"x": 2}, [4], 7)]))
        assert "sundog" not in sys.modules and "job_of_mine" not in sys.modules
    """)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(target), package.handler],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [16, 6, 12, 21]


def test_a_handler_gets_event_and_context_as_they_are(tmp_path: Path) -> None:
    app = sundog.App("t")

    @app.handler(memory=256)
    def answer(event: object, context: object) -> object:
        return [event, context]

    package = package_function(answer)
    space: dict[str, object] = {"__file__": str(tmp_path / "sundog_entry.py"), "__name__": "sundog_entry"}
    zipfile.ZipFile(io.BytesIO(package.content)).extractall(tmp_path)
    exec(compile((tmp_path / "sundog_entry.py").read_text(), "sundog_entry.py", "exec"), space)
    assert space["handler"]({"args": [1]}, "c") == [{"args": [1]}, "c"]  # type: ignore[operator]


def test_a_training_package_names_its_pickle() -> None:
    app = sundog.App("t")

    @app.training(environment=["scikit-learn==1.9.1"])
    def fit(run: object, data: object) -> None:
        return None

    package = package_function(fit)
    archive = zipfile.ZipFile(io.BytesIO(package.content))
    assert package.handler == "sundog.runtime.training.handler"
    assert json.loads(archive.read("sundog.json")) == {"function": {"pickle": "sundog_function.pkl"}}
    assert sorted(archive.namelist()) == ["sundog.json", "sundog_function.pkl"]


def test_changed_code_gives_other_bytes() -> None:
    app = sundog.App("t")

    def make(n: int) -> sundog.Function[[], int]:
        @app.function
        def f() -> int:
            return n

        return f

    assert package_function(make(1)).sha256 == package_function(make(1)).sha256
    assert package_function(make(1)).sha256 != package_function(make(2)).sha256


def test_include_brings_modules_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "helper_pkg" / "__pycache__").mkdir(parents=True)
    (tmp_path / "helper_pkg" / "__init__.py").write_text("A = 1")
    (tmp_path / "helper_pkg" / "__pycache__" / "x.pyc").write_bytes(b"")
    (tmp_path / "single_helper.py").write_text("B = 2")
    (tmp_path / "words.txt").write_text("w")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = dict(included_files(["helper_pkg", "single_helper", str(tmp_path / "words.txt")]))
    assert sorted(found) == ["helper_pkg/__init__.py", "single_helper.py", "words.txt"]
    with pytest.raises(errors.InvalidArgument, match="no_such_thing_here"):
        list(included_files(["no_such_thing_here"]))


def test_a_folder_as_lambda_takes_it(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handler(e, c): return 1")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "data.json").write_text("{}")
    package = package_folder(tmp_path, "app.handler")
    assert zipfile.ZipFile(io.BytesIO(package.content)).namelist() == ["app.py", "sub/data.json"]
    assert package_folder(tmp_path / "app.py", "app.handler").content != package.content
    with pytest.raises(errors.InvalidArgument, match="There is no"):
        package_folder(tmp_path / "none", "app.handler")


def test_zip_bytes_do_not_depend_on_order() -> None:
    assert zip_bytes({"a": b"1", "b": b"2"}) == zip_bytes({"b": b"2", "a": b"1"})


def test_what_cannot_be_sent_is_named() -> None:
    import threading

    lock = threading.Lock()

    def holds() -> object:
        return lock

    with pytest.raises(errors.InvalidArgument, match="holds cannot be sent"):
        pickle_by_value(holds)


def test_another_python_is_refused() -> None:
    app = sundog.App("t")

    @app.function(environment=sundog.Environment("pandas", python="3.8"))
    def f() -> None:
        return None

    with pytest.raises(errors.InvalidArgument, match=r"3\.8"):
        package_function(f)
