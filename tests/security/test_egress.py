"""The network `egress`: what its list names is reached through the proxy, and nothing else by any means."""

from __future__ import annotations

import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from harness import Server

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="instances are sealed wholly where the server runs as root")

ATTEMPTS = '''
import os
import socket
import urllib.error
import urllib.request

def fetch(url):
    """As any program does it: urllib finds the proxy in the environment."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
    except urllib.error.URLError as error:
        return type(error.reason).__name__

def tunnel(target):
    """The page behind a CONNECT, or the proxy's answer to it."""
    with socket.create_connection(("127.0.0.1", 3128), timeout=20) as way:
        way.sendall(f"CONNECT {target} HTTP/1.1\\r\\n\\r\\n".encode())
        answer = way.recv(4096).decode()
        if " 200 " not in answer:
            return answer
        way.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        page = b""
        while piece := way.recv(4096):
            page += piece
        return page.decode().partition("\\r\\n\\r\\n")[2]

def direct(address):
    try:
        socket.create_connection(tuple(address), timeout=2).close()
        return "connected"
    except OSError as error:
        return type(error).__name__

def variable(name):
    return os.environ.get(name)

def resolve(name):
    try:
        return socket.gethostbyname(name)
    except OSError as error:
        return type(error).__name__

def raw(text):
    """The status of whatever is sent to the proxy."""
    with socket.create_connection(("127.0.0.1", 3128), timeout=20) as way:
        way.sendall(text.encode())
        return way.recv(4096).decode().split(" ")[1]

def handler(event, context):
    return globals()[event["do"]](event["with"])
'''
THREAD = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
PAGE = "a page of the host's"


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, *_arguments: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def ports() -> Iterator[list[int]]:
    """Two services on the host's loopback."""
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) for _ in range(2)]
    threads = [threading.Thread(target=one.serve_forever) for one in servers]
    for thread in threads:
        thread.start()
    yield [int(one.server_address[1]) for one in servers]
    for one, thread in zip(servers, threads, strict=True):
        one.shutdown()
        one.server_close()
        thread.join()


class Function:
    """A function that attempts what it is told."""

    def __init__(self, client: Any, code: bytes, allow: str, **settings: Any) -> None:
        self.client = client
        self.name = f"egress-{uuid.uuid4().hex[:8]}"
        client.create_function(**{
            "FunctionName": self.name,
            "Runtime": "python3.11",
            "Role": "arn:aws:iam::000000000000:role/any",
            "Handler": "app.handler",
            "Timeout": 60,
            "MemorySize": 256,
            "Code": {"ZipFile": code},
            "Tags": {"sundog:network": "egress", "sundog:allow": allow},
            **settings,
        })  # fmt: skip
        client.get_waiter("function_active_v2").wait(FunctionName=self.name, WaiterConfig={"Delay": 1})

    def allow(self, entries: str) -> None:
        """Replaces the list."""
        arn = self.client.get_function(FunctionName=self.name)["Configuration"]["FunctionArn"]
        self.client.tag_resource(Resource=arn, Tags={"sundog:allow": entries})
        self.client.get_waiter("function_updated_v2").wait(FunctionName=self.name, WaiterConfig={"Delay": 1})

    def __call__(self, what: str, given: Any) -> Any:
        answer = self.client.invoke(FunctionName=self.name, Payload=json.dumps({"do": what, "with": given}))
        payload = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, payload
        return payload


@pytest.fixture
def make(package: Callable[..., bytes]) -> Iterator[Callable[..., Function]]:
    made: list[Function] = []

    def deploy(client: Any, allow: str, source: str = ATTEMPTS) -> Function:
        made.append(Function(client, package(app=source), allow))
        return made[-1]

    yield deploy
    for one in made:
        one.client.delete_function(FunctionName=one.name)


def client_of(server: Server, role: str, tenant: str = "default") -> Any:
    """boto3 with a new key."""
    with server.http() as api:
        return server.boto3(api.post("/v1/keys", json={"role": role, "tenant": tenant, "name": "egress"}).json())


def test_only_what_the_list_holds_is_reached(server: Server, make: Callable[..., Function], ports: list[int]) -> None:
    granted, other = ports
    function = make(server.boto3(), f"127.0.0.1:{granted}")
    url = "http://127.0.0.1:{}/".format
    assert function("fetch", url(granted)) == PAGE
    assert function("tunnel", f"127.0.0.1:{granted}") == PAGE
    beyond = "this function's list does not hold it"
    assert beyond in function("fetch", url(other)), "another port"
    assert "403" in function("tunnel", f"127.0.0.1:{other}")
    assert "403" in function("tunnel", f"localhost:{granted}"), "another name of the same"
    assert beyond in function("fetch", "http://example.com/")
    # The list alone stops them: with another one they get through.
    function.allow(f"127.0.0.1:{granted},127.0.0.1:{other},localhost:{granted}")
    assert function("fetch", url(other)) == PAGE
    assert function("tunnel", f"localhost:{granted}") == PAGE


def test_nothing_is_reached_past_the_proxy(
    server: Server, make: Callable[..., Function], package: Callable[..., bytes], ports: list[int]
) -> None:
    port = ports[0]
    function = make(server.boto3(), f"127.0.0.1:{port}")
    for host in ("127.0.0.1", "0.0.0.0", "10.0.0.1", "1.1.1.1"):
        assert function("direct", [host, port]) != "connected"
    assert function("direct", ["127.0.0.1", 3128]) == "connected", "the attempt itself works"
    assert function("resolve", "example.com") == "gaierror", "names are the server's to resolve"
    open_to_all = Function(server.boto3(), package(app=ATTEMPTS), "", Tags={"sundog:network": "host"})
    assert open_to_all("direct", ["127.0.0.1", port]) == "connected", "the namespace alone stops it"
    open_to_all.client.delete_function(FunctionName=open_to_all.name)
    # Neither is the server itself.
    assert "403" in function("tunnel", server.url.removeprefix("http://"))


