from __future__ import annotations

from pathlib import Path

import pytest

from elf_lightning.errors import UserError
from elf_lightning.metrics import (
    GenerativePerplexity,
    MetricSuite,
    Repetition,
    ScoringModel,
    ScoringModelSettings,
)


def test_perplexity_comes_with_what_gives_repetition_away(
    scoring_model: ScoringModel, real: list[str]
) -> None:
    suite = MetricSuite.unconditional(scoring_model)
    numbers = suite(real)
    assert numbers.keys() == {"gen_ppl", "entropy", "repetition", "overlap", "distinct"}
    assert suite.scoring_model == scoring_model.name
    assert suite.notes == {"Gen. PPL": f"by {scoring_model.name}, float32, at most 32 tokens a text"}
    for name, metric in {"gen_ppl": GenerativePerplexity(scoring_model), "repetition": Repetition()}.items():
        metric.update(real)
        assert numbers[name] == metric.compute().item()


def test_texts_of_one_call_do_not_count_in_the_next(scoring_model: ScoringModel, real: list[str]) -> None:
    suite = MetricSuite.unconditional(scoring_model)
    first = suite(real)
    assert suite(["the " * 20] * 3) != first
    with pytest.raises(UserError, match="all 2 samples are empty"):
        suite(["", ""])
    assert suite(real) == first


def test_text_to_text_needs_no_scoring_model_and_tells_its_signatures(real: list[str]) -> None:
    suite = MetricSuite.text_to_text()
    assert suite(real, real) == pytest.approx(
        {"bleu": 100, "bleu_default": 100, "rouge1": 1, "rouge2": 1, "rougeL": 1}
    )
    assert suite.scoring_model is None
    assert "case:lc|eff:yes" in suite.notes["BLEU"] and "case:mixed|eff:no" in suite.notes["BLEU, cased"]
    with pytest.raises(UserError, match="8 hypotheses for 7 references"):
        suite(real, real[1:])


def test_scoring_model_settings_load_the_scoring_model(scoring_model_folder: Path) -> None:
    scoring_model = ScoringModelSettings(str(scoring_model_folder), context_length=16, batch_size=2).load()
    assert (scoring_model.name, scoring_model.tokenizer.context_length, scoring_model.batch_size) == (
        str(scoring_model_folder),
        16,
        2,
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"context_length": 1}, "scoring_model.context_length is 1; it must be at least 2"),
        ({"batch_size": 0}, "scoring_model.batch_size is 0; it must be at least 1"),
    ],
)
def test_scoring_settings_out_of_range_are_refused(wrong: dict[str, int], told: str) -> None:
    with pytest.raises(UserError) as error:
        ScoringModelSettings(**wrong)
    assert str(error.value) == told
