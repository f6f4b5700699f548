"""A metric in a user's own file is in the numbers, the table, the records and the report."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import torch

from elf_lightning.errors import UserError
from elf_lightning.metrics import (
    CorpusMetric,
    MetricNumber,
    MetricSuite,
    Repetition,
    ScoringModel,
    TextMetric,
)

OWN = """
from elf_lightning.metrics import MetricNumber, SampleMean

class Words(SampleMean):
    numbers = (MetricNumber("words", "Words", "Words of a text.", digits=1, headline=True),)

    def measure(self, texts):
        return [len(text.split()) for text in texts]

class Lengths(SampleMean):
    numbers = (MetricNumber("longer %", "Longer %", percent=True), MetricNumber("gap", "Gap"))
    paired = True

    def measure(self, texts, references):
        gaps = [len(text) - len(other) for text, other in zip(texts, references)]
        return [(gap > 0, gap) for gap in gaps]

class Likelihood(SampleMean):
    numbers = (MetricNumber("likelihood", "Likelihood", needs_scoring_model=True),)

    def __init__(self, scoring_model, **kwargs):
        super().__init__(**kwargs)
        self.scoring_model = scoring_model

    def measure(self, texts):
        return (-self.scoring_model.score(texts).nll).tolist()
"""


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_metrics", raising=False)
    monkeypatch.setattr(TextMetric, "registered", dict(TextMetric.registered))
    (tmp_path / "my_metrics.py").write_text(OWN)


def test_own_metrics_are_scored_by_class_path(scoring_model: ScoringModel, real: list[str]) -> None:
    suite = MetricSuite.unconditional(scoring_model, extra=["my_metrics.Words", "my_metrics.Likelihood"])
    numbers = suite(real)
    assert list(numbers)[-3:] == ["distinct", "words", "likelihood"]
    assert numbers["words"] == pytest.approx(sum(len(text.split()) for text in real) / len(real))
    assert numbers["likelihood"] == pytest.approx(-scoring_model.score(real).nll.mean().item())


def test_own_metrics_are_in_table_records_and_report(scoring_model: ScoringModel, real: list[str]) -> None:
    from rich.console import Console

    from elf_lightning.reporting import Report, Scores, report_page, score_table
    from elf_lightning.reporting.plots import curve_panels

    suite = MetricSuite.unconditional(scoring_model, extra=["my_metrics.Words"])
    rows = [Scores.of(kind, kind, 8, [suite(real)]) for kind in ("real", "shuffled", "sampled")]
    assert rows[0].record()["metrics"]["words"]["mean"] == pytest.approx(16.9, abs=1)
    words = f"{rows[0].metrics['words'].mean:.1f}"
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(score_table(rows, "tiny", {}))
    written = console.export_text()
    assert "Words" in written and written.count(words) == 3
    page = report_page(Report("run", {}, "tiny", rows))
    assert page.count(f'<td data-name="Words">{words}</td>') == 3
    assert '<p class="note">Words of a text.</p>' in page
    assert [title for title, _, _ in curve_panels({"val/words": [(1, 2.0)]}, 330)] == ["Words of samples"]


def test_a_metric_may_give_several_numbers_of_pairs(real: list[str]) -> None:
    numbers = MetricSuite.text_to_text(extra=["my_metrics.Lengths", "repetition"])(
        ["a b", "a"], ["a", "a b c"]
    )
    assert numbers["longer %"] == 0.5
    assert numbers["gap"] == -1
    assert "repetition" in numbers


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nothing",
            r"metrics: 'nothing' cannot be imported .*; give the class path of a TextMetric, or one of",
        ),
        ("my_metrics.Nothing", r"'my_metrics.Nothing' cannot be imported \(module 'my_metrics' has no"),
        ("my_metrics.OWN", r"'my_metrics.OWN' cannot be imported"),
        ("pathlib.Path", r"'pathlib.Path' must be a subclass of TextMetric that declares its `numbers`"),
        ("repetition", r"metrics: 2 give the number 'repetition'"),
        (
            "my_metrics.Lengths",
            r"'longer %' compares texts with references, which only text-to-text tasks have",
        ),
    ],
)
def test_metrics_that_do_not_fit_are_refused(scoring_model: ScoringModel, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MetricSuite.unconditional(scoring_model, extra=[name])


def test_text_to_text_tasks_have_no_scoring_model() -> None:
    with pytest.raises(UserError, match=r"'my_metrics\.Likelihood' needs a scoring model"):
        MetricSuite.text_to_text(extra=["my_metrics.Likelihood"])


def test_an_instance_keeps_its_own_settings(scoring_model: ScoringModel) -> None:
    class OneGrams(Repetition):
        numbers = (MetricNumber("one_grams", "1-grams"),)

    suite = MetricSuite.unconditional(scoring_model, extra=[OneGrams(n=1)])
    assert suite(["a a a a"])["one_grams"] == 0.75


class Joined(CorpusMetric):
    numbers = (MetricNumber("joined", "Joined", higher_is_better=True),)

    def measure(self, texts: list[str]) -> float:
        return float(len("".join(texts)))


def test_a_corpus_metric_is_a_whole_torchmetric() -> None:
    metric = Joined()
    assert metric.higher_is_better is True
    metric.update(["a", "bc"])
    assert metric(["def"]) == 3  # the batch alone
    copy = metric.clone().to(torch.device("cpu"))
    assert metric.compute() == copy.compute() == 6
    metric.reset()
    metric.update(["a"])
    assert metric.compute() == 1
