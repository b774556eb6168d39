"""Finds the server's programs and starts them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from sundog.errors import Unavailable

PROGRAMS = ("sundog-server", "sundog-launcher", "sundog-data", "sundog-runtime-api")
NATIVE = "_native.abi3.so"
PYARROW = "26.0"


@dataclass(frozen=True)
class Binaries:
    """The server's programs in one folder, the Python files that instances run, and their extension module."""

    folder: Path
    runtime: Path
    native: Path

    @property
    def server(self) -> Path:
        return self.folder / "sundog-server"


def find_binaries(package: Path | None = None, variables: dict[str, str] | None = None) -> Binaries:
    """The programs: $SUNDOG_BIN_DIR, else those in the installed package, else a checkout's release build.

    Raises:
        Unavailable: They are nowhere; the hint says how to get them.
    """
    package = package or Path(__file__).resolve().parent
    environment = dict(os.environ) if variables is None else variables
    given = environment.get("SUNDOG_BIN_DIR")
    checkout = package.parent.parent
    places = [Path(given)] if given else [package / "bin", checkout / "build" / "release" / "bin"]
    for folder in places:
        if all(os.access(folder / program, os.X_OK) for program in PROGRAMS):
            # A wheel has the extension module in the package, a build beside its programs.
            runtime = package / "runtime"
            built = folder.resolve().parent / "python" / "sundog" / "runtime"
            native = (built if (built / NATIVE).is_file() else runtime) / NATIVE
            return Binaries(folder.resolve(), runtime, native)
    looked = " or ".join(str(place) for place in places)
    hint = (
        "Build them with ./dev build"
        if (checkout / "CMakeLists.txt").is_file()
        else "Install the package with: pip install ."
    )
    raise Unavailable(f"The server's programs ({', '.join(PROGRAMS)}) are not in {looked}.", hint)


def check_pyarrow() -> Path:
    """The folder of the pyarrow whose libraries the server uses.

    Raises:
        Unavailable: It is missing or another version than the server was built with.
    """
    import importlib.util

    try:
        found = metadata.version("pyarrow")
    except metadata.PackageNotFoundError:
        raise Unavailable("pyarrow is not installed.", f'Install it: pip install "pyarrow=={PYARROW}.*"') from None
    if not found.startswith(PYARROW + "."):
        raise Unavailable(
            f"pyarrow {found} is installed, but the server needs {PYARROW}.*: it links this wheel's libraries.",
            f'Install it: pip install "pyarrow=={PYARROW}.*"',
        )
    spec = importlib.util.find_spec("pyarrow")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def find_pythons() -> dict[str, str]:
    """Version → interpreter: this one, and every other python3.N (N of 9 or more) on PATH that starts."""
    this = f"{sys.version_info.major}.{sys.version_info.minor}"
    # A virtual environment's interpreter brings its packages along; functions get the plain one.
    base = getattr(sys, "_base_executable", None) or sys.executable
    found = {this: os.path.realpath(base)}
    others = {f"3.{minor}": shutil.which(f"python3.{minor}") for minor in range(9, 20)}
    paths = {version: path for version, path in others.items() if path is not None and version not in found}
    # At once: a version manager's shim may take a tenth of a second.
    with ThreadPoolExecutor(len(paths) or 1) as pool:
        started = dict(zip(paths, pool.map(_real_interpreter, paths.values()), strict=True))
    return found | {version: real for version, real in started.items() if real is not None}


