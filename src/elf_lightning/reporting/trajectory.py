"""A page that shows how texts emerge from noise: a slider over time, tokens coloured by when they settled."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Self

from elf_lightning.reporting.page import page

MOST_TIMES = 64
"""Times on a page at most, since each costs a decoding."""


@dataclass(frozen=True)
class TextPath:
    """One text on its way from noise to data, at K times and S positions.

    Attributes:
        name: what the page calls it.
        tokens: (K, S) token ids.
        pieces: (K, S) what each token adds to the text, with the space before it; empty where it is no text.
    """

    name: str
    tokens: Sequence[Sequence[int]]
    pieces: Sequence[Sequence[str]]

    @classmethod
    def of(
        cls, name: str, tokens: Sequence[list[int]], pieces_of: Callable[[list[int]], Sequence[str]]
    ) -> Self:
        """A path whose pieces a tokenizer tells.

        Args:
            name: what the page calls it.
            tokens: (K, S) token ids.
            pieces_of: (S,) token ids -> what each adds to the text.
        """
        return cls(name, tokens, [pieces_of(row) for row in tokens])


def shown_steps(steps: int) -> range:
    """Which of a sampler's `steps` a page shows, counted from 0: evenly spaced ones, the last among them."""
    return range(steps - 1, -1, -ceil(steps / MOST_TIMES))


def settled_steps(tokens: Sequence[Sequence[int]]) -> list[int]:
    """For each of S positions, the first of K times from which on its token stays the last one's.

    Args:
        tokens: (K, S) token ids, K at least 1.
    """
    final = tokens[-1]
    steps = [0] * len(final)
    for step, row in enumerate(tokens[:-1]):
        for position, token in enumerate(row):
            if token != final[position]:
                steps[position] = step + 1
    return steps


def trajectory_page(
    title: str, details: Mapping[str, str], times: Sequence[float], paths: Sequence[TextPath]
) -> str:
    """One HTML page that needs nothing but itself, on a phone as on a desk, in the light and in the dark.

    Args:
        title: of the page.
        details: what the texts come from, by name: shown above them.
        times: (K,) from 0 (noise) to 1 (data).
        paths: the texts, each at all these times.
    """
    data = {
        "times": [round(time, 4) for time in times],
        "texts": [
            {"settled": settled_steps(path.tokens), "pieces": [_without_end(row) for row in path.pieces]}
            for path in paths
        ],
    }
    return page(
        "trajectory",
        title,
        details,
        texts="".join(
            f"<article><h2>{html.escape(path.name)}</h2>"
            f'<p class="text">{html.escape("".join(path.pieces[-1]).strip())}</p></article>'
            for path in paths
        ),
        last=len(times) - 1,
        # A text may hold `</script>`; in JSON every `<` can be written by its number.
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _without_end(pieces: Sequence[str]) -> Sequence[str]:
    """The pieces up to the last that is text: a short text in a long row makes no long page."""
    length = max((place for place, piece in enumerate(pieces, start=1) if piece), default=0)
    return pieces[:length]
