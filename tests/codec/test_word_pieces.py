"""Where spaces go in a text whose punctuation was split off."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_lightning.codec.spacing import space_before


def set_as_in_print(text: str) -> str:
    """A text without its spaces around punctuation, with those that `space_before` gives it."""
    words = re.findall(r"\w+|[^\w\s]", text)
    return "".join(" " * space + word for space, word in zip(space_before(words), words, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "the sea-water was cold, and the captain's boat leaked.",
        '"who is there?" he asked. "nobody," said she; "go away!"',
        "it isn't so; they'll come, and i've seen 'em",
        "(a note) on page 3, with 1,000 ships at 10:30 a.m. and $5",
        "'tis the dogs' dinner, at five o'clock",
        "he said: \"she cried 'stop!' and ran.\"",
        "no [more] of it",
    ],
)
def test_texts_are_set_as_in_print(text: str) -> None:
    assert set_as_in_print(text) == text


@given(st.lists(st.sampled_from(["a", "s", "3", "100", *".,;:!?()[]-\"'$"]), max_size=20))
def test_each_word_has_its_place_and_the_first_none_before_it(words: list[str]) -> None:
    spaces = space_before(words)
    assert len(spaces) == len(words)
    assert not any(spaces[:1])
