"""Where the sentences of a text begin."""

from __future__ import annotations

import re
from collections.abc import Iterator

END = re.compile(r"""[.!?…]["'”’)\]]*(?=\s+["'“‘(\[]*[^\W\d_a-z])|[。！？]["'”’」』）]*|\n""")  # noqa: RUF001
"""A sentence's last mark and closing quotes, before what may begin another; or the end of a line."""
ABBREVIATION = re.compile(
    r"(?<!\w)(?:Mr|Mrs|Ms|Dr|St|Messrs|Mme|Mlle|Prof|Capt|Col|Gen|Lieut|Lt|Rev|Hon|Esq|Vol|vol|No|\w)\.$"
)
"""Ends with a full stop that does not end a sentence: titles and single letters."""


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text, whitespace included: joined, they are the text.

    A rule for European and East Asian punctuation, which errs at abbreviations that it does not know.
    """
    start = 0
    for end in END.finditer(text):
        if not ABBREVIATION.search(text, start, end.end()):
            yield text[start : end.end()]
            start = end.end()
    if start < len(text):
        yield text[start:]
