"""Fixtures shared by all tests that need a server."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "python"))

from harness import Server  # noqa: E402


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the whole session; tests use names of their own."""
    running = Server(tmp_path_factory.mktemp("server") / "data").start()
    yield running
    status = running.stop()
    assert status == 0, f"the server ended with {status}:\n{running.tail()}"
    # Whatever clients and handlers did wrong is theirs: an error line is the server's own failure.
    failures = [line for line in running.log.read_text().splitlines() if '"level":"error"' in line]
    assert not failures, failures


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers for one test: fresh_server(*options, env={…}); whatever still runs is killed after it."""
    made: list[Server] = []

    def make(*options: str, env: dict[str, str] | None = None, data: Path | None = None) -> Server:
        made.append(Server(data or tmp_path / f"data{len(made)}", *options, env=env))
        return made[-1]

    yield make
    for running in made:
        running.kill()


@pytest.fixture
def package() -> Callable[..., bytes]:
    """A Lambda code package from sources: package(app="def handler(event, context): …")."""

    def make(**sources: str) -> bytes:
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in sources.items():
                archive.writestr(f"{name}.py", text)
        return memory.getvalue()

    return make
