"""What the benchmarks install for themselves, below build/bench: virtual environments from PyPI and nginx from Debian."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import handlers

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "bench"
COMMON = (*handlers.SCIKIT_LEARN, handlers.ONNXRUNTIME[0])
OWN = (*COMMON, "onnx==1.23.2", "matplotlib==3.11.2")


class NotInstalled(Exception):
    """Its text says what could not be had."""


def _run(command: list[str], timeout: float, **options: object) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        raise NotInstalled(f"{Path(command[0]).name} {' '.join(command[1:3])} …: {done.stderr.strip()[-400:]}")


def venv(name: str, packages: tuple[str, ...], timeout: float = 900) -> Path:
    """The interpreter of a virtual environment with these packages; made once for each list of them."""
    import uv

    folder = FOLDER / "venv" / name
    python = folder / "bin" / "python"
    stamp = folder / "packages.sha256"
    wanted = hashlib.sha256("\n".join(packages).encode()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    tool = uv.find_uv_bin()
    shutil.rmtree(folder, ignore_errors=True)
    print(f"installing {', '.join(packages)} …", flush=True)
    _run([tool, "venv", "-q", "--python", sys.executable, str(folder)], 120)
    environment = {**os.environ, "VIRTUAL_ENV": str(folder)}
    _run([tool, "pip", "install", "-q", "--python", str(python), *packages], timeout, env=environment)
    stamp.write_text(wanted)
    return python


def own_python() -> Path:
    """With the libraries of the measured functions: for floors, fresh processes, models and plots."""
    return venv("own", OWN)


def models() -> Path:
    """The folder with model.pkl and model.onnx."""
    folder = FOLDER / "models"
    if not all((folder / name).exists() for name in ("model.pkl", "model.onnx")):
        folder.mkdir(parents=True, exist_ok=True)
        _run([str(own_python()), str(Path(handlers.__file__)), str(folder)], 120)
    return folder


def nginx() -> Path:
    """nginx of this Debian, unpacked and not installed: nothing of the system changes."""
    program = FOLDER / "nginx" / "usr" / "sbin" / "nginx"
    if program.exists():
        return program
    if shutil.which("apt-get") is None:
        raise NotInstalled("There is no apt-get to download nginx with.")
    folder = FOLDER / "nginx"
    folder.mkdir(parents=True, exist_ok=True)
    _run(["apt-get", "download", "-q", "nginx"], 120, cwd=folder)
    for archive in folder.glob("nginx_*.deb"):
        _run(["dpkg-deb", "-x", str(archive), str(folder)], 60)
    if not program.exists():
        raise NotInstalled("Debian's package nginx holds no /usr/sbin/nginx.")
    return program
