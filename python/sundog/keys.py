"""API keys: who may do what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from sundog.transport import Json, Request, Transport, items

Role = Literal["viewer", "invoker", "deployer", "admin"]


@dataclass(frozen=True)
class Key:
    """A key. `token` (bearer) and `secret` (Signature V4, with `id` as the access key) are known at its creation only."""

    id: str
    role: str
    tenant: str
    name: str
    created: str
    last_used: str = ""
    revoked: bool = False
    token: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)


def parse_key(json: Json) -> Key:
    return Key(
        id=json["id"],
        role=json.get("role") or "",
        tenant=json.get("tenant") or "",
        name=json.get("name") or "",
        created=json.get("created") or "",
        last_used=json.get("last_used") or "",
        revoked=bool(json.get("revoked")),
        token=json.get("token") or "",
        secret=json.get("secret") or "",
    )


class Keys:
    """The keys of this server; for admins."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, role: Role, *, name: str = "", tenant: str = "") -> Key:
        """Makes a key; its token and secret are in the answer and never shown again."""
        body = {"role": role, **({"name": name} if name else {}), **({"tenant": tenant} if tenant else {})}
        return parse_key(self._transport.call(Request("POST", "/v1/keys", body=body)))

    def list(self) -> Iterator[Key]:
        return (parse_key(key) for key in items(self._transport, "/v1/keys"))

    def revoke(self, key_id: str) -> None:
        self._transport.call(Request("DELETE", f"/v1/keys/{quote(key_id)}"))
