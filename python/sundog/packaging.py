"""Turns a function into the zip that the server runs. The same code gives the same bytes, and so the same SHA-256.

A decorated function travels as a cloudpickle *by value* (`sundog_function.pkl`), so that a script or a notebook can deploy it
without being a package. `sundog.json` says what the pickle is. For a plain function, `sundog_entry.py` calls it; cloudpickle
itself (pure Python) travels along, so that such a package needs no environment and runs on AWS Lambda too.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import io
import json
import os
import pickle
import re
import sys
import threading
import types
import zipfile
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sundog.app import this_python
from sundog.errors import InvalidArgument, TooLarge

if TYPE_CHECKING:
    from sundog.app import Function

PICKLE = "sundog_function.pkl"
MANIFEST = "sundog.json"
ZIP_LIMIT = 50 << 20
TRAINING_HANDLER = "sundog.runtime.training.handler"
ENTRY_HANDLER = "sundog_entry.handler"
_SKIPPED = {"__pycache__", ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", "node_modules", ".DS_Store"}

_PICKLING = threading.RLock()

_ENTRY = '''"""Calls the function that was sent along. Written by the Sundog SDK."""
import os
import pickle

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "sundog_function.pkl"), "rb") as file:
    function = pickle.load(file)


def handler(event, context):
    %s
'''
_AS_FUNCTION = """if isinstance(event, dict) and event and set(event) <= {"args", "kwargs"}:
        return function(*event.get("args", ()), **event.get("kwargs", {}))
    if isinstance(event, dict):
        return function(**event)
    return function(*event) if isinstance(event, list) else function(event)"""
_AS_HANDLER = "return function(event, context)"


class Package:
    """The bytes of a zip and how they are started."""

    def __init__(self, content: bytes, handler: str) -> None:
        if len(content) > ZIP_LIMIT:
            raise TooLarge(
                f"The package has {len(content) / 1e6:.0f} MB; the limit is 50 MB.", "Put packages into an Environment."
            )
        self.content = content
        self.handler = handler

    @property
    def sha256(self) -> str:
        """As Lambda shows it: base64."""
        return base64.b64encode(hashlib.sha256(self.content).digest()).decode()

    @property
    def sha256_hex(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def package_function(function: Function[..., Any]) -> Package:
    """The package of a decorated function."""
    environment = function.settings.environment
    if environment is not None and environment.python != this_python():
        raise InvalidArgument(
            f"{function.name} is sent as a pickle of Python {this_python()}, but its environment has {environment.python}.",
            "Leave out python=, or deploy a folder: cloud.functions.deploy_folder(…).",
        )
    files = dict(included_files(function.settings.include))
    files[PICKLE] = pickle_by_value(function.call, skip=include_names(function.settings.include))
    files[MANIFEST] = json.dumps({"function": {"pickle": PICKLE}}, sort_keys=True).encode()
    if function.kind == "training":
        return Package(zip_bytes(files), TRAINING_HANDLER)
    files["sundog_entry.py"] = (_ENTRY % (_AS_HANDLER if function.is_handler else _AS_FUNCTION)).encode()
    files.update(_cloudpickle_files())
    return Package(zip_bytes(files), ENTRY_HANDLER)


def package_folder(folder: str | Path, handler: str) -> Package:
    """The package of a folder (or of one .py file) as Lambda takes it; `handler` is "module.function"."""
    path = Path(folder)
    if not path.exists():
        raise InvalidArgument(f"There is no {path}.")
    if path.is_file() and path.suffix == ".zip":
        return Package(path.read_bytes(), handler)
    files = {path.name: path.read_bytes()} if path.is_file() else dict(_folder_files(path, ""))
    if not files:
        raise InvalidArgument(f"{path} holds no files.")
    return Package(zip_bytes(files), handler)


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """A zip of these files: sorted, with one fixed date and mode, so that equal files give equal bytes."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])
    return target.getvalue()


def pickle_by_value(value: Any, skip: Iterable[str] = ()) -> bytes:
    """A cloudpickle of a function, class or object in which its own module's code travels along.

    Deterministic: file names are cut to their last part, and the random marks that cloudpickle gives to classes are
    replaced by ones derived from the content. Modules named in `skip` are left as imports.
    """
    import cloudpickle

    skipped = set(skip)
    with contextlib.ExitStack() as stack:
        for module in _local_modules(value):
            if module.__name__.partition(".")[0] not in skipped:
                cloudpickle.register_pickle_by_value(module)
                stack.callback(cloudpickle.unregister_pickle_by_value, module)
        stack.enter_context(_short_file_name(value))
        target = io.BytesIO()
        try:
            _pickler_class()(target, protocol=5).dump(value)
        except (pickle.PicklingError, TypeError) as error:
            name = getattr(value, "__name__", type(value).__name__)
            raise InvalidArgument(
                f"{name} cannot be sent: {error}.",
                "Create such objects (locks, files, connections) inside the function.",
            ) from error
    return _steady_marks(target.getvalue())


