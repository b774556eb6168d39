"""./dev setup: Debian's packages, the virtual environment and its wheels. Does only what is missing."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys

from .steps import PYTHON, ROOT, VENV, StepFailed, say, step

APT_LIST = ROOT / "tools/dev/apt-packages.txt"
REQUIREMENTS = ROOT / "tools/dev/requirements.txt"
STAMP = VENV / "sundog-requirements.sha256"


def missing_debian_packages() -> list[str]:
    """Names in apt-packages.txt that dpkg does not have installed."""
    wanted = APT_LIST.read_text().split()
    if shutil.which("dpkg-query") is None:
        raise StepFailed("This is no Debian: install what tools/dev/apt-packages.txt names by hand.")
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", *wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    present = {line.split()[0] for line in asked.stdout.splitlines() if line.split()[1:2] == ["ii"]}
    return [name for name in wanted if name not in present]


def install_debian_packages() -> None:
    """Installs what is missing, as root or with sudo."""
    missing = missing_debian_packages()
    if not missing:
        return
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    if sudo and shutil.which("sudo") is None:
        raise StepFailed("Installing Debian packages needs root or sudo: " + " ".join(missing))
    apt = {"DEBIAN_FRONTEND": "noninteractive"}
    hint = "Is the package registry reachable?"
    step(
        "refreshing Debian's package lists",
        [*sudo, "apt-get", "update", "-q"],
        extra=apt,
        hint=hint,
        quiet=True,
    )
    command = [
        *sudo,
        "apt-get",
        "install",
        "-y",
        "-q",
        "--no-install-recommends",
        *missing,
    ]
    step(
        f"installing {len(missing)} Debian packages",
        command,
        extra=apt,
        hint=hint,
        quiet=True,
    )


def install_python_packages() -> None:
    """Makes .venv and installs requirements.txt into it, unless that very list is installed already."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == wanted and PYTHON.exists():
        return
    if not PYTHON.exists():
        step(
            "making the virtual environment .venv",
            [sys.executable, "-m", "venv", VENV],
            quiet=True,
        )
    step(
        "installing Python packages",
        [PYTHON, "-m", "pip", "install", "-q", "-r", REQUIREMENTS],
        hint="Is the package registry reachable?",
        quiet=True,
    )
    STAMP.write_text(wanted)


def set_up() -> None:
    """Everything a build needs."""
    install_debian_packages()
    install_python_packages()


def main() -> None:
    """./dev setup."""
    set_up()
    say("set up; next: ./dev build")