def _real_interpreter(path: str) -> str | None:
    """What a name on PATH (a link, or the shim of a version manager) really starts; None if it does not start."""
    code = "import sys, os; print(os.path.realpath(getattr(sys, '_base_executable', None) or sys.executable))"
    try:
        done = subprocess.run([path, "-I", "-c", code], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def find_uv() -> str:
    """The uv program that builds environments."""
    try:
        import uv

        return os.fspath(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        on_path = shutil.which("uv")
        if on_path is None:
            raise Unavailable("uv is not installed; it builds environments.", "Install it: pip install uv") from None
        return on_path


def server_command(
    data: Path,
    host: str,
    port: int,
    *,
    binaries: Binaries,
    pythons: dict[str, str],
    uv: str,
    pyarrow: Path,
    log_level: str = "",
    no_metrics: bool = False,
    no_prebuild: bool = False,
    strict: bool = False,
    until_stdin_ends: bool = False,
) -> list[str]:
    """The server's command line."""
    command = [
        str(binaries.server),
        "--data",
        str(data),
        "--host",
        host,
        "--port",
        str(port),
        "--launcher",
        str(binaries.folder / "sundog-launcher"),
        "--data-worker",
        str(binaries.folder / "sundog-data"),
        "--runtime-api",
        str(binaries.folder / "sundog-runtime-api"),
        "--runtime",
        str(binaries.runtime),
        "--native",
        str(binaries.native),
    ]
    for version, path in pythons.items():
        command += ["--python", f"{version}={path}"]
    command += ["--uv", uv, "--pyarrow", str(pyarrow)]
    if log_level:
        command += ["--log-level", log_level]
    flags = {
        "--no-metrics": no_metrics,
        "--no-prebuild": no_prebuild,
        "--strict": strict,
        "--until-stdin-ends": until_stdin_ends,
    }
    return command + [flag for flag, given in flags.items() if given]


def this_machine_command(data: Path, host: str, port: int, **options: Any) -> list[str]:
    """The server's command line with everything that this machine has."""
    pyarrow = check_pyarrow()
    return server_command(
        data, host, port, binaries=find_binaries(), pythons=find_pythons(), uv=find_uv(), pyarrow=pyarrow, **options
    )


def announce_when_ready(data: Path, say: Callable[[str], None], within: float = 60.0) -> None:
    """For a process that becomes the server by exec: a process beside it says when it answers, and ends.

    Args:
        data: The server's data folder, whose client.json names its address.
        say: Gets the address.
        within: Seconds after which it gives up.
    """
    server, client = os.getpid(), data / "client.json"
    before = _written(client)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    if os.fork():  # not the server's child, so that the server need not reap it
        os._exit(0)
    try:
        os.setsid()  # Ctrl-C is for the server
        _wait_and_say(server, client, before, say, time.monotonic() + within)
    finally:
        os._exit(0)


def _written(path: Path) -> int:
    """When a file was written; 0 if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _wait_and_say(server: int, client: Path, before: int, say: Callable[[str], None], deadline: float) -> None:
    import httpx

    while time.monotonic() < deadline and Path(f"/proc/{server}").exists():
        if _written(client) == before:  # an earlier server's
            time.sleep(0.02)
            continue
        try:
            url = str(json.loads(client.read_text())["url"])
            if httpx.get(url + "/healthz", timeout=2.0, trust_env=False).status_code == 200:
                say(url)
                return
        except (OSError, ValueError, KeyError, httpx.HTTPError):
            pass  # not yet
        time.sleep(0.02)


class LocalServer:
    """A server that this process started on a port of its own, and ends again.

    Args:
        data: Its data folder.
        port: Its port; 0 takes a free one.
        outlives_us: It goes on when this process ends. Else it ends with this process, also when that is killed.
    """

    def __init__(self, data: Path, port: int = 0, *, outlives_us: bool = False) -> None:
        self.data = data
        self.url = ""
        self.log = data.with_name(data.name + ".log")
        self._client = data / "client.json"
        self._client.unlink(missing_ok=True)
        data.mkdir(parents=True, exist_ok=True)
        command = this_machine_command(data, "127.0.0.1", port, until_stdin_ends=not outlives_us)
        with self.log.open("ab") as log:
            # A group of its own: Ctrl-C in the terminal ends the client, which then ends the server in order.
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if outlives_us else subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(
        self,
        timeout: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> str:
        """Waits until it answers; gives the token of its first key.

        Raises:
            Unavailable: It ended, or does not answer in time; the message has the end of its log.
        """
        import httpx

        deadline = clock() + timeout
        while clock() < deadline:
            if self.process.poll() is not None:
                raise Unavailable(f"The server ended with status {self.process.returncode}:\n{self._log_end()}")
            try:
                client = json.loads(self._client.read_text())
                if httpx.get(client["url"] + "/healthz", timeout=2.0, trust_env=False).status_code == 200:
                    self.url = str(client["url"])
                    return str(client["token"])
            except (OSError, ValueError, httpx.HTTPError):
                pass  # not yet
            sleep(0.02)
        raise Unavailable(f"The server does not answer after {timeout:g} s:\n{self._log_end()}")

    def stop(self, grace: float = 15.0) -> None:
        """Asks it to drain and end; kills it if it has not after `grace` seconds."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _log_end(self) -> str:
        try:
            return self.log.read_text(errors="replace")[-3000:]
        except OSError:
            return ""
