"""How long the functions of a C++ file are, by its braces: whatever the format, and without a compiler."""

from __future__ import annotations

import re
from collections.abc import Iterator

TOKEN = re.compile(
    r"""(?P<skip> //[^\n]* | /\*.*?\*/ | ^[ \t]*\#(?:\\\n|[^\n])* )
      | (?P<text> R"(?P<mark>[^\s(]*)\(.*?\)(?P=mark)" | "(?:\\.|[^"\\\n])*" | (?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+' )
      | (?P<brace> [{};] )
      | (?P<word> \w+ | :: | -> | \S )
      | (?P<space> \n | \s )""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
SCOPE = re.compile(r"(?:inline |export |static |typedef )*(?:namespace|class|struct|union|enum|extern)\b")
MEMBER = re.compile(r"\).* : .*\w$")


def opens(statement: str) -> str:
    """What a brace after `statement` begins, outside any body: a scope (namespace, type), a value, or a body."""
    bare, before = statement, ""
    while bare != before:  # template parameters say `class` too
        bare, before = re.sub(r"<[^<>]*>", "", bare), bare
    bare = re.sub(
        r"^(?:template |\[ \[.*?\] \] |(?:public|protected|private) : )*", "", re.sub(r" +", " ", bare).strip()
    )
    if SCOPE.match(bare) and "(" not in bare:
        return "scope"
    if bare.endswith("=") or (bare and "(" not in bare) or MEMBER.search(bare):
        return "value"
    return "body"


def functions(text: str) -> Iterator[tuple[int, int]]:
    """First and last line of each function, lambdas and local types counted within the one that holds them."""
    line, begun = 1, 1
    statement: list[str] = []
    open_braces: list[tuple[str, int]] = []
    for token in TOKEN.finditer(text):
        said, kind = token.group(), token.lastgroup
        inside = bool(open_braces) and open_braces[-1][0] != "scope"
        if said == "{":
            open_braces.append(("inner" if inside else opens(" ".join(statement)), begun if statement else line))
            if open_braces[-1][0] == "scope":
                statement = []
        elif said == "}" and open_braces:
            closed, first = open_braces.pop()
            if closed == "body":
                yield first, line
            if closed in ("body", "scope"):
                statement = []
        elif not inside and said == ";":
            statement = []
        elif not inside and kind in ("word", "text"):
            if not statement:
                begun = line
            statement.append(said)
        line += said.count("\n")