def test_what_is_not_public_needs_the_operator_s_admin(
    server: Server, make: Callable[..., Function], ports: list[int]
) -> None:
    port = ports[0]
    deployer, stranger = client_of(server, "deployer"), client_of(server, "admin", f"t-{uuid.uuid4().hex[:8]}")
    inside = [f"127.0.0.1:{port}", "10.0.0.0/8:*", "169.254.169.254:80", "[::1]:80", "api.example.com,192.168.1.1:443"]
    for client in (deployer, stranger):
        for allow in inside:
            with pytest.raises(ClientError, match="Only an admin of tenant") as refused:
                make(client, allow)
            assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    # Everything public, and a name that leads to loopback: both lists are anybody's, and neither leads inside.
    function = make(deployer, f"0.0.0.0/0:*,[::/0]:*,localhost:{port}")
    for target in (f"127.0.0.1:{port}", f"localhost:{port}", "10.0.0.1:80", "169.254.169.254:80", f"[::1]:{port}"):
        assert "403" in function("tunnel", target), target
    # The operator's admin decides, and the grant is the function's.
    function.client = server.boto3()
    function.allow(f"127.0.0.1:{port},localhost:{port}")
    function.client = deployer
    for target in (f"127.0.0.1:{port}", f"localhost:{port}"):
        assert function("tunnel", target) == PAGE
    with pytest.raises(ClientError, match="Only an admin of tenant"):
        function.allow(f"127.0.0.1:{port},10.0.0.1:80")


def test_a_list_without_egress_and_egress_without_a_list(server: Server, package: Callable[..., bytes]) -> None:
    client, code = server.boto3(), package(app=ATTEMPTS)
    for tags, why in (
        ({"sundog:network": "egress"}, "needs a list"),
        ({"sundog:allow": "api.example.com"}, 'not the network "egress"'),
        ({"sundog:network": "egress", "sundog:allow": "https://api.example.com"}, "is nothing that can be reached"),
    ):
        with pytest.raises(ClientError, match=why):
            Function(client, code, "", Tags=tags)


def test_init_that_survives_no_fork(server: Server, make: Callable[..., Function], ports: list[int]) -> None:
    granted, other = ports
    function = make(server.boto3(), f"127.0.0.1:{granted}", THREAD + ATTEMPTS)
    assert function("fetch", f"http://127.0.0.1:{granted}/") == PAGE
    assert "403" in function("fetch", f"http://127.0.0.1:{other}/")


def test_what_is_no_request_of_a_proxy(server: Server, make: Callable[..., Function], ports: list[int]) -> None:
    function = make(server.boto3(), f"127.0.0.1:{ports[0]}")
    target = f"127.0.0.1:{ports[0]}"
    assert function("raw", f"GET http://{target}/ HTTP/1.1\r\n\r\n") == "200", "the attempt itself works"
    for text in (
        "GET / HTTP/1.1\r\n\r\n",
        f"GET http://user@{target}/ HTTP/1.1\r\n\r\n",
        f"GET http://{target}/ HTTP/1.1\r\nA: b\nHost: c\r\n\r\n",
        f"GET ftp://{target}/ HTTP/1.1\r\n\r\n",
        f"CONNECT {target.rpartition(':')[0]} HTTP/1.1\r\n\r\n",
    ):
        assert function("raw", text) == "400", text
    assert function("raw", "x" * 20_000) == "431"


HOOK = """
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
__attribute__((constructor)) static void hook(void) {
  char program[256] = "";
  if (readlink("/proc/self/exe", program, sizeof program - 1) > 0 && strstr(program, "sundog-runtime-api")) _exit(9);
  setenv("HOOKED", "yes", 1);
}
"""


def compiled(folder: Path, source: str) -> bytes:
    """A shared library."""
    (folder / "hook.c").write_text(source)
    compiler = shutil.which("clang-19") or shutil.which("clang") or shutil.which("gcc")
    assert compiler, "a C compiler is among what ./dev setup installs"
    command = [compiler, "-shared", "-fPIC", "-o", str(folder / "hook.so"), str(folder / "hook.c")]
    subprocess.run(command, check=True, timeout=120)
    return (folder / "hook.so").read_bytes()


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the environment is made for Python 3.11")
def test_a_custom_runtime(server: Server, tmp_path: Path, ports: list[int]) -> None:
    """Its way out is handed over before anything of the function's runs: its variables are for the bootstrap alone."""
    from sundog import Environment

    granted, other = ports
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o100755 << 16
        archive.writestr(entry, '#!/bin/sh\nexec python3.11 -m awslambdaric "$_HANDLER"\n')
        archive.writestr("app.py", ATTEMPTS)
        archive.writestr("hook.so", compiled(tmp_path, HOOK))
    function = Function(
        server.boto3(),
        memory.getvalue(),
        f"127.0.0.1:{granted}",
        Runtime="provided.al2023",
        Layers=[server.cloud().environments.ensure(Environment("awslambdaric==4.2.*", python="3.11")).layer],
        Environment={"Variables": {"LD_PRELOAD": "/var/task/hook.so"}},
    )
    assert function("variable", "HOOKED") == "yes", "the attempt itself works"
    assert function("tunnel", f"127.0.0.1:{granted}") == PAGE
    assert "403" in function("tunnel", f"127.0.0.1:{other}")
    assert function("direct", ["127.0.0.1", granted]) == "ConnectionRefusedError"
    assert function("variable", "no_proxy") == "localhost,127.0.0.1,::1", "its Runtime API is on its own loopback"
    function.client.delete_function(FunctionName=function.name)
