"""Which server and key are used, and what importing costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import sundog
from sdk import FakeServer
from sundog import errors
from sundog.cloud import find_server


def folder(path: Path, url: str = "http://127.0.0.1:9123") -> Path:
    (path / "client.json").write_text(json.dumps({"id": "AK", "token": "sk-local", "secret": "s", "url": url}))
    return path


def test_given_then_environment_then_the_local_server(tmp_path: Path) -> None:
    local = folder(tmp_path)
    variables = {"SUNDOG_URL": "http://far", "SUNDOG_KEY": "sk-env"}
    assert find_server("http://x", "sk", local, variables) == ("http://x", "sk")
    assert find_server(None, None, local, variables) == ("http://far", "sk-env")
    assert find_server(None, None, local, {}) == ("http://127.0.0.1:9123", "sk-local")
    assert find_server(None, None, tmp_path / "none", {}) == ("http://127.0.0.1:9000", "")


def test_the_local_key_never_goes_elsewhere(tmp_path: Path) -> None:
    local = folder(tmp_path)
    assert find_server("http://elsewhere", None, local, {}) == ("http://elsewhere", "")
    assert find_server("http://127.0.0.1:9123/", None, local, {})[1] == "sk-local"


def test_a_broken_client_file_is_as_none(tmp_path: Path) -> None:
    (tmp_path / "client.json").write_text("{")
    assert find_server(None, None, tmp_path, {}) == ("http://127.0.0.1:9000", "")


def test_connect_checks_that_the_server_answers() -> None:
    fake = FakeServer({})
    cloud = sundog.connect("http://sundog.test", "sk-1", http=httpx.MockTransport(fake))
    assert cloud.status() == {"version": "0.1.0"}
    assert fake.requests[0].url.path == "/v1/status"
    gone = FakeServer({("GET", "/v1/status"): httpx.ConnectError("refused")})
    with pytest.raises(errors.Unavailable, match="Start one with: sundog up"):
        sundog.connect("http://sundog.test", "sk-1", http=httpx.MockTransport(gone))
    with pytest.raises(errors.InvalidArgument, match="no address"):
        sundog.connect("localhost:9000")


def test_a_missing_key_says_where_keys_come_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SUNDOG_KEY", raising=False)
    refused = httpx.Response(401, json={"error": {"code": "unauthenticated", "message": "No key.", "hint": ""}})
    fake = FakeServer({("GET", "/v1/status"): refused})
    with pytest.raises(errors.Unauthenticated, match="sundog keys create"):
        sundog.connect("http://sundog.test", data=tmp_path, http=httpx.MockTransport(fake))


def test_importing_loads_nothing_heavy() -> None:
    code = "import sundog, sys; print([m for m in ('optuna', 'pyarrow', 'pandas', 'numpy', 'httpx', 'typer') if m in sys.modules])"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in sundog.__all__:
        assert getattr(sundog, name) is not None
    with pytest.raises(AttributeError):
        _ = sundog.no_such_name  # type: ignore[attr-defined]
