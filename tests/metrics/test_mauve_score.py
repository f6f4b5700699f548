from __future__ import annotations

import sys

import pytest
import torch

from elf_lightning.errors import UserError
from elf_lightning.metrics import ScoringModel, mauve_score


def test_a_missing_package_is_named(
    scoring_model: ScoringModel, real: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mauve", None)
    with pytest.raises(UserError, match=r"mauve is missing .*; pip install mauve-text$"):
        mauve_score(real, real, scoring_model)


def test_features_are_the_last_hidden_state_of_the_text_itself(
    scoring_model: ScoringModel, real: list[str]
) -> None:
    texts = [real[0], "", "the wind"]
    features = scoring_model.features(texts)
    for text, feature in zip(texts, features, strict=True):
        ids = scoring_model.tokenizer.encode([text])
        if not ids[0]:
            assert not feature.any()
            continue
        hidden = scoring_model.model(input_ids=torch.tensor(ids), output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(feature, hidden[0, -1])


def test_real_text_is_closer_to_real_text_than_one_word(scoring_model: ScoringModel, real: list[str]) -> None:
    pytest.importorskip("mauve", reason="not installed: pip install mauve-text")
    near = mauve_score([*real, ""], real[::-1], scoring_model)
    far = mauve_score(["the the the"] * len(real), real, scoring_model)
    assert near > far


def test_a_side_without_text_is_refused(scoring_model: ScoringModel, real: list[str]) -> None:
    pytest.importorskip("mauve", reason="not installed: pip install mauve-text")
    with pytest.raises(UserError, match="MAUVE compares 0 samples with 8 real texts"):
        mauve_score([" "], real, scoring_model)
