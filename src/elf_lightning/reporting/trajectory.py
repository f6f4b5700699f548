"""Texts that emerge from noise: a page with a slider over time, a picture of a few times, a moving one.

Tokens are coloured by when they became final.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Self

from elf_lightning.reporting.page import render

MAX_TIMES = 64  # times on a page, each of which costs a decoding
COLUMNS = 92  # characters in a line of the picture
SHADES = 5


@dataclass(frozen=True)
class TextPath:
    """One text on its way from noise to data, at K times and S positions."""

    name: str  # its heading on the page
    tokens: Sequence[Sequence[int]]  # (K, S) token ids
    pieces: Sequence[Sequence[str]]  # (K, S) what each token adds to the text, space included

    @classmethod
    def of(
        cls, name: str, tokens: Sequence[list[int]], pieces_of: Callable[[list[int]], Sequence[str]]
    ) -> Self:
        """A path from (K, S) token ids; `pieces_of` maps (S,) ids to what each adds to the text."""
        return cls(name, tokens, [pieces_of(ids) for ids in tokens])


def shown_steps(steps: int) -> range:
    """Which of a sampler's `steps` a page shows, counted from 0: evenly spaced ones, including the last."""
    return range(steps - 1, -1, -ceil(steps / MAX_TIMES))


def final_steps(tokens: Sequence[Sequence[int]]) -> list[int]:
    """For each position of (K, S) token ids, the first of the K times from which its token is final."""
    backwards = range(len(tokens) - 1, 0, -1)
    return [
        next((step for step in backwards if column[step - 1] != column[-1]), 0)
        for column in zip(*tokens, strict=True)
    ]


def trajectory_page(
    title: str, details: Mapping[str, str], times: Sequence[float], paths: Sequence[TextPath]
) -> str:
    """One self-contained HTML page, for phones and desktops, in light and dark mode.

    `details` are what the texts follow from, by name. Each text is shown at all of the (K,) times, from 0
    (noise) to 1 (data).
    """

    def trimmed(pieces: Sequence[str]) -> Sequence[str]:  # padding would make the page long
        return pieces[: max((place for place, piece in enumerate(pieces, start=1) if piece), default=0)]

    moving = [{"final": final_steps(path.tokens), "pieces": [*map(trimmed, path.pieces)]} for path in paths]
    data = {"times": [round(time, 4) for time in times], "texts": moving}
    texts = [(path.name, "".join(path.pieces[-1]).strip()) for path in paths]
    return render("trajectory.html", title=title, details=details, texts=texts, data=data)


def trajectory_moment(times: Sequence[float], path: TextPath, count: int, note: str = "") -> str:
    """An HTML fragment: a text on its way, coloured by since when each token is what it is now.

    Of `count` times up to 1 (data), `times` has the (K,) so far, and `path` the text at each.
    """
    changing = len(times) - 1 if len(times) < count else count
    tokens = [
        (piece[: len(piece) - len(word)], word, None if since == changing else SHADES * since // count)
        for piece, since in zip(path.pieces[-1], final_steps(path.tokens), strict=True)
        if (word := piece.lstrip())
    ]
    return render("moment.html", time=times[-1], done=len(times) / count, tokens=tokens, note=note)


def trajectory_picture(times: Sequence[float], path: TextPath, rows: int = 6, lines: int = 2) -> str:
    """An SVG picture with a background of its own, in light and dark mode.

    It shows the first `lines` of the text at `rows` of the (K,) times, evenly spaced, including the last.
    """
    steps = sorted({round((len(times) - 1) * row / (rows - 1)) for row in range(rows)})
    return render("trajectory.svg", stages=_stages(times, path, steps, lines), columns=COLUMNS)


def trajectory_movie(times: Sequence[float], path: TextPath, lines: int = 7) -> str:
    """A moving SVG picture, in light and dark mode: the text at one time after the other, again and again.

    Arguments as for `trajectory_picture`.
    """
    return render(
        "movie.svg", frames=_stages(times, path, range(len(times)), lines), columns=COLUMNS, lines=lines
    )


def _stages(times: Sequence[float], path: TextPath, steps: Iterable[int], lines: int) -> list[dict[str, Any]]:
    """The time and the placed tokens of each of these steps."""
    final, stages = final_steps(path.tokens), []
    for step in steps:
        shades = [SHADES * since // len(times) if since <= step else None for since in final]
        stages.append({"time": times[step], "tokens": list(_layout(path.pieces[step], shades, lines))})
    return stages


def _layout(
    pieces: Sequence[str], shades: Sequence[int | None], lines: int
) -> Iterator[tuple[int, int, str, int | None]]:
    """Line, column, text and shade of each token that fits."""
    line = column = 0
    for piece, shade in zip(pieces, shades, strict=False):
        word = " ".join(piece.split())
        if not word:
            continue
        space = column > 0 and piece[0].isspace()
        if column + space + len(word) > COLUMNS:
            line, column, space = line + 1, 0, False
        if line == lines:
            return
        column += space
        yield line, column, word[:COLUMNS], shade
        column += len(word)
