"""./dev check finds what it promises to find: each check on a small tree with one thing wrong in it, and on one without."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from dev import check, cpp_functions

ROOT = Path(__file__).resolve().parents[2]
LONG_BODY = "".join(f"  count += {number};\n" for number in range(85))


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A function that writes files into a checkout of their own, which the checks then read."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setattr(check, "ROOT", tmp_path)
    monkeypatch.setattr(check, "BUILD", tmp_path / "build")
    monkeypatch.setattr(check, "TIDY_STAMPS", tmp_path / "build/tidy")

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def test_an_include_of_a_higher_module_is_found_and_one_of_a_lower_is_not(tree):
    tree({"server/net/a.cc": '#include "base/x.h"\n#include "invoke/x.h"\n', "server/odd/b.h": ""})
    assert list(check.upward_includes()) == [
        "server/net/a.cc:2: net includes invoke, which stands above it",
        "server/odd/b.h: odd is no module of CONTRIBUTING.md's first rule",
    ]


@pytest.mark.parametrize(
    "line", ["import sundog", "from sundog import errors", "from .. import errors", "from ..errors import X"]
)
def test_an_import_of_the_sdk_in_the_runtime_is_found(tree, line):
    tree({"python/sundog/runtime/a.py": f"from . import wire\nimport sundog.runtime.host\ndef f():\n    {line}\n"})
    assert list(check.upward_includes()) == ["python/sundog/runtime/a.py:4: the runtime imports the SDK"]


def test_a_long_file_is_found(tree):
    tree({"server/base/a.cc": "\n" * 801, "server/base/b.cc": "\n" * 800})
    assert list(check.long_files()) == ["server/base/a.cc: 801 lines, the limit is 800"]


def test_long_functions_are_found_however_their_heads_are_broken(tree):
    heads = {
        "plain": "void f(int count) {\n",
        "broken": "Result<std::map<std::string, int>> Some::f(int first,\n                              int count) const {\n",
        "method": "namespace sundog {\nclass A : public B<C> {\n public:\n  explicit A(int count) : a_{1}, b_(count) {\n",
        "template": "template <class T>\nauto f(T count) -> std::vector<T> {\n",
        "test": "TEST_F(Some, Thing) {\n",
    }
    for name, head in heads.items():
        tree({f"server/base/{name}.cc": head + LONG_BODY + "}\n" + ("};\n}\n" if name == "method" else "")})
    tree({"server/base/short.cc": "int f() {\n  return 1;\n}\n" * 40, "a.py": "def f():\n" + "    x = 1\n" * 80})
    found = sorted(check.long_functions())
    assert [line.split(":")[0] for line in found] == sorted(["a.py", *(f"server/base/{name}.cc" for name in heads)])
    assert "a.py:1: f has 81 lines" in found
    assert "server/base/plain.cc:1: a function of 87 lines" in found
    assert "server/base/broken.cc:1: a function of 88 lines" in found


def test_braces_that_open_no_function_are_told_apart():
    text = """
    namespace a { struct B { int x{1}; enum class C { d }; void f() const { if (x) { x(); } } };
    constexpr int kTable[] = {
      1,
      2,
    };  // }
    const char* kText = R"(} void g() {)"; char c = '{';
    #define OPEN {
    extern "C" int main() { return 1'000; }
    }"""
    assert list(cpp_functions.functions(text)) == [(2, 2), (9, 9)]


def test_a_module_without_a_readme_is_found(tree):
    tree({"server/net/a.h": "", "server/base/README.md": "", "tests/a.py": ""})
    assert list(check.missing_readmes()) == ["server/net: no README.md", "tests: no README.md"]


def test_a_link_to_nothing_is_found(tree):
    tree({"a.md": "[a](b.md) [b](c.md#part) [c](https://x.y/z)\n```\n[d](e.md)\n```\n", "b.md": ""})
    assert list(check.broken_links()) == ["a.md: the link c.md leads nowhere"]


def test_a_path_of_one_machine_is_found(tree):
    tree({"a.yml": f"one\ntwo: {check.ROOT}/x\n", "b.md": "/var/task\n"})
    assert list(check.machine_paths()) == ["a.yml:2: a path of one machine"]


def test_a_fuzzer_that_nothing_builds_is_found(tree):
    tree({"server/net/CMakeLists.txt": "sundog_fuzzer(a_fuzz)", "server/net/a_fuzz.cc": "", "server/net/b_fuzz.cc": ""})
    assert list(check.idle_fuzzers()) == ["server/net/b_fuzz.cc: no CMakeLists.txt has sundog_fuzzer(b_fuzz …)"]


@pytest.mark.skipif(shutil.which("clang-format-19") is None, reason="clang-format-19 is not installed")
def test_unformatted_and_unclean_files_are_found(tree):
    tree({"a.cc": "int   f( );\n", "b.cc": "int f();\n", "c.py": "import os\nx=1\n", "d.py": "x = 1\n"})
    found = "\n".join(check.unformatted())
    assert "a.cc: not formatted" in found
    assert "c.py:1:8: F401" in found
    assert "c.py:2" in found
    assert "b.cc" not in found
    assert "d.py" not in found


def test_a_wrong_type_is_found(tree):
    text = (ROOT / "pyproject.toml").read_text()
    good = {"python/sundog/__init__.py": "def f(x: int) -> str:\n    return str(x)\n", "tools/dev/__init__.py": ""}
    tree({"pyproject.toml": text, **good, "python/sundog/runtime/a.py": "def f(x: int) -> str:\n    return x\n"})
    [found] = check.wrong_types()
    assert found.startswith("python/sundog/runtime/a.py:2: error: Incompatible return value type")


@pytest.mark.skipif(shutil.which("clang-tidy-19") is None, reason="clang-tidy-19 is not installed")
def test_what_clang_tidy_finds_is_told_until_it_is_mended(tree):
    root = tree({".clang-tidy": (ROOT / ".clang-tidy").read_text()})
    source = root / "server/base/a.cc"
    command = {"directory": str(root), "file": str(source), "command": f"clang++-19 -std=c++20 -o a.o -c {source}"}
    tree({"build/release/compile_commands.json": json.dumps([command])})
    bad = "int f(int x) {\n  if (x = 1) return 2;\n  return 0;\n}\n"
    for text, found in ((bad, 1), (bad.replace("=", "=="), 0), (bad, 1)):
        tree({"server/base/a.cc": text})
        assert len(list(check.tidy_findings())) == found
    assert len(list((root / "build/tidy").iterdir())) == 1
