"""A page on which texts emerge from noise: a slider over time, tokens coloured by when they became final."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Self

from elf_lightning.reporting.page import render

MAX_TIMES = 64
"""Times on a page, each of which costs a decoding."""


@dataclass(frozen=True)
class TextPath:
    """One text on its way from noise to data, at K times and S positions.

    Attributes:
        name: its heading on the page.
        tokens: (K, S) token ids.
        pieces: (K, S) what each token adds to the text, with the space before it; empty for special tokens.
    """

    name: str
    tokens: Sequence[Sequence[int]]
    pieces: Sequence[Sequence[str]]

    @classmethod
    def of(
        cls, name: str, tokens: Sequence[list[int]], pieces_of: Callable[[list[int]], Sequence[str]]
    ) -> Self:
        """A path from token ids.

        Args:
            name: its heading on the page.
            tokens: (K, S) token ids.
            pieces_of: (S,) token ids -> what each adds to the text.
        """
        return cls(name, tokens, [pieces_of(ids) for ids in tokens])


def shown_steps(steps: int) -> range:
    """Which of a sampler's `steps` a page shows, counted from 0: evenly spaced ones, including the last."""
    return range(steps - 1, -1, -ceil(steps / MAX_TIMES))


def final_steps(tokens: Sequence[Sequence[int]]) -> list[int]:
    """For each of S positions, the first of K times from which its token is the final one.

    Args:
        tokens: (K, S) token ids, K at least 1.
    """
    final = tokens[-1]
    steps = [0] * len(final)
    for step, ids in enumerate(tokens[:-1]):
        for position, token in enumerate(ids):
            if token != final[position]:
                steps[position] = step + 1
    return steps


def trajectory_page(
    title: str, details: Mapping[str, str], times: Sequence[float], paths: Sequence[TextPath]
) -> str:
    """One self-contained HTML page, for phones and desktops, in light and dark mode.

    Args:
        title: of the page.
        details: what the texts follow from, by name: shown above them.
        times: (K,) from 0 (noise) to 1 (data).
        paths: the texts, each at all these times.
    """
    data = {
        "times": [round(time, 4) for time in times],
        "texts": [
            {"final": final_steps(path.tokens), "pieces": [_without_end(pieces) for pieces in path.pieces]}
            for path in paths
        ],
    }
    texts = [(path.name, "".join(path.pieces[-1]).strip()) for path in paths]
    return render("trajectory.html", title=title, details=details, texts=texts, data=data)


def _without_end(pieces: Sequence[str]) -> Sequence[str]:
    """The pieces up to the last one with text: the padding of a short text would make the page long."""
    return pieces[: max((place for place, piece in enumerate(pieces, start=1) if piece), default=0)]
