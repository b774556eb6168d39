"""Hostile, broken and empty zips through CreateFunction: refused with a reason, nothing written, the server goes on."""

from __future__ import annotations

import io
import stat
import struct
import uuid
import zipfile
from collections.abc import Callable, Iterable

import pytest
from botocore.exceptions import ClientError

from harness import Server

Entry = tuple[zipfile.ZipInfo | str, bytes]


def zipped(*entries: Entry) -> bytes:
    """A zip of these entries, whatever their names and types are."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return memory.getvalue()


def of_type(name: str, kind: int, content: bytes) -> Entry:
    """An entry that says it is a symlink, a device or a pipe."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3  # Unix: the type stands in the upper half of the external attributes
    info.external_attr = (kind | 0o777) << 16
    return info, content


def lying(content: bytes) -> bytes:
    """A zip whose directory says that its one entry is short, while its data is not."""
    whole = bytearray(zipped(("app.py", content)))
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", whole, whole.index(signature) + at, 10)
    return bytes(whole)


HANDLER: Entry = ("app.py", b"def handler(event, context):\n    return event")
HOSTILE = {
    "path traversal": (zipped(HANDLER, ("../../outside.py", b"x = 1")), "outside.py"),
    "absolute path": (zipped(HANDLER, ("/outside.py", b"x = 1")), "outside.py"),
    "path traversal inside": (zipped(HANDLER, ("a/../../outside.py", b"x = 1")), "outside.py"),
    "backslashes": (zipped(HANDLER, ("..\\outside.py", b"x = 1")), "outside.py"),
    "symlink": (zipped(HANDLER, of_type("link", stat.S_IFLNK, b"/etc/passwd")), "symbolic link"),
    "symlink to write through": (zipped(of_type("d", stat.S_IFLNK, b"/tmp"), ("d/outside.py", b"x = 1")), "link"),
    "device": (zipped(HANDLER, of_type("null", stat.S_IFCHR, b"")), "device"),
    "bomb": (zipped(HANDLER, *((f"zeros{n}", bytes(64 << 20)) for n in range(5))), "unpacks to more than"),
    "lying size": (lying(b"#" * 100_000), ""),
    "many entries": (zipped(HANDLER, *((f"f{n}", b"") for n in range(60_000))), "entries"),
    "file twice": (zipped(HANDLER, HANDLER), "twice"),
    "no entries": (zipped(), ""),
    "only folders": (zipped(("empty/", b"")), "no file"),
    "garbage": (b"this is not a zip" * 100, "zip"),
    "half": (zipped(HANDLER)[:-30], "zip"),
    "no bytes": (b"", ""),
}


def outside(server: Server) -> Iterable[object]:
    """Whatever a package wrote where it must not."""
    return [*server.data.rglob("outside.py"), *server.data.parent.glob("outside.py")]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_zip(server: Server, name: str) -> None:
    content, words = HOSTILE[name]
    function = f"zip-{uuid.uuid4().hex[:8]}"
    before = sorted((server.data / "code").iterdir()) if (server.data / "code").exists() else []
    with pytest.raises(ClientError) as refused:
        server.deploy(content, FunctionName=function)
    error = refused.value.response
    assert error["Error"]["Code"] == "InvalidParameterValueException", error
    assert words in error["Error"]["Message"]
    assert len(error["Error"]["Message"]) > 20
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        server.boto3().get_function(FunctionName=function)
    after = sorted((server.data / "code").iterdir()) if (server.data / "code").exists() else []
    assert after == before, "something half-unpacked was left"
    assert not outside(server)


def test_a_pipe_is_unpacked_as_a_plain_file(server: Server) -> None:
    """Info-ZIP marks what it read from a pipe so; libarchive gives it as the file that it is."""
    server.deploy(zipped(HANDLER, of_type("pipe-or-file", stat.S_IFIFO, b"")))
    (unpacked,) = server.data.rglob("pipe-or-file")
    assert stat.S_ISREG(unpacked.stat().st_mode)


def test_a_good_zip_after_them(server: Server, package: Callable[..., bytes]) -> None:
    good = server.deploy(package(app="def handler(event, context):\n    return event"))
    assert server.boto3().invoke(FunctionName=good, Payload=b"7")["Payload"].read() == b"7"
