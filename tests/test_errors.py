"""What errors say."""

from __future__ import annotations

import pytest

from elf_lightning.errors import UserError, first_line


@pytest.mark.parametrize(
    ("said", "told"), [("one\ntwo", "one"), ("\n  one  ", "one"), ("", "OSError"), (" \n", "OSError")]
)
def test_the_first_line_of_an_error_or_its_name(said: str, told: str) -> None:
    assert first_line(OSError(said)) == told


def test_a_mistake_that_a_worker_passes_on_is_told_alone() -> None:
    traceback = "Caught UserError in a worker.\n  File ...\nelf_lightning.errors.UserError: give a path\n"
    assert str(UserError(traceback)) == "give a path"
