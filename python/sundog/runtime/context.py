"""The context object that a handler gets beside its event, as Lambda's."""

from __future__ import annotations

import json
import os
import time
from functools import cached_property
from typing import Any


class CognitoIdentity:
    cognito_identity_id: str | None = None
    cognito_identity_pool_id: str | None = None


class Client:
    def __init__(self, fields: dict[str, Any]) -> None:
        self.installation_id = fields.get("installation_id")
        self.app_title = fields.get("app_title")
        self.app_version_name = fields.get("app_version_name")
        self.app_version_code = fields.get("app_version_code")
        self.app_package_name = fields.get("app_package_name")


class ClientContext:
    def __init__(self, fields: dict[str, Any]) -> None:
        self.custom = fields.get("custom")
        self.env = fields.get("env")
        client = fields.get("client")
        self.client = Client(client) if isinstance(client, dict) else None


class Context:
    """One invocation. `meta` is for Sundog's own handlers and None in a user's."""

    def __init__(
        self,
        request_id: str,
        deadline_ms: int,
        arn: str,
        name: str,
        version: str,
        memory_mb: int,
        client_context: str,
        meta: str,
    ) -> None:
        self.aws_request_id = request_id
        self.function_name = name
        self.function_version = version
        self.invoked_function_arn = arn
        self.memory_limit_in_mb = str(memory_mb)
        self.client_context: ClientContext | None = None
        self.meta: Any = json.loads(meta) if meta else None
        self._deadline_ms = deadline_ms
        if client_context:
            fields = json.loads(client_context)
            if isinstance(fields, dict):
                self.client_context = ClientContext(fields)

    @cached_property
    def identity(self) -> CognitoIdentity:
        return CognitoIdentity()

    @cached_property
    def log_group_name(self) -> str:
        return os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/" + self.function_name)

    @cached_property
    def log_stream_name(self) -> str:
        return os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME", self.function_version)

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def log(self, message: str) -> None:
        print(message)

    def __repr__(self) -> str:
        return f"<Context {self.function_name}:{self.function_version} request {self.aws_request_id}>"
