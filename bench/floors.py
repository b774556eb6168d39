"""Floors of the same run: a bare fork, a fresh process, a bare loop on all cores, a durable write, nginx's constant reply."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import deployed
import handlers
import installed
from load import Request

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ORT_DISABLE_TELEMETRY"), "1")


def folder_of(kind: str) -> Path:
    source, _packages, model = deployed.SOURCES[kind]
    folder = handlers.write_app(installed.FOLDER / "apps" / kind, source)
    if model:
        (folder / model).write_bytes((installed.models() / model).read_bytes())
    return folder


def _python(program: str, *words: str, timeout: float = 300) -> str:
    command = [str(installed.own_python()), *([program] if program else []), *words]
    environment = {**os.environ, **ONE_THREAD}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout, check=True
    ).stdout.strip()


def fork(kind: str, count: int) -> dict:
    """What fork_floor.py measures, for one kind of function."""
    program = str(Path(__file__).with_name("fork_floor.py"))
    return json.loads(_python(program, str(folder_of(kind)), str(count), deployed.BODY[kind]))


def fresh_process(kind: str, times: int) -> list[float]:
    """Milliseconds of a fresh interpreter that imports the library, loads the model and answers once."""
    script = (
        f"import sys; sys.path.insert(0, {str(folder_of(kind))!r}); import json; from app import handler; "
        f"print(json.dumps(handler(json.loads({deployed.BODY[kind]!r}), None)))"
    )
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        _python("", "-c", script)
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def bare_loop_per_second(kind: str, seconds: float) -> float:
    """Calls per second of the handler in a bare loop, one process a core, JSON in and out as a handler's is."""
    script = (
        f"import sys; sys.path.insert(0, {str(folder_of(kind))!r}); import json, time; from app import handler\n"
        f"body = {deployed.BODY[kind]!r}\nend = time.perf_counter() + {seconds}\nn = 0\n"
        "while time.perf_counter() < end:\n    json.dumps(handler(json.loads(body), None)); n += 1\n"
        f"print(n / {seconds})"
    )
    command = [str(installed.own_python()), "-c", script]
    environment = {**os.environ, **ONE_THREAD}
    loops = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in os.sched_getaffinity(0)
    ]
    return sum(float(loop.communicate(timeout=seconds + 120)[0]) for loop in loops)


def durable_write_ms(count: int = 200) -> list[float]:
    """One append of 200 bytes and fdatasync, where the server's data would stand."""
    taken = []
    with tempfile.NamedTemporaryFile(prefix="sundog-bench-") as file:
        for _ in range(count):
            began = time.perf_counter()
            os.write(file.fileno(), b"x" * 200)
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    return taken


NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 60s;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{ default_type application/json; return 200 '{{"p":0.5}}'; }}
  }}
}}
"""


@contextmanager
def constant_reply(port: int) -> Iterator[tuple[Request, int]]:
    """nginx with one worker and a constant reply: the request to send, and its process id."""
    program = installed.nginx()
    with tempfile.TemporaryDirectory(prefix="sundog-bench-nginx-") as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, port=port))
        process = subprocess.Popen([str(program), "-p", folder, "-e", f"{folder}/error.log", "-c", str(config)])
        try:
            deployed.eventually(lambda: reachable(port), what="nginx")
            yield Request(f"http://127.0.0.1:{port}/", "POST", deployed.BODY["bare"]), process.pid
        finally:
            process.terminate()
            process.wait(10)


def reachable(port: int) -> bool:
    """Whether something takes connections there."""
    import socket

    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port that nobody listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
