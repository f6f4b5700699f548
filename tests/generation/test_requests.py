"""From prompts, templates and data to requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elf_lightning.codec import TextCodec
from elf_lightning.data import ELFDataModule, JsonLines, TextFiles
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.generation import Request, requests_from_data, requests_from_user

EOS, THE, CAT, SAT = 2, 3, 5, 8
LENGTH = 12

Complaint = Callable[[Callable[[], Any]], str]


@pytest.fixture
def codec(make_codec: Callable[..., TextCodec]) -> TextCodec:
    return make_codec()


@pytest.fixture
def conditional(make_codec: Callable[..., TextCodec]) -> TextCodec:
    return make_codec(max_condition_length=4)


# From a user


def test_nothing_is_given_for_unconditional_text(codec: TextCodec) -> None:
    assert requests_from_user(codec, 3) == [Request(0), Request(1), Request(2)]


def test_a_prompt_is_the_fixed_start_of_a_text(codec: TextCodec) -> None:
    assert requests_from_user(codec, 2, prompts=["the cat", "sat"]) == [
        Request(0, fixed={0: THE, 1: CAT}),
        Request(1, fixed={0: THE, 1: CAT}),
        Request(2, fixed={0: SAT}),
        Request(3, fixed={0: SAT}),
    ]


def test_a_prompt_is_the_condition_of_a_text_to_text_model(conditional: TextCodec) -> None:
    (request,) = requests_from_user(conditional, 1, prompts=["the cat"])
    assert (request.condition, request.fixed) == ([THE, CAT], {})


def test_a_condition_may_have_tokens_outside_the_vocabulary(
    codec: TextCodec, conditional: TextCodec, complaint: Complaint
) -> None:
    """The encoder knows them; the network generates others."""
    (request,) = requests_from_user(conditional, 1, prompts=["the whale"])
    assert len(request.condition) == 2
    assert "does not contain 'whale'" in complaint(
        lambda: requests_from_user(codec, 1, prompts=["the whale"])
    )


def test_each_blank_of_a_template_is_one_open_token(codec: TextCodec) -> None:
    (request,) = requests_from_user(codec, 1, infill=["the __ sat _"])
    assert request == Request(0, fixed={0: THE, 3: SAT, 5: EOS})
    (full,) = requests_from_user(codec, 1, infill=["_" + "the " * (LENGTH - 1)])
    assert full.fixed == dict.fromkeys(range(1, LENGTH), THE)


def test_a_string_is_one_text(codec: TextCodec) -> None:
    assert requests_from_user(codec, 1, "the cat") == requests_from_user(codec, 1, ["the cat"])
    assert requests_from_user(codec, 1, None, "the _") == requests_from_user(codec, 1, None, ["the _"])


def test_requests_that_a_model_cannot_meet(
    codec: TextCodec, conditional: TextCodec, complaint: Complaint
) -> None:
    def refused(codec: TextCodec, num: int = 1, **given: Any) -> str:
        return complaint(lambda: requests_from_user(codec, num, **given))

    assert "num is 0" in refused(codec, 0)
    assert "for a prompt, give prompts=['in the beginning']" in refused(codec, "in the beginning")
    assert "cannot be combined" in refused(codec, prompts=["a"], infill=["_"])
    assert "has 12 tokens; give 1 to 11" in refused(codec, prompts=["a " * 12])
    assert "has 0 tokens" in refused(codec, prompts=[""])
    assert "has 5 tokens; give 1 to 4" in refused(conditional, prompts=["a a a a a"])
    assert "needs prompts" in refused(conditional)
    assert "text-to-text; give prompts" in refused(conditional, infill=["_ a"])
    assert "has no blank" in refused(codec, infill=["the cat"])
    assert "13 tokens, more than the model's 12" in refused(codec, infill=["_" * 13])
    assert "vocabulary does not contain 'whale'" in refused(codec, infill=["the whale _"])


# From data


def test_data_without_conditions_give_numbers_alone(tmp_path: Path, encoder_folder: str) -> None:
    (tmp_path / "lines.txt").write_text("the cat sat\n" * 4)
    source = TextFiles(str(tmp_path / "lines.txt"), document="line", validation_fraction=0.5)
    data = ELFDataModule(
        source, PretrainedEncoder(encoder_folder), max_length=8, batch_size=2, cache_dir=str(tmp_path / "c")
    )
    assert requests_from_data(data, [3, 900]) == [Request(3), Request(900)]


def test_data_with_pairs_give_the_validation_conditions(tmp_path: Path, encoder_folder: str) -> None:
    pairs = [("the cat", "a dog"), ("sat on", "a mat"), ("the cat sat on", "a boat"), ("cat", "dog")]
    lines = (json.dumps({"input": source, "output": target}) for source, target in pairs)
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    data = ELFDataModule(
        JsonLines(str(tmp_path / "pairs.jsonl"), validation_fraction=0.5),
        PretrainedEncoder(encoder_folder),
        max_length=8,
        max_condition_length=3,
        packing="truncate",
        pad_mode="eos",
        batch_size=2,
        cache_dir=str(tmp_path / "cache"),
    )
    data.prepare_data()
    last, first = requests_from_data(data, [1, 0])
    assert (last.index, first.index) == (1, 0)
    assert last.condition[0] == CAT
    assert list(first.condition[:2]) == [THE, CAT]
    assert len(first.condition) == 3, "cut to max_condition_length"
