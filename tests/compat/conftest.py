"""What the compatibility tests share: boto3's client, and functions that go with the test."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness import Server

ECHO = "def handler(event, context):\n    return {'event': event, 'version': context.function_version}\n"


@pytest.fixture(scope="session")
def lambda_client(server: Server) -> Any:
    """boto3's client with the first key."""
    return server.boto3()


@pytest.fixture
def deployed(server: Server, lambda_client: Any, package: Callable[..., bytes]) -> Iterator[Callable[..., str]]:
    """Creates functions from a source and gives their names once they are settled; deletes them after the test."""
    made: list[str] = []

    def create(source: str = ECHO, *, wait: bool = True, **settings: Any) -> str:
        name = settings.pop("FunctionName", f"compat-{uuid.uuid4().hex[:12]}")
        made.append(name)
        return server.deploy(package(app=source), FunctionName=name, wait=wait, **settings)

    yield create
    for name in made:
        with contextlib.suppress(lambda_client.exceptions.ResourceNotFoundException):
            lambda_client.delete_function(FunctionName=name)
