"""A picture of one text on its way from noise: a few times, tokens coloured by when they settled."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from elf_lightning.reporting.trajectory import TextPath, settled_steps

COLUMNS = 92
"""Letters in a line."""
LETTER, LINE, MARGIN, LABEL, GAP = 7.8, 22, 16, 76, 10
"""In pixels: a letter's width, a line's height, around everything, for the time, between two times."""
SHADES = 5
STYLE = """
  text { font: 13px ui-monospace, Menlo, Consolas, monospace }
  .card { fill: #fbfcfe; stroke: #d8dee9 } .time { font-weight: 600 }
  .time, .ink { fill: #1d2430 } .quiet { fill: #667085 }
  .s0 { fill: #b9d4ff } .s1 { fill: #c9cdfa } .s2 { fill: #d9c7f5 }
  .s3 { fill: #eccbc8 } .s4 { fill: #ffd09a }
  @media (prefers-color-scheme: dark) {
    .card { fill: #161b24; stroke: #2c3546 }
    .time, .ink { fill: #e8ecf3 } .quiet { fill: #7d879a }
    .s0 { fill: #1f4a8c } .s1 { fill: #3d4289 } .s2 { fill: #5b3b86 }
    .s3 { fill: #714650 } .s4 { fill: #87501a }
  }
"""


def trajectory_picture(times: Sequence[float], path: TextPath, rows: int = 6, lines: int = 2) -> str:
    """An SVG picture with a background of its own, in the light and in the dark.

    Args:
        times: (K,) from 0 (noise) to 1 (data).
        path: the text at all these times.
        rows: times shown, evenly over the steps; the last is among them.
        lines: of each of them; what has no place there is left out.
    """
    settled = settled_steps(path.tokens)
    last = len(times) - 1
    shown = sorted({round(last * row / (rows - 1)) for row in range(rows)})
    parts: list[str] = []
    top = float(MARGIN)
    for step in shown:
        parts.append(f'<text class="time" x="{MARGIN}" y="{top + 15:g}">t = {times[step]:.2f}</text>')
        used = 1
        for line, column, place, word in _placed(path.pieces[step], lines):
            used = max(used, line + 1)
            parts.append(_token(word, column, top + line * LINE, settled[place], step, last))
        top += used * LINE + GAP
    width, height = 2 * MARGIN + LABEL + COLUMNS * LETTER, top - GAP + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="A text at {len(shown)} times from noise to data"><style>{STYLE}</style>'
        f'<rect class="card" x=".5" y=".5" width="{width - 1:g}" height="{height - 1:g}" rx="8"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _placed(pieces: Sequence[str], lines: int) -> Iterator[tuple[int, int, int, str]]:
    """Line and column of each token that has a place, its position among the tokens, and its letters."""
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


def _token(word: str, column: int, top: float, settled: int, step: int, last: int) -> str:
    """One token, on its colour from when it has settled on."""
    x, width = MARGIN + LABEL + column * LETTER, len(word) * LETTER
    shade = min(SHADES - 1, SHADES * settled // (last + 1))
    ground = f'<rect class="s{shade}" x="{x:.1f}" y="{top:g}" width="{width:.1f}" height="20" rx="3"/>'
    text = (
        f'<text class="{"ink" if settled <= step else "quiet"}" x="{x:.1f}" y="{top + 15:g}" '
        f'textLength="{width:.1f}" lengthAdjust="spacingAndGlyphs">{html.escape(word)}</text>'
    )
    return (ground if settled <= step else "") + text
