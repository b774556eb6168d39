"""./dev test: the fast tests. ./dev test --all: everything, as CI runs it."""

from __future__ import annotations

import time
from pathlib import Path

from .build import build
from .steps import BUILD, PYTHON, ROOT, StepFailed, say, step

FUZZ_SECONDS = 60


def unit_tests(preset: str) -> None:
    """The C++ tests that stand beside the code."""
    options = {
        "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "second_deadlock_stack=1",
    }
    command = [
        "ctest",
        "--test-dir",
        BUILD / preset,
        "--output-on-failure",
        "--timeout",
        "300",
        "-j",
        "2",
    ]
    step(f"C++ unit tests ({preset})", command, extra=options)


def pytest(title: str, *folders: str, options: tuple[str, ...] = ()) -> None:
    """Python tests against the release build."""
    command = [PYTHON, "-m", "pytest", "-q", "-x", "--timeout=300", *options, *folders]
    step(title, command, extra={"SUNDOG_BIN_DIR": str(BUILD / "release" / "bin")})


def fuzz(seconds: int) -> None:
    """Every fuzzer for `seconds`, two at a time; a finding fails."""
    build("fuzz")
    fuzzers = sorted(path for path in (BUILD / "fuzz").rglob("*_fuzz") if path.is_file())
    if not fuzzers:
        raise StepFailed("No fuzzer was built.")
    for fuzzer in fuzzers:
        corpus = BUILD / "fuzz" / "corpus" / fuzzer.name
        corpus.mkdir(parents=True, exist_ok=True)
        seeds = ROOT / "tests" / "fuzz" / fuzzer.name
        command: list[str | Path] = [
            fuzzer,
            f"-max_total_time={seconds}",
            "-timeout=10",
            "-rss_limit_mb=2048",
        ]
        command += [
            "-print_final_stats=0",
            "-verbosity=0",
            f"-artifact_prefix={corpus.parent}/",
            corpus,
        ]
        if seeds.is_dir():
            command.append(seeds)
        step(
            f"fuzzing {fuzzer.name} for {seconds} s",
            command,
            quiet=True,
            timeout=seconds + 120,
        )


def fast() -> None:
    """Under a minute once built."""
    build("release")
    unit_tests("release")
    pytest("Python unit tests", "tests/python")


def everything() -> None:
    """All tests, with sanitizers, faults, security, fuzzers and the example."""
    began = time.monotonic()
    build("release")
    build("asan")
    unit_tests("asan")
    build("tsan", ["net_test", "store_test", "invoke_test"])
    options = {"TSAN_OPTIONS": "second_deadlock_stack=1"}
    for name in ("net", "store", "invoke"):
        step(
            f"{name}_test under the thread sanitizer",
            [BUILD / "tsan/server" / name / f"{name}_test"],
            extra=options,
        )
    fuzz(FUZZ_SECONDS)
    pytest(
        "Python, end-to-end, compatibility, security and fault tests",
        "tests/python",
        "tests/e2e",
        "tests/compat",
        "tests/security",
        "tests/faults",
    )
    say(f"everything passed in {(time.monotonic() - began) / 60:.1f} min")


def main(all_tests: bool) -> None:
    """./dev test [--all]."""
    if all_tests:
        everything()
    else:
        fast()
