"""bench/flame_graph.py: what perf prints becomes folded stacks and a small picture."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import flame_graph

PERF = """sundog-server
\tffffffff81234 tcp_sendmsg+0x10 ([kernel.kallsyms])
\t         41e0 sundog::net::Connection::flush()+0x2a (/build/bin/sundog-server)
\t         41e8 [unknown] ([unknown])
\t         41f0 std::function<void (boost::system::error_code const&, unsigned long)>::operator()(int) const (/build/bin/sundog-server)

python3
\t         5510 _PyEval_EvalFrameDefault+0x12 (/usr/bin/python3.11)
\t         5520 _PyEval_EvalFrameDefault+0x99 (/usr/bin/python3.11)
\t         7f00 [unknown] (/opt/sundog/env/0/numpy/_multiarray.so)

python3
\t         5510 (deleted) (/memfd:x (deleted))
"""


def test_stacks_are_folded_root_first() -> None:
    folded = flame_graph.fold(PERF.splitlines())
    assert folded[("sundog-server", "std::function::operator", "net::Connection::flush", "tcp_sendmsg_[k]")] == 1
    assert folded[("python3", "[_multiarray.so]", "_PyEval_EvalFrameDefault")] == 1
    assert folded.total() == 3


def test_the_same_stack_is_counted_once_more() -> None:
    assert flame_graph.fold((PERF * 5).splitlines()).most_common(1)[0][1] == 5


def test_what_is_narrow_is_not_drawn() -> None:
    folded = flame_graph.Folded({("server", "wide"): 997, ("server", "narrow"): 3})
    picture = flame_graph.svg(folded, "A <title>")
    texts = [element.text or "" for element in ElementTree.fromstring(picture).iter()]
    assert "wide: 99.7%" in texts
    assert not any("narrow" in text for text in texts)
    assert "A <title>" in texts


def test_the_summary_names_what_takes_most() -> None:
    lines = flame_graph.summary(flame_graph.Folded({("server", "a", "b"): 3, ("server", "a"): 1})).splitlines()
    assert lines[0] == "4 samples"
    assert "75.0%  server: b" in lines[2]
    assert "100.0%  server: a" in lines[2]


def test_the_picture_says_who_works() -> None:
    folded = flame_graph.Folded({("s", "net::read", "recv_[k]"): 3, ("s", "PyEval_EvalCode"): 1})
    assert flame_graph.shares(folded) == "kernel 75%, CPython 25%; 4 samples"
