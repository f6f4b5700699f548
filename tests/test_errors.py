"""What errors say."""

from __future__ import annotations

import pytest

from elf_lightning.errors import UserError, causes, first_line


@pytest.mark.parametrize(
    ("said", "told"), [("one\ntwo", "one"), ("\n  one  ", "one"), ("", "OSError"), (" \n", "OSError")]
)
def test_the_first_line_of_an_error_or_its_name(said: str, told: str) -> None:
    assert first_line(OSError(said)) == told


def test_a_mistake_that_a_worker_passes_on_is_told_alone() -> None:
    traceback = "Caught UserError in a worker.\n  File ...\nelf_lightning.errors.UserError: give a path\n"
    assert str(UserError(traceback)) == "give a path"


def test_an_error_that_is_raised_again_without_the_one_before_it_is_told_once() -> None:
    try:
        try:
            raise RuntimeError from UserError("give a path")
        except RuntimeError as error:
            assert error.__cause__ is not None
            raise error.__cause__ from None
    except UserError as error:
        assert [type(one) for one in causes(error)] == [UserError, RuntimeError]