@contextlib.contextmanager
def _short_file_name(value: Any) -> Iterator[None]:
    """Cuts `__file__` of the value's module to its last part meanwhile: cloudpickle sends it along."""
    owner = value if hasattr(value, "__qualname__") else type(value)
    module = sys.modules.get(getattr(owner, "__module__", "") or "")
    names = getattr(value, "__globals__", None) or getattr(module, "__dict__", {})
    with _PICKLING:
        full = names.get("__file__")
        if isinstance(full, str):
            names["__file__"] = Path(full).name
        try:
            yield
        finally:
            if isinstance(full, str):
                names["__file__"] = full


def _pickler_class() -> Any:
    import cloudpickle

    def reduce_code(code: types.CodeType) -> Any:
        short = code.replace(co_filename=Path(code.co_filename).name)
        return cloudpickle.Pickler.dispatch_table[types.CodeType](short)

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        dispatch_table: ClassVar[Any] = ChainMap({types.CodeType: reduce_code}, cloudpickle.Pickler.dispatch_table)

    return Pickler


def _steady_marks(content: bytes) -> bytes:
    """Replaces the random 32-digit marks of classes by marks that follow from the rest of the content."""
    import cloudpickle.cloudpickle as implementation

    marks = {mark.encode() for mark in getattr(implementation, "_DYNAMIC_CLASS_TRACKER_BY_CLASS", {}).values()}
    found: list[bytes] = []
    for match in re.finditer(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", content):
        if match.group() in marks and match.group() not in found:
            found.append(match.group())
    plain = content
    for index, mark in enumerate(found):
        plain = plain.replace(mark, b"%032x" % index)
    seed = hashlib.sha256(plain).digest()
    for index, mark in enumerate(found):
        steady = hashlib.sha256(seed + index.to_bytes(4, "little")).hexdigest()[:32].encode()
        content = content.replace(mark, steady)
    return content


def _local_modules(value: Any) -> Iterator[types.ModuleType]:
    """The module of a function or marked class; that of another object's class, unless it is an installed one."""
    owner = value if hasattr(value, "__qualname__") else type(value)
    module = sys.modules.get(getattr(owner, "__module__", "") or "")
    if module is None or module.__name__ == "__main__":
        return
    if isinstance(value, types.FunctionType) or hasattr(owner, "__sundog_environment__") or not _installed(module):
        yield module


def _installed(module: types.ModuleType) -> bool:
    path = getattr(module, "__file__", None)
    return (
        path is None
        or any(part in ("site-packages", "dist-packages") for part in Path(path).parts)
        or (Path(path).is_relative_to(Path(os.__file__).parent))
    )


def include_names(include: Iterable[str]) -> set[str]:
    """The top-level modules that `include` brings along."""
    return {name.split("/")[0].removesuffix(".py") for name, _ in included_files(include)}


def included_files(include: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The files of what `include=` names: an importable module or package, a file, or a folder."""
    for item in include:
        path = Path(item)
        if path.is_file():
            yield path.name, path.read_bytes()
        elif path.is_dir():
            yield from _folder_files(path, path.name + "/")
        else:
            yield from _module_files(item)


def _module_files(name: str) -> Iterator[tuple[str, bytes]]:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not (spec.origin or spec.submodule_search_locations):
        raise InvalidArgument(f"include: {name!r} is no module, file or folder here.")
    if spec.submodule_search_locations:
        folder = Path(next(iter(spec.submodule_search_locations)))
        yield from _folder_files(folder, name.replace(".", "/") + "/")
    elif spec.origin:
        yield name.replace(".", "/") + ".py", Path(spec.origin).read_bytes()


def _folder_files(folder: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        skipped = path.is_symlink() or path.suffix == ".pyc" or _SKIPPED.intersection(relative.parts)
        if path.is_file() and not skipped:
            yield prefix + relative.as_posix(), path.read_bytes()


def _cloudpickle_files() -> Iterator[tuple[str, bytes]]:
    import cloudpickle

    folder = Path(cloudpickle.__file__).parent
    return ((f"cloudpickle/{path.name}", path.read_bytes()) for path in sorted(folder.glob("*.py")))
