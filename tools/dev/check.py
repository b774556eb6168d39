"""./dev check: format, lint, types, arrows, sizes, READMEs, links. Prints every finding, then fails once."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .build import build
from .steps import BUILD, PYTHON, ROOT, StepFailed, environment, say

LAYERS = ["base", "net", "store", "sandbox", "functions", "meter", "invoke", "data", "learn", "models", "api", "app"]
FILE_LIMIT = 800
FUNCTION_LIMIT = 80
TIDY_STAMPS = BUILD / "tidy"


def tracked(*patterns: str) -> list[Path]:
    """Files git knows (or would, once added), by pattern."""
    command = [
        "git",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        *patterns,
    ]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted(path for path in {ROOT / line for line in listed.stdout.splitlines()} if path.is_file())


def output_of(command: list[str | Path]) -> tuple[int, str]:
    """Runs a checker and gives its status and what it said."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def upward_includes() -> Iterator[str]:
    """An include of a module that stands higher than the file's own."""
    for path in tracked("server/**/*.h", "server/**/*.cc"):
        module = path.relative_to(ROOT / "server").parts[0]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = re.match(r'#include "([a-z]+)/', line)
            if found and found[1] in LAYERS and LAYERS.index(found[1]) > LAYERS.index(module):
                yield f"{path.relative_to(ROOT)}:{number}: {module} includes {found[1]}, which stands above it"
    for path in tracked("python/sundog/runtime/*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.match(r"\s*(from|import) (sundog(?!\.runtime)|\.\.)", line):
                yield f"{path.relative_to(ROOT)}:{number}: the runtime imports the SDK"


def long_files() -> Iterator[str]:
    """Files over FILE_LIMIT lines."""
    for path in tracked("*.h", "*.cc", "*.py", "*.ts", "*.tsx"):
        lines = len(path.read_text().splitlines())
        if lines > FILE_LIMIT:
            yield f"{path.relative_to(ROOT)}: {lines} lines, the limit is {FILE_LIMIT}"


def long_functions() -> Iterator[str]:
    """Functions over FUNCTION_LIMIT lines: Python by its own parser, C++ by indentation of what clang-format wrote."""
    import ast

    for path in tracked("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LIMIT:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {length} lines"
    opening = re.compile(r"^(?: {2})?[\w~:<&*\[\]].*[)>\w] (?:const |override |noexcept |final )*\{$|^[\w~].*\) \{$")
    for path in tracked("server/**/*.cc", "python/native/*.cc", "server/**/*.h"):
        begun: tuple[int, str] | None = None
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if begun and line == begun[1]:
                if number - begun[0] > FUNCTION_LIMIT:
                    yield f"{path.relative_to(ROOT)}:{begun[0]}: a function of {number - begun[0] + 1} lines"
                begun = None
            scope = re.match(r"\s*(?:namespace|class|struct|enum|extern|union)\b", line)
            if not begun and not scope and opening.match(line):
                begun = (number, " " * (len(line) - len(line.lstrip())) + "}")


def missing_readmes() -> Iterator[str]:
    """Modules without a README.md."""
    folders = [ROOT / "server" / layer for layer in LAYERS]
    folders += [
        ROOT / name
        for name in (
            "python/sundog",
            "python/sundog/runtime",
            "tools/dev",
            "tests",
            "bench",
            "protocol",
        )
    ]
    for folder in folders:
        if folder.is_dir() and not (folder / "README.md").exists():
            yield f"{folder.relative_to(ROOT)}: no README.md"


def broken_links() -> Iterator[str]:
    """Relative links in Markdown that lead nowhere."""
    for path in tracked("*.md"):
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
                yield f"{path.relative_to(ROOT)}: the link {target} leads nowhere"


def foreign_words() -> Iterator[str]:
    """Machine paths and product names that have no place in the project."""
    for path in tracked("*.md", "*.cc", "*.h", "*.py", "*.toml", "*.txt", "*.cmake", "*.json"):
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if re.search(r"/work/(main|shared)|/tmp/bash_jobs|/root/\.", line):
                yield f"{path.relative_to(ROOT)}:{number}: a path of one machine"


def unformatted() -> Iterator[str]:
    """What clang-format and ruff would change."""
    sources: list[str | Path] = [*tracked("server/**/*.h", "server/**/*.cc", "python/native/*.cc", "bench/*.cc")]
    if sources:
        status, text = output_of(["clang-format-19", "--dry-run", "--Werror", *sources])
        if status:
            files = sorted({line.split(":")[0] for line in text.splitlines() if "error:" in line})
            yield from (f"{Path(file).relative_to(ROOT)}: not formatted (./dev fmt)" for file in files)
    for words in (["format", "--check", "-q"], ["check", "-q"]):
        status, text = output_of([PYTHON, "-m", "ruff", *words, "."])
        if status:
            yield from text.splitlines()


def wrong_types() -> Iterator[str]:
    """mypy --strict over the SDK, the runtime and the tools."""
    for target in (["-p", "sundog"], ["-p", "dev"]):
        folder = "python" if target[1] == "sundog" else "tools"
        extra = environment({"MYPYPATH": str(ROOT / folder)})
        command = [str(PYTHON), "-m", "mypy", "--strict", "--no-error-summary", *target]
        done = subprocess.run(command, cwd=ROOT, env=extra, capture_output=True, text=True, check=False)
        if done.returncode:
            yield from (done.stdout + done.stderr).splitlines()


def tidy_one(entry: dict[str, str], headers: str) -> str:
    """clang-tidy on one file, unless this very content passed before."""
    source = Path(entry["file"])
    key = hashlib.sha256((headers + source.read_text() + entry["command"]).encode()).hexdigest()
    stamp = TIDY_STAMPS / key
    if stamp.exists():
        return ""
    status, text = output_of(["clang-tidy-19", "-p", BUILD / "release", "--quiet", source])
    if status == 0:
        stamp.touch()
        return ""
    return text


def tidy_findings() -> Iterator[str]:
    """clang-tidy with the checks of .clang-tidy, on two cores, only what changed since it last passed."""
    TIDY_STAMPS.mkdir(parents=True, exist_ok=True)
    entries = json.loads((BUILD / "release" / "compile_commands.json").read_text())
    own = [entry for entry in entries if "/server/" in entry["file"] and entry["file"].endswith(".cc")]
    digest = hashlib.sha256((ROOT / ".clang-tidy").read_bytes())
    for header in tracked("server/**/*.h"):
        digest.update(header.read_bytes())
    with ThreadPoolExecutor(2) as pool:
        for text in pool.map(lambda entry: tidy_one(entry, digest.hexdigest()), own):
            yield from (line for line in text.splitlines() if re.search(r"(warning|error):", line))


CHECKS = (
    upward_includes,
    long_files,
    long_functions,
    missing_readmes,
    broken_links,
    foreign_words,
    unformatted,
    wrong_types,
    tidy_findings,
)


def main() -> None:
    """./dev check."""
    build("release")
    findings = 0
    for check in CHECKS:
        found = sorted(set(check()))
        say(f"check {check.__name__.replace('_', ' ')}: {len(found) or 'none'}")
        for line in found:
            print("   ", line)
        findings += len(found)
    if findings:
        raise StepFailed(f"./dev check found {findings} things to mend.")
