"""Random state that a fork would duplicate: made different in every instance.

Python's `random`, `secrets`, `uuid` and `ssl` see to it themselves. numpy's global generator does not, nor do generators that
code made without a seed and holds on to; one that was made from a seed keeps its sequence, since that was asked for.
"""

from __future__ import annotations

import gc
import importlib.machinery
import os
import sys
from types import ModuleType
from typing import Any

_MODULE = "numpy.random.bit_generator"
_MOST = 100_000  # seeds that are remembered
_STATE_WORDS = 624  # of the Mersenne twister's state
_drawn: set[int] = set()  # what numpy drew because no seed was given
_unseeded: list[Any] = []  # bit generators


class _Watcher:
    """Sees numpy's generators being imported, and has their module remember which seeds it drew itself."""

    @staticmethod
    def find_spec(
        name: str, path: Any = None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _MODULE:
            return None
        sys.meta_path.remove(_Watcher)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_watch(module: ModuleType) -> None:
                execute(module)
                _remember_seeds(module)

            spec.loader.exec_module = execute_and_watch  # type: ignore[method-assign]
        return spec


def _remember_seeds(module: ModuleType) -> None:
    draw = getattr(module, "randbits", None)
    if draw is None:
        return

    def drawn(bits: int) -> int:
        seed = int(draw(bits))
        if len(_drawn) < _MOST:
            _drawn.add(seed)
        return seed

    module.__dict__["randbits"] = drawn


def watch() -> None:
    """Before anything of the user's is imported."""
    sys.meta_path.insert(0, _Watcher)


def collect() -> None:
    """When init or an import is done: finds the generators that nobody gave a seed."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is None or not _drawn:
        return
    kinds = {numpy_random.__dict__.get("Generator"), numpy_random.__dict__.get("RandomState")}
    shared = getattr(sys.modules.get("numpy.random.mtrand"), "_rand", None)  # reseed() has it anyway
    for one in gc.get_objects():
        if type(one) in kinds and one is not shared:
            bits = getattr(one, "_bit_generator", None)
            entropy = getattr(getattr(bits, "_seed_seq", None), "entropy", None)
            if isinstance(entropy, int) and entropy in _drawn:
                _unseeded.append(bits)


def reseed() -> None:
    """In a new instance."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is None:
        return
    try:
        # Not seed(), which takes three times as long to spread less: this is on the way of every start.
        state = memoryview(os.urandom(4 * _STATE_WORDS)).cast("I")
        numpy_random.set_state(("MT19937", state, _STATE_WORDS))
    except (TypeError, ValueError):  # the global generator is one that code put there
        numpy_random.seed()
    for bits in _unseeded:
        bits.state = type(bits)().state
