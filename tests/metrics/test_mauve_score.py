from __future__ import annotations

import sys

import pytest
import torch

from elf_lightning.errors import UserError
from elf_lightning.metrics import Judge, mauve_score


def test_a_missing_package_is_named(judge: Judge, real: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mauve", None)
    with pytest.raises(UserError, match=r"mauve is missing .*; pip install mauve-text$"):
        mauve_score(real, real, judge)


def test_features_are_the_last_hidden_state_of_the_text_itself(judge: Judge, real: list[str]) -> None:
    texts = [real[0], "", "the wind"]
    features = judge.features(texts)
    for text, feature in zip(texts, features, strict=True):
        ids = judge.tokenizer.encode([text])
        if not ids[0]:
            assert not feature.any()
            continue
        hidden = judge.model(input_ids=torch.tensor(ids), output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(feature, hidden[0, -1])


def test_real_text_is_closer_to_real_text_than_one_word(judge: Judge, real: list[str]) -> None:
    pytest.importorskip("mauve", reason="not installed: pip install mauve-text")
    near = mauve_score([*real, ""], real[::-1], judge)
    far = mauve_score(["the the the"] * len(real), real, judge)
    assert near > far


def test_a_side_without_text_is_refused(judge: Judge, real: list[str]) -> None:
    pytest.importorskip("mauve", reason="not installed: pip install mauve-text")
    with pytest.raises(UserError, match="MAUVE compares 0 samples with 8 real texts"):
        mauve_score([" "], real, judge)
