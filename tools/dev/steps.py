"""Running one step: shown before it starts, timed, and one clear sentence when it fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"


class StepFailed(Exception):
    """A step did not work; its text is what the developer is told."""


def say(text: str) -> None:
    """Prints a line that stands out from a tool's own output."""
    colour = ("\033[1;36m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"{colour[0]}[dev] {text}{colour[1]}", flush=True)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every step: ccache shared between build folders, the virtual environment first on the path."""
    merged = dict(os.environ)
    merged.setdefault("CCACHE_BASEDIR", str(ROOT))
    merged.setdefault(
        "CCACHE_SLOPPINESS",
        "pch_defines,time_macros,include_file_mtime,include_file_ctime",
    )
    merged["PATH"] = f"{VENV / 'bin'}:{merged.get('PATH', '')}"
    merged.update(extra or {})
    return merged


def step(
    title: str,
    command: Sequence[str | Path],
    *,
    hint: str = "",
    extra: Mapping[str, str] | None = None,
    quiet: bool = False,
    timeout: float | None = None,
    closing: bool = True,
) -> None:
    """Runs one command.

    Args:
        title: What it does, in words, shown before it starts.
        command: The program and its arguments.
        hint: What to do if it fails.
        extra: Environment variables to add.
        quiet: Show its output only if it fails.
        timeout: Seconds after which it is killed.
        closing: Say how long it took; False leaves the last word to the program.

    Raises:
        StepFailed: It could not be started, ended with another status than 0, or ran out of time.
    """
    say(f"{title} …")
    began = time.monotonic()
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=ROOT,
            env=environment(extra),
            check=False,
            timeout=timeout,
            stdout=subprocess.PIPE if quiet else None,
            stderr=subprocess.STDOUT if quiet else None,
            text=True,
        )
    except FileNotFoundError as error:
        raise StepFailed(f"{title}: there is no program {words[0]}. {hint or 'Run ./dev setup first.'}") from error
    except subprocess.TimeoutExpired as error:
        raise StepFailed(f"{title}: not done after {timeout:.0f} s. {hint}") from error
    if done.returncode != 0:
        if quiet:
            print(done.stdout[-8000:])
        raise StepFailed(f"{title}: {words[0]} ended with status {done.returncode}. {hint}")
    if closing:
        say(f"{title}: {time.monotonic() - began:.1f} s")
