"""Minutes that a script may take: it ends in good order, and says what it left out."""

from __future__ import annotations

import argparse
from time import monotonic

from benchmarks.rounds import arguments


class Budget:
    """A deadline from now on.

    Args:
        minutes: until the script has to end.

    Attributes:
        left_out: what there was no time for, as the script says it.
    """

    def __init__(self, minutes: float) -> None:
        self._end = monotonic() + 60 * minutes
        self.left_out: list[str] = []

    @property
    def seconds_left(self) -> float:
        """Until the deadline; negative after it."""
        return self._end - monotonic()

    def allows(self, what: str, seconds: float = 0.0) -> bool:
        """Whether something that takes `seconds` still fits; else it is noted as left out."""
        fits = self.seconds_left > seconds
        if not fits:
            self.left_out.append(f"{what}: no time")
        return fits

    def told(self) -> str:
        """What was left out, in a line for the end of a table."""
        return f"left out: {'; '.join(self.left_out) or 'nothing'}"


def gpu_arguments(description: str | None, size: str, minutes: float) -> argparse.ArgumentParser:
    """The parser of a GPU script: size, device (the GPU by default), rounds, JSON file, minutes."""
    parser = arguments(description, size=size, rounds=5)
    parser.set_defaults(device="cuda")
    parser.add_argument("--minutes", type=float, default=minutes, help=f"to end within ({minutes:g})")
    return parser
