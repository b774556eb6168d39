"""./dev test: the fast tests. --all: everything, as CI runs it. --soak: what takes minutes each."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .build import build
from .steps import BUILD, PYTHON, ROOT, StepFailed, say, step

FUZZ_SECONDS = 60
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "second_deadlock_stack=1",
}
THREADED = ("net_test", "store_test", "invoke_test", "learn_test")


def unit_tests(preset: str, names: tuple[str, ...] = ()) -> None:
    """The C++ tests that stand beside the code: all, or those of `names`."""
    command: list[str | Path] = [
        "ctest",
        "--test-dir",
        BUILD / preset,
        "--output-on-failure",
        "--timeout",
        "300",
        "-j2",
    ]
    if names:
        command += ["-R", f"^({'|'.join(names)})$"]
    step(f"C++ unit tests ({preset})", command, extra=SANITIZERS)


def pytest(title: str, *words: str) -> None:
    """Python tests against the release build; pytest's own closing line is the last one."""
    command: list[str | Path] = [PYTHON, "-m", "pytest", *words]
    step(title, command, extra={"SUNDOG_BIN_DIR": str(BUILD / "release" / "bin")}, closing=False)


def fuzz_one(fuzzer: Path, seconds: int) -> None:
    """One fuzzer for `seconds`, from its seeds and from what earlier runs found."""
    corpus = BUILD / "fuzz" / "corpus" / fuzzer.name
    corpus.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048"]
    quiet = ["-verbosity=0", f"-artifact_prefix={corpus.parent}/{fuzzer.name}-"]
    seeds = ROOT / "tests" / "fuzz" / fuzzer.name
    folders = [corpus, *([seeds] if seeds.is_dir() else [])]
    command: list[str | Path] = [fuzzer, *limits, *quiet, *folders]
    step(f"fuzzing {fuzzer.name} for {seconds} s", command, quiet=True, extra=SANITIZERS, timeout=seconds + 120)


def fuzz(seconds: int) -> None:
    """Every fuzzer for `seconds`, two at a time; a finding fails, and its input stays beside the corpus."""
    build("fuzz")
    fuzzers = sorted(path for path in (BUILD / "fuzz/server").rglob("*_fuzz") if path.is_file())
    if not fuzzers:
        raise StepFailed("No fuzzer was built.")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda fuzzer: fuzz_one(fuzzer, seconds), fuzzers))


def fast() -> None:
    """Under a minute once built."""
    build("release")
    unit_tests("release")
    pytest("Python unit tests", "tests/python")


def everything() -> None:
    """All tests, with sanitizers, faults, security, fuzzers and the example."""
    began = time.monotonic()
    # The unit tests' programs are built, and run, with sanitizers only.
    build("release", ["programs", "seal_test"])
    build("asan")
    unit_tests("asan")
    unit_tests(
        "release", ("seal_test",)
    )  # what the sealed programs of the release let through, without a sanitizer's doing
    build("tsan", list(THREADED))
    unit_tests("tsan", THREADED)
    fuzz(FUZZ_SECONDS)
    say(f"C++ passed, {(time.monotonic() - began) / 60:.1f} min so far; what follows is against the real programs")
    # They wait more than they compute: two files at once, each with servers of their own.
    together = ["-n", "2", "--dist", "loadfile", "--durations=20", "--durations-min=4"]
    pytest("Python, end-to-end, compatibility, security and fault tests", *together)


def soak(words: list[str]) -> None:
    """What is marked `soak`, and nothing else: in `words` (folders, files, -k EXPRESSION), or everywhere."""
    build("release")
    # The tests' own output is their progress; each names its own time limit if an hour is too short.
    pytest("soak tests", "-m", "soak", "-v", "-s", "-o", "timeout=3600", *words)


def main(all_tests: bool, soak_words: list[str] | None) -> None:
    """./dev test [--all | --soak [WORD…]]."""
    if soak_words is not None:
        soak(soak_words)
    elif all_tests:
        everything()
    else:
        fast()
