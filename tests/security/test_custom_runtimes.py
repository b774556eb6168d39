"""A custom runtime is sealed like any other function: the attempts of seal_test, from under a bootstrap of one's own."""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import Server

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="instances are sealed wholly where the server runs as root"),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the environment is made for Python 3.11"),
]
ATTEMPTS = Path(__file__).with_name("attempts.py")
BOOTSTRAP = '#!/bin/sh\nexec python3.11 -m awslambdaric "$_HANDLER"\n'


@pytest.fixture(scope="module")
def attempt(server: Server) -> Iterator[Callable[..., Any]]:
    """Runs one of attempts.py's functions in a custom runtime and gives what it got."""
    from sundog import Environment

    layer = server.cloud().environments.ensure(Environment("awslambdaric==4.2.*", python="3.11")).layer
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o100755 << 16
        archive.writestr(entry, BOOTSTRAP)
        archive.writestr("attempts.py", ATTEMPTS.read_text())
    settings = {"Runtime": "provided.al2023", "Handler": "attempts.handler", "Layers": [layer]}
    name = server.deploy(memory.getvalue(), wait=True, MemorySize=256, Timeout=30, **settings)
    client = server.boto3()

    def run(what: str, given: Any = None) -> Any:
        answer = client.invoke(FunctionName=name, Payload=json.dumps({"do": what, "with": given}))
        payload = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, payload
        return payload["got"]

    yield run
    client.delete_function(FunctionName=name)


def test_the_host_is_out_of_reach(attempt: Callable[..., Any], server: Server) -> None:
    key = server.data / "secret.key"
    assert key.is_file(), "what is looked for exists outside"
    assert attempt("read_path", str(key)) == ""
    assert attempt("read_path", "/var/task/bootstrap") == BOOTSTRAP, "the attempt itself works"
    assert not attempt("connect_tcp", int(server.url.rsplit(":", 1)[1]))
    assert attempt("host_name") == ""
    assert not attempt("cgroups")
    assert not attempt("process_of", server.process.pid if server.process else 0)


@pytest.mark.parametrize(
    "what",
    [
        *(
            "ptrace_child",
            "read_own_memory_by_process_vm",
            "unshare_user",
            "unshare_user_by_clone",
            "mount_in_user_namespace",
        ),
        *("change_root", "join_namespace", "raw_socket", "kernel_events_socket", "add_key", "load_bpf", "io_uring"),
        *("userfaultfd", "perf_event", "load_module"),
    ],
)
def test_privileged_calls_are_refused(attempt: Callable[..., Any], what: str) -> None:
    assert attempt(what) is False


def test_it_has_no_rights_and_changes_nothing(attempt: Callable[..., Any]) -> None:
    assert attempt("capabilities") == []
    for path in (
        "/var/task/app.py",
        "/opt/python/new",
        "/opt/sundog/bin/sundog-runtime-api",
        "/usr/new",
        "/etc/passwd",
    ):
        assert attempt("write_to", path) is False
    assert attempt("write_to", "/tmp/mine") is True


def test_ordinary_work_goes_on(attempt: Callable[..., Any]) -> None:
    assert attempt("use_subprocess") == "42"
    assert attempt("use_threads") == 8
    assert attempt("use_multiprocessing") == [1, 4, 9]
    assert attempt("use_sqlite") == 42
    assert attempt("use_loopback") == "hello"
