"""./dev check: format, lint, types, arrows, sizes, READMEs, links. Prints every finding, then fails once."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .build import build
from .cpp_functions import functions
from .steps import BUILD, PYTHON, ROOT, VENV, StepFailed, environment, say

LAYERS = ["base", "net", "store", "sandbox", "functions", "meter", "invoke", "data", "learn", "models", "api", "app"]
FILE_LIMIT = 800
FUNCTION_LIMIT = 80
TIDY_PRESET = "release"
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


def name_of(path: Path) -> str:
    """As a finding names a file."""
    return str(path.relative_to(ROOT))


def output_of(command: list[str | Path]) -> tuple[int, str]:
    """Runs a checker and gives its status and what it said."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def upward_includes() -> Iterator[str]:
    """An include of a module that stands higher than the file's own; an import of the SDK in the runtime."""
    for path in tracked("server/**/*.h", "server/**/*.cc"):
        module = path.relative_to(ROOT / "server").parts[0]
        if module not in LAYERS:
            yield f"{name_of(path)}: {module} is no module of CONTRIBUTING.md's first rule"
            continue
        above = LAYERS[LAYERS.index(module) + 1 :]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = re.match(r'\s*#\s*include "([a-z]+)/', line)
            if found and found[1] in above:
                yield f"{name_of(path)}:{number}: {module} includes {found[1]}, which stands above it"
    for path in tracked("python/sundog/runtime/*.py"):
        for number, name in imports(path):
            if name.split(".")[0] == "sundog" and not f"{name}.".startswith("sundog.runtime."):
                yield f"{name_of(path)}:{number}: the runtime imports the SDK"


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of all that a file of the runtime imports, within functions too."""
    package = path.relative_to(ROOT / "python").parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{name.name}") for name in node.names)


def long_files() -> Iterator[str]:
    """Files over FILE_LIMIT lines."""
    for path in tracked("*.h", "*.cc", "*.py", "*.ts", "*.tsx"):
        lines = len(path.read_text().splitlines())
        if lines > FILE_LIMIT:
            yield f"{name_of(path)}: {lines} lines, the limit is {FILE_LIMIT}"


def long_functions() -> Iterator[str]:
    """Functions over FUNCTION_LIMIT lines."""
    for path in tracked("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LIMIT:
                    yield f"{name_of(path)}:{node.lineno}: {node.name} has {length} lines"
    for path in tracked("*.cc", "*.h"):
        for first, last in functions(path.read_text()):
            if last - first >= FUNCTION_LIMIT:
                yield f"{name_of(path)}:{first}: a function of {last - first + 1} lines"


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
                yield f"{name_of(path)}: the link {target} leads nowhere"


def machine_paths() -> Iterator[str]:
    """Paths that only one developer's machine has: this checkout's own, and home folders."""
    own = re.compile(rf"(?<![\w./-]){re.escape(str(ROOT))}\b|/root/\.(cache|config|local)|/home/[a-z]+/")
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if own.search(line):
                yield f"{name_of(path)}:{number}: a path of one machine"


def idle_fuzzers() -> Iterator[str]:
    """Fuzzers that no CMakeLists.txt names, so that nothing builds or runs them."""
    named = {
        name for path in tracked("*CMakeLists.txt") for name in re.findall(r"sundog_fuzzer\((\w+)", path.read_text())
    }
    for path in tracked("*_fuzz.cc"):
        if path.stem not in named:
            yield f"{name_of(path)}: no CMakeLists.txt has sundog_fuzzer({path.stem} …)"


def cpp_sources() -> list[Path]:
    """All that clang-format formats."""
    return tracked("*.h", "*.cc")


def unformatted() -> Iterator[str]:
    """What clang-format and ruff would change or mend."""
    if sources := cpp_sources():
        _, text = output_of(["clang-format-19", "--dry-run", "--Werror", *sources])
        files = {line.split(":")[0] for line in text.splitlines() if "error:" in line}
        yield from (f"{Path(file).relative_to(ROOT)}: not formatted (./dev fmt)" for file in files)
    for words in (["format", "--check"], ["check"]):
        status, text = output_of([PYTHON, "-m", "ruff", *words, "-q", "--output-format", "concise", "."])
        if status:
            yield from text.splitlines()


def wrong_types() -> Iterator[str]:
    """mypy --strict over the SDK, the runtime and the tools."""
    for folder, package in (("python", "sundog"), ("tools", "dev")):
        command = [str(PYTHON), "-m", "mypy", "--strict", "--no-error-summary", "--config-file", "pyproject.toml", "-p"]
        extra = environment({"MYPYPATH": str(ROOT / folder)})
        done = subprocess.run([*command, package], cwd=ROOT, env=extra, capture_output=True, text=True, check=False)
        if done.returncode:
            yield from (done.stdout + done.stderr).splitlines()


def own_headers() -> dict[str, list[Path]]:
    """Object file → the project's files that it was compiled from, as Ninja noted them when it built."""
    folder = BUILD / TIDY_PRESET
    _, text = output_of(["ninja", "-C", folder, "-t", "deps"])
    found: dict[str, list[Path]] = {}
    own: list[Path] = []
    for line in text.splitlines():
        if line.startswith("    "):
            path = (folder / line.strip()).resolve()
            if path.is_relative_to(ROOT) and not path.is_relative_to(BUILD) and not path.is_relative_to(VENV):
                own.append(path)
        elif ": #deps" in line:
            own = found.setdefault(line.split(": #deps")[0], [])
    return found


def object_of(entry: dict[str, str]) -> str:
    """What a compile command writes."""
    found = re.search(r" -o (\S+)", entry["command"])
    return found[1] if found else ""


def tidy_one(entry: dict[str, str], read: list[Path]) -> str:
    """clang-tidy on one file, unless this very content passed before; what it said, if it found something."""
    digest = hashlib.sha256((ROOT / ".clang-tidy").read_bytes() + entry["command"].encode())
    for path in sorted({Path(entry["file"]), *read}):
        digest.update(path.read_bytes())
    stamp = TIDY_STAMPS / digest.hexdigest()
    if stamp.exists():
        return ""
    status, text = output_of(["clang-tidy-19", "-p", BUILD / TIDY_PRESET, "--quiet", entry["file"]])
    if status == 0:
        stamp.touch()
        return ""
    return text or f"{entry['file']}: error: clang-tidy ended with status {status}"


def tidy_findings() -> Iterator[str]:
    """clang-tidy with the checks of .clang-tidy, on all cores; only what changed since it last passed."""
    TIDY_STAMPS.mkdir(parents=True, exist_ok=True)
    entries = json.loads((BUILD / TIDY_PRESET / "compile_commands.json").read_text())
    own = [entry for entry in entries if not Path(entry["file"]).is_relative_to(BUILD)]
    read, everything = own_headers(), tracked("*.h")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for text in pool.map(lambda entry: tidy_one(entry, read.get(object_of(entry)) or everything), own):
            yield from (line for line in text.splitlines() if re.search(r"(warning|error):", line))


CHECKS = (
    upward_includes,
    long_files,
    long_functions,
    missing_readmes,
    broken_links,
    machine_paths,
    idle_fuzzers,
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
        raise StepFailed(f"./dev check found {findings} {'thing' if findings == 1 else 'things'} to mend.")
