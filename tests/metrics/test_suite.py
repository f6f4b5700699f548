from __future__ import annotations

from pathlib import Path

import pytest

from elf_lightning.errors import UserError
from elf_lightning.metrics import GenerativePerplexity, Judge, JudgeSettings, MetricSuite, Repetition


def test_perplexity_comes_with_what_gives_repetition_away(judge: Judge, real: list[str]) -> None:
    suite = MetricSuite.unconditional(judge)
    numbers = suite(real)
    assert numbers.keys() == {"gen_ppl", "entropy", "repetition", "overlap", "distinct"}
    assert suite.judge == judge.name
    for name, metric in {"gen_ppl": GenerativePerplexity(judge), "repetition": Repetition()}.items():
        metric.update(real)
        assert numbers[name] == metric.compute().item()


def test_texts_of_one_call_do_not_count_in_the_next(judge: Judge, real: list[str]) -> None:
    suite = MetricSuite.unconditional(judge)
    first = suite(real)
    assert suite(["the " * 20] * 3) != first
    with pytest.raises(UserError, match="all 2 samples are empty"):
        suite(["", ""])
    assert suite(real) == first


def test_text_to_text_needs_no_judge_and_tells_its_signatures(real: list[str]) -> None:
    suite = MetricSuite.text_to_text()
    assert suite(real, real) == pytest.approx(
        {"bleu": 100, "bleu_default": 100, "rouge1": 1, "rouge2": 1, "rougeL": 1}
    )
    assert suite.judge is None
    assert "case:lc|eff:yes" in suite.notes["BLEU"] and "case:mixed|eff:no" in suite.notes["BLEU, cased"]
    with pytest.raises(UserError, match="8 hypotheses for 7 references"):
        suite(real, real[1:])


def test_judge_settings_load_the_judge(judge_folder: Path) -> None:
    judge = JudgeSettings(str(judge_folder), context_length=16, batch_size=2).load()
    assert (judge.name, judge.tokenizer.context_length, judge.batch_size) == (str(judge_folder), 16, 2)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"context_length": 1}, "judge.context_length is 1; it must be at least 2"),
        ({"batch_size": 0}, "judge.batch_size is 0; it must be at least 1"),
    ],
)
def test_judges_that_judge_nothing_are_refused(wrong: dict[str, int], told: str) -> None:
    with pytest.raises(UserError) as error:
        JudgeSettings(**wrong)
    assert str(error.value) == told
