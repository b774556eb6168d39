"""What a handler gets as its event is what json makes of it, however fast it is made."""

from __future__ import annotations

import json

import pytest

from sundog.runtime import wire


@pytest.mark.parametrize("text", ['{"n": 1}', " [1, 2]\n", '"ä"', "null", "1e3", "\t{}"])
def test_an_event_is_what_json_makes_of_it(text: str) -> None:
    assert wire.unmarshal(text.encode()) == json.loads(text)


@pytest.mark.parametrize("raw", [b"", b"{", b"1 2", b"\xff", "\ufeff{}".encode(), b"nul"])
def test_what_is_no_json_is_refused_as_json_does(raw: bytes) -> None:
    with pytest.raises(ValueError) as ours:
        wire.unmarshal(raw)
    with pytest.raises(ValueError) as theirs:
        json.loads(raw.decode())
    assert str(ours.value) == str(theirs.value)
