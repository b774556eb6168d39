"""The network of a function: nothing at all unless it is given, and the host's only by who may give it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from harness import Server

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="instances are sealed wholly where the server runs as root")

REACH = """
import socket
def handler(event, context):
    try:
        with socket.create_connection(("127.0.0.1", event), timeout=5) as connection:
            return connection.recv(16).decode()
    except OSError as error:
        return type(error).__name__
"""


@pytest.fixture
def service() -> Iterator[int]:
    """The port of something that greets on the host's loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            while True:
                try:
                    peer, _ = listening.accept()
                except OSError:
                    return
                with peer:
                    peer.sendall(b"the host's")

        thread = threading.Thread(target=greet)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def key(server: Server, role: str, tenant: str = "default") -> dict[str, str]:
    """A new one, of POST /v1/keys."""
    with server.http() as http:
        return http.post("/v1/keys", json={"role": role, "tenant": tenant, "name": "networks"}).json()


def create(client: Any, name: str, code: bytes, **tags: str) -> None:
    """Deploys and waits."""
    client.create_function(
        FunctionName=name,
        Runtime="python3.11",
        Role="arn:aws:iam::000000000000:role/any",
        Handler="app.handler",
        Timeout=20,
        Code={"ZipFile": code},
        Tags={f"sundog:{tag}": value for tag, value in tags.items()},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})


def call(client: Any, name: str, event: Any) -> Any:
    """The answer."""
    answer = client.invoke(FunctionName=name, Payload=json.dumps(event))
    payload = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, payload
    return payload


def test_host_must_be_given_by_the_operator_s_admin(
    server: Server, package: Callable[..., bytes], service: int
) -> None:
    code, name = package(app=REACH), f"net-{uuid.uuid4().hex[:8]}"
    deployer, stranger = server.boto3(key(server, "deployer")), server.boto3(key(server, "admin", f"t-{name}"))
    for client in (deployer, stranger):
        with pytest.raises(ClientError, match="Only an admin of tenant") as refused:
            create(client, name, code, network="host")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        create(client, name, code)  # and without it they may
        assert call(client, name, service) == "ConnectionRefusedError", "nobody but itself is on its loopback"
        arn = client.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
        with pytest.raises(ClientError, match="Only an admin of tenant"):
            client.tag_resource(Resource=arn, Tags={"sundog:network": "host"})
    admin = server.boto3()
    arn = admin.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    admin.tag_resource(Resource=arn, Tags={"sundog:network": "host"})
    admin.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    assert call(deployer, name, service) == "the host's"
    # The grant is the function's: who deploys to it keeps it, and anyone who may deploy can give it back.
    deployer.update_function_code(FunctionName=name, ZipFile=package(app=REACH + "\n"))
    deployer.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    assert call(deployer, name, service) == "the host's"
    deployer.untag_resource(Resource=arn, TagKeys=["sundog:network"])
    deployer.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    assert call(deployer, name, service) == "ConnectionRefusedError"
    for client in (deployer, stranger):
        client.delete_function(FunctionName=name)


def test_none_reaches_nothing(server: Server, package: Callable[..., bytes], service: int) -> None:
    """No address of the host's, no route, no name, no interface but a loopback of its own."""
    source = """
import socket
def handler(event, context):
    port, hosts = event
    reached = []
    for host in hosts:
        try:
            socket.create_connection((host, port), timeout=2).close()
            reached.append(host)
        except OSError:
            pass
    try:
        reached.append(socket.gethostbyname("example.com"))
    except OSError:
        pass
    with open("/proc/net/dev") as file:
        interfaces = [line.split(":")[0].strip() for line in file if ":" in line]
    with socket.create_server(("127.0.0.1", 0)) as own:
        socket.create_connection(own.getsockname()).close()
    return reached, interfaces
"""
    name, client = f"net-{uuid.uuid4().hex[:8]}", server.boto3()
    create(client, name, package(app=source))
    hosts = {"127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "10.0.0.1", "1.1.1.1"}
    with contextlib.suppress(socket.gaierror):  # not every machine's name is in its DNS or its /etc/hosts
        hosts |= {str(address[4][0]) for address in socket.getaddrinfo(socket.gethostname(), None)}
    socket.create_connection(("127.0.0.1", service)).close()  # it is there
    assert call(client, name, [service, sorted(hosts)]) == [[], ["lo"]]
    client.delete_function(FunctionName=name)
