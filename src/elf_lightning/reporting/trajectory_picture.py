"""A picture of one text on its way from noise: a few times, tokens coloured by when they became final."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from elf_lightning.reporting.page import render
from elf_lightning.reporting.trajectory import TextPath, final_steps

COLUMNS = 92
"""Characters in a line."""
SHADES = 5
CHARACTER, LINE, MARGIN, LABEL, GAP = 7.8, 22, 16, 76, 10
"""In pixels: width of a character, height of a line, space around, for the time, and between two times."""


def trajectory_picture(times: Sequence[float], path: TextPath, rows: int = 6, lines: int = 2) -> str:
    """An SVG picture with a background of its own, in light and dark mode.

    Args:
        times: (K,) from 0 (noise) to 1 (data).
        path: the text at all these times.
        rows: number of times shown, evenly spaced, including the last.
        lines: of text for each time; the rest is left out.
    """
    final = final_steps(path.tokens)
    last = len(times) - 1
    stages, top = [], float(MARGIN)
    for step in sorted({round(last * row / (rows - 1)) for row in range(rows)}):
        layout = list(_layout(path.pieces[step], lines))
        tokens = [
            {
                "word": word,
                "x": MARGIN + LABEL + column * CHARACTER,
                "y": top + line * LINE,
                "width": len(word) * CHARACTER,
                "shade": SHADES * final[place] // (last + 1) if final[place] <= step else None,
            }
            for line, column, place, word in layout
        ]
        stages.append({"time": times[step], "y": top, "tokens": tokens})
        top += LINE * max((line + 1 for line, *_ in layout), default=1) + GAP
    width, height = 2 * MARGIN + LABEL + COLUMNS * CHARACTER, top - GAP + MARGIN
    return render("trajectory.svg", stages=stages, margin=MARGIN, width=width, height=height)


def _layout(pieces: Sequence[str], lines: int) -> Iterator[tuple[int, int, int, str]]:
    """Line, column, position among the tokens, and text of each token that fits."""
    line = column = 0
    for place, piece in enumerate(pieces):
        word = " ".join(piece.split())
        if not word:
            continue
        space = column > 0 and piece[0].isspace()
        if column + space + len(word) > COLUMNS:
            line, column, space = line + 1, 0, False
        if line == lines:
            return
        column += space
        yield line, column, place, word[:COLUMNS]
        column += len(word)
