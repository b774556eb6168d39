"""The command line of ./dev."""

from __future__ import annotations

import argparse
import os
import sys

from .steps import BUILD, PYTHON, ROOT, StepFailed, environment, say, step


def fmt() -> None:
    """./dev fmt: formats everything in place."""
    from . import check, setup

    setup.set_up()
    step("clang-format", ["clang-format-19", "-i", *check.cpp_sources()])
    step("ruff", [PYTHON, "-m", "ruff", "check", "-q", "--fix-only", "."])
    step("ruff format", [PYTHON, "-m", "ruff", "format", "-q", "."])


def run_sundog(words: list[str]) -> int:
    """Runs the checkout's own `sundog` command, on the release build."""
    from .build import build

    build("release", ["programs"])
    extra = {
        "PYTHONPATH": str(ROOT / "python"),
        "SUNDOG_BIN_DIR": str(BUILD / "release" / "bin"),
    }
    os.execvpe(str(PYTHON), [str(PYTHON), "-m", "sundog", *words], environment(extra))


def parser() -> argparse.ArgumentParser:
    """What ./dev understands."""
    top = argparse.ArgumentParser(prog="./dev", description="The one command for Sundog's developers.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    verbs.add_parser("setup", help="install Debian's packages and the virtual environment's")
    verb = verbs.add_parser("build", help="build one preset: release (default), debug, asan, tsan, fuzz")
    verb.add_argument("preset", nargs="?", default="release", help="release, debug, asan, tsan or fuzz")
    verb.add_argument("targets", nargs="*", help="Ninja targets; all, if none is named")
    verb = verbs.add_parser("test", help="the fast tests; --all: everything, as CI runs it; --soak: the long ones")
    chosen = verb.add_mutually_exclusive_group()
    chosen.add_argument("--all", action="store_true", dest="all_tests", help="everything, as CI runs it")
    chosen.add_argument(
        "--soak",
        nargs=argparse.REMAINDER,
        metavar="WORD",
        help="tests of minutes each, in a folder or by -k EXPRESSION; all of them, if nothing follows",
    )
    verbs.add_parser("check", help="format, lint, types, arrows, sizes, READMEs, links")
    verbs.add_parser("fmt", help="format everything in place")
    verb = verbs.add_parser("bench", help="measure the figures of docs/SPEC.md, beside their floors and their peers")
    verb.add_argument("names", nargs="*", help="programs of bench/; all, if none is named")
    verb.add_argument("--quick", action="store_true", help="a short run: fewer repetitions, figures less firm")
    verb.add_argument("--check", action="store_true", help="fail if a ratio is 20 %% worse than in bench/recorded.json")
    verb.add_argument("--record", action="store_true", help="write the ratios to bench/recorded.json")
    verb.add_argument("--write-docs", action="store_true", help="write docs/benchmarks.md with tables and plots")
    verb.add_argument("--flame", default="", metavar="NAME", help="only draw docs/benchmarks/flame_NAME.svg, with perf")
    verb = verbs.add_parser("demo", help="set up, build, and show the whole way on real data")
    verb.add_argument("words", nargs=argparse.REMAINDER)
    verb = verbs.add_parser("run", help="the checkout's own sundog command: ./dev run up")
    verb.add_argument("words", nargs=argparse.REMAINDER)
    return top


def dispatch(asked: argparse.Namespace) -> int:
    """Calls what was asked for; modules are loaded only when needed."""
    from . import bench, build, check, setup, test

    match asked.verb:
        case "setup":
            setup.main()
        case "build":
            build.main(asked.preset, asked.targets)
        case "test":
            test.main(asked.all_tests, asked.soak)
        case "check":
            check.main()
        case "fmt":
            fmt()
        case "bench":
            bench.main(bench.Asked(asked.names, asked.quick, asked.check, asked.record, asked.write_docs, asked.flame))
        case "demo":
            return run_sundog(["demo", *asked.words])
        case "run":
            return run_sundog(asked.words or ["--help"])
    return 0


def main(words: list[str]) -> int:
    """Entry: 0 if all went well, 1 with one sentence if not, 130 on Ctrl-C."""
    try:
        return dispatch(parser().parse_args(words))
    except StepFailed as failure:
        say(f"failed: {failure}")
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
