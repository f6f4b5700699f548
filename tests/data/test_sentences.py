"""Where the sentences of a text begin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_lightning.data.tokenize import sentences


@given(st.text(alphabet="aB .!?\"'\n。", max_size=60))
def test_sentences_joined_are_the_text(text: str) -> None:
    assert "".join(sentences(text)) == text
    assert "" not in sentences(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He ran. She sat.", ["He ran.", " She sat."]),
        ('"Stop!" he cried. "No?" "Yes."', ['"Stop!" he cried.', ' "No?"', ' "Yes."']),
        ("Mr. Darcy met Dr. J. Watson. They spoke.", ["Mr. Darcy met Dr. J. Watson.", " They spoke."]),
        ("at 3.5 miles... and more", ["at 3.5 miles... and more"]),
        ("A title\nIts text.", ["A title\n", "Its text."]),
        ("他跑了。她坐下。", ["他跑了。", "她坐下。"]),
        ("", []),
    ],
)
def test_sentences_begin_after_full_stops_but_not_after_titles(text: str, expected: list[str]) -> None:
    assert list(sentences(text)) == expected
