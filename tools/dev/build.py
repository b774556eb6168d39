"""./dev build [preset] [target…]: configure once, then Ninja."""

from __future__ import annotations

from .setup import set_up
from .steps import BUILD, PYTHON, StepFailed, step

PRESETS = ("release", "debug", "asan", "tsan", "fuzz")


def build(preset: str, targets: list[str] | None = None) -> None:
    """Builds `targets` (everything, if none) under one of PRESETS."""
    if preset not in PRESETS:
        raise StepFailed(
            f"There is no preset {preset!r}; there are {', '.join(PRESETS)}. Targets come after it: ./dev build release {preset}"
        )
    set_up()
    folder = BUILD / preset
    if not (folder / "build.ninja").exists():
        command = ["cmake", "--preset", preset, f"-DSUNDOG_PYTHON={PYTHON}"]
        step(
            f"configuring {preset}",
            command,
            quiet=True,
            hint="./dev setup installs what CMake looks for.",
        )
    step(f"building {preset}", ["ninja", "-C", folder, *(targets or [])])


def main(preset: str, targets: list[str]) -> None:
    """./dev build."""
    build(preset, targets)
