"""Stacks as perf prints them → folded stacks → a flame graph, drawn as one small SVG that needs no script."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape

Folded = Counter[tuple[str, ...]]  # root first, beginning with the process's name

LEAST = 0.005  # of all samples: what is narrower is not drawn
MOST_BYTES = 150_000  # of a picture: a larger one leaves out more of what is narrow
WIDTH, HEIGHT, LETTER = 1200.0, 15, 6.1  # of the picture, a row, and a letter
COLOURS = {"k": "#a7b6c2", "p": "#e8c26a", "s": "#d9822b", "l": "#e5b08a"}
KINDS = {"k": "kernel", "p": "CPython", "s": "Sundog", "l": "libraries"}
_FRAME = re.compile(r"^\s+[0-9a-f]+ (?P<symbol>.*?) \((?P<object>[^()]*(?:\([^()]*\))?)\)$")
_TEMPLATE = re.compile(r"<[^<>]*>")


@dataclass
class Node:
    """One frame in the graph."""

    samples: int = 0
    below: dict[str, Node] = field(default_factory=dict)


def short(symbol: str) -> str:
    """A symbol without what makes C++'s names long: arguments of functions and templates, and namespaces that say nothing."""
    symbol = symbol.split("+0x")[0]
    name = symbol.replace("(anonymous namespace)::", "").replace("operator()", "operator")
    while "<" in name and (less := _TEMPLATE.sub("", name)) != name:
        name = less
    name = name.split("(")[0].strip()
    name = name.replace("boost::asio::detail::", "asio::").replace("boost::beast::", "beast::").replace("sundog::", "")
    return name.rsplit(" ", 1)[-1] or symbol


def frame(line: str) -> str:
    """One line of a stack: its function, or where nobody knows it the library; empty if not even that is known."""
    found = _FRAME.match(line)
    if found is None or found["object"] == "[unknown]":
        return ""
    if found["symbol"] == "[unknown]":
        return f"[{found['object'].rsplit('/', 1)[-1]}]"
    kernel = found["object"].startswith("[") and found["object"] != "[vdso]"
    return short(found["symbol"]) + ("_[k]" if kernel else "")


def fold(lines: Iterable[str]) -> Folded:
    """The output of `perf script -F comm,ip,sym,dso`; a function that calls itself at once counts as one frame."""
    folded: Folded = Counter()
    process, frames = "", list[str]()

    def keep() -> None:
        if process:
            folded[(process, *reversed(frames))] += 1

    for line in lines:
        if not line.strip():
            keep()
            process, frames = "", []
        elif not line[0].isspace() or not process:
            process = line.strip()
        else:
            name = frame(line)
            if name and (not frames or frames[-1] != name):
                frames.append(name)
    keep()
    return folded


def summary(folded: Folded, rows: int = 30) -> str:
    """The functions that take most: themselves, and with what they call."""
    samples = folded.total() or 1
    alone: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for stack, count in folded.items():
        alone[f"{stack[0]}: {stack[-1]}"] += count
        for name in set(stack[1:]):
            whole[f"{stack[0]}: {name}"] += count
    lines = [f"{samples} samples", f"{'itself':>7}  {'':60}{'with what it calls':>18}"]
    for (name, count), (name_whole, count_whole) in zip(alone.most_common(rows), whole.most_common(rows), strict=False):
        lines.append(f"{count / samples:7.1%}  {name[:58]:60}{count_whole / samples:8.1%}  {name_whole[:70]}")
    return "\n".join(lines)


def _tree(folded: Folded) -> Node:
    top = Node()
    for stack, count in folded.items():
        node = top
        node.samples += count
        for name in stack:
            node = node.below.setdefault(name, Node())
            node.samples += count
    return top


def _kind(name: str) -> str:
    if name.endswith("_[k]"):
        return "k"
    if name.startswith(("Py", "_Py", "[python", "list_", "dict_", "object_", "method_", "cfunction_", "scanner_")):
        return "p"
    ours = ("net::", "api::", "invoke::", "meter::", "functions::", "sandbox::", "native::", "app::", "JsonWriter")
    return "s" if name.startswith(ours) else "l"


def shares(folded: Folded) -> str:
    """Who it is that works: the innermost frames by kind."""
    samples = folded.total() or 1
    alone: Counter[str] = Counter()
    for stack, count in folded.items():
        alone[_kind(stack[-1])] += count
    of_kinds = ", ".join(f"{KINDS[kind]} {count / samples:.0%}" for kind, count in alone.most_common())
    return f"{of_kinds}; {samples} samples"


def svg(folded: Folded, title: str, least: float = LEAST) -> str:
    """The picture, root below; each rectangle's name and share stand in its tooltip."""
    top = _tree(folded)
    samples = top.samples or 1
    drawn: list[tuple[int, float, float, str]] = []

    def draw(node: Node, depth: int, left: float) -> int:
        deepest = depth
        for name, child in sorted(node.below.items()):
            share = child.samples / samples
            if share < least:
                continue
            drawn.append((depth, left, share, name))
            deepest = max(deepest, draw(child, depth + 1, left))
            left += share
        return deepest

    height = draw(top, 0, 0.0) * HEIGHT + 56
    fills = "".join(f".{kind}{{fill:{colour}}}" for kind, colour in COLOURS.items())
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height}" font-family="monospace" font-size="10">',
        f"<style>text{{pointer-events:none}}{fills}</style>",
        f'<rect width="{WIDTH:.0f}" height="{height}" fill="#fff"/>',
        f'<text x="4" y="16" font-size="13" font-family="sans-serif">{escape(title)}</text>',
        f'<text x="4" y="32">{escape(shares(folded))}</text>',
    ]
    for depth, left, share, name in drawn:
        x, y, width = left * WIDTH, height - 10 - (depth + 1) * HEIGHT, share * WIDTH
        label = name.removesuffix("_[k]")
        fits = int((width - 4) / LETTER)
        text = label if len(label) <= fits else label[: fits - 1] + "…" if fits > 3 else ""
        out.append(
            f'<rect class="{_kind(name)}" x="{x:.1f}" y="{y}" width="{width - 0.4:.1f}" height="{HEIGHT - 1}">'
            f"<title>{escape(label)}: {share:.1%}</title></rect>"
            + (f'<text x="{x + 2:.1f}" y="{y + 11}">{escape(text)}</text>' if text else "")
        )
    out.append("</svg>")
    picture = "\n".join(out) + "\n"
    return picture if len(picture) <= MOST_BYTES else svg(folded, title, least * 1.5)
