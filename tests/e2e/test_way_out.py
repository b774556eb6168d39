"""A function with the network `egress` by the Python API: what programs use every day finds its way out by itself."""

from __future__ import annotations

import http.server
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sundog
from harness import Server

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="instances are sealed wholly where the server runs as root")


class Echo(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Says nothing."""


@pytest.fixture
def echo() -> Iterator[str]:
    """The address of a service of the operator's that gives back what it is sent."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_urllib_posts_more_than_any_buffer_holds(server: Server, echo: str) -> None:
    app = sundog.App(f"out-{uuid.uuid4().hex[:8]}")

    @app.function(network="egress", allow=[echo], memory=256)
    def post(address: str, size: int) -> int:
        import urllib.request

        with urllib.request.urlopen(f"http://{address}/", data=b"x" * size, timeout=30) as answer:
            return len(answer.read())

    deployed = post.deploy(server.cloud())
    assert deployed.remote(echo, 10) == 10
    assert deployed.remote(echo, 8_000_000) == 8_000_000
    with pytest.raises(sundog.FunctionError, match="403"):
        deployed.remote("127.0.0.1:1", 10)
    deployed.delete()


def test_a_folder_reaches_what_its_list_names(server: Server, echo: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import urllib.request\n"
        "def handler(event, context):\n"
        "    with urllib.request.urlopen(event, data=b'there', timeout=30) as answer:\n"
        "        return answer.read().decode()\n"
    )
    functions, name = server.cloud().functions, f"out-{uuid.uuid4().hex[:8]}"
    deployed = functions.deploy_folder(name, tmp_path, handler="app.handler", network="egress", allow=[echo])
    assert deployed.invoke(f"http://{echo}/") == "there"
    functions.deploy_folder(name, tmp_path, handler="app.handler", network="egress", allow=["api.example.com"])
    with pytest.raises(sundog.FunctionError, match="refused"):  # the loopback host is its own again
        deployed.invoke(f"http://{echo}/")
    deployed.delete()


def test_requests_and_boto3_work_as_they_are(server: Server, echo: str) -> None:
    """boto3 calls the server that the function runs on: as any client, with a key."""
    app = sundog.App(f"out-{uuid.uuid4().hex[:8]}")
    api = server.url.removeprefix("http://")

    @app.function(network="egress", allow=[echo, api], memory=512, environment=["requests", "boto3"])
    def call(address: str, url: str, key: str, secret: str) -> list[Any]:
        import boto3
        import requests

        posted = requests.post(f"http://{address}/", data="hello", timeout=30).text
        refused = requests.post("http://example.com/", data="hello", timeout=30).status_code
        client = boto3.client(
            "lambda", endpoint_url=url, region_name="local", aws_access_key_id=key, aws_secret_access_key=secret
        )
        return [posted, refused, [f["FunctionName"] for f in client.list_functions()["Functions"]]]

    deployed = call.deploy(server.cloud())
    posted, refused, names = deployed.remote(echo, server.url, server.key_id, server.secret)
    assert (posted, refused) == ("hello", 403)
    assert deployed.name in names
    deployed.delete()
