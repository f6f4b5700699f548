"""`test` generates, scores and writes; what is written is not done again."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from elf_lightning.codec import TextCodec
from elf_lightning.data import ELFDataModule
from elf_lightning.errors import UserError
from elf_lightning.evaluation import PublishedScores, ReferenceTexts
from elf_lightning.evaluation.evaluate import Evaluation
from elf_lightning.generation import TextGenerator
from elf_lightning.metrics import MetricSuite, ScoringModelSettings
from elf_lightning.sampling import Sampler, SamplingSettings

Read = Callable[[str], list[dict[str, Any]]]
Evaluate = Callable[..., None]
WAY = "SDE 2 steps, gamma 1.5, w 3"


def test_each_text_is_generated_once_and_scored_beside_real_text(
    evaluate: Evaluate, read: Read, tiny_scoring_model: str
) -> None:
    evaluate(sweep={"guidance": [1, 3]})
    texts = read("samples.jsonl")
    assert {(row["setting"], row["seed"], row["index"]) for row in texts} == {
        (way, seed, index)
        for way in ("SDE 2 steps, gamma 1.5, w 1", WAY)
        for seed in (0, 7)
        for index in range(5)
    }
    assert len(texts) == 20
    assert all(row.keys() >= {"text", "tokens"} for row in texts)
    assert len({row["text"] for row in texts}) > 5

    numbers = read("metrics.jsonl")
    assert [row["kind"] for row in numbers] == ["real", "shuffled", "sampled", "sampled"]
    for row in numbers:
        assert row["metrics"].keys() == {"gen_ppl", "entropy", "repetition", "overlap", "distinct"}
        assert row["scoring_model"] == tiny_scoring_model
        assert row["num_samples"] == 5 and row["num_sets"] == 2
        assert row["metrics"]["gen_ppl"]["half_width"] > 0
    real, mixed, one, other = numbers
    assert real["metrics"]["gen_ppl"] != mixed["metrics"]["gen_ppl"]
    assert real["metrics"]["entropy"]["mean"] == pytest.approx(mixed["metrics"]["entropy"]["mean"])
    assert one["metrics"] != other["metrics"]
    assert one["sampling"]["guidance"] == 1


def test_the_report_shows_model_and_real_text_and_names_the_scoring_model(
    evaluate: Evaluate, read: Read, small: Any, folder: Path, tiny_scoring_model: str
) -> None:
    evaluate(sweep={"guidance": [1, 3]})
    page = (folder / "report.html").read_text()
    assert f"scoring model: {tiny_scoring_model}" in page
    assert "<title>run</title>" in page
    texts = re.findall(r'<article class="(model|real)"><h3>\w+</h3><p>(.*?)</p>', page)
    assert len(texts) == 10
    assert {text for owner, text in texts if owner == "real"} <= set(small.sentences(40)[30:])
    assert {text for owner, text in texts if owner == "model"} <= {
        row["text"] for row in read("samples.jsonl")
    }
    assert "srcdoc=" in page


def test_numbers_are_those_of_the_texts(evaluate: Evaluate, read: Read, tiny_scoring_model: str) -> None:
    evaluate()
    texts = [[row["text"] for row in read("samples.jsonl") if row["seed"] == seed] for seed in (0, 7)]
    suite = MetricSuite.unconditional(ScoringModelSettings(tiny_scoring_model, context_length=32).load())
    sets = [suite(one) for one in texts]
    (row,) = (row for row in read("metrics.jsonl") if row["kind"] == "sampled")
    for name, value in row["metrics"].items():
        assert value["mean"] == pytest.approx((sets[0][name] + sets[1][name]) / 2)
        # Two values: Student's quantile for one degree of freedom over the square root of 2.
        spread = abs(sets[0][name] - sets[1][name]) / math.sqrt(2)
        assert value["half_width"] == pytest.approx(12.706 * spread / math.sqrt(2), abs=1e-12)


def test_saved_results_are_reused(
    evaluate: Evaluate, read: Read, folder: Path, sampled: list[tuple[int, int]]
) -> None:
    evaluate()
    before = [(folder / name).read_text() for name in ("samples.jsonl", "metrics.jsonl")]
    sampled.clear()
    evaluate()
    assert before == [(folder / name).read_text() for name in ("samples.jsonl", "metrics.jsonl")]
    assert sampled == []
    evaluate(num_samples=6)
    assert sampled == [(0, 5), (7, 5)]
    assert len(read("metrics.jsonl")) == 6


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """As in a terminal: a shell's background commands, and all that they start, do not heed SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM])
def test_a_killed_evaluation_is_resumed(
    kill: signal.Signals,
    evaluate: Evaluate,
    read: Read,
    folder: Path,
    sampled: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    evaluate()
    whole = {name: read(name) for name in ("samples.jsonl", "metrics.jsonl")}
    for name in whole:
        (folder / name).unlink()
    sampled.clear()

    sample = Sampler.sample

    def dies(*arguments: Any, **settings: Any) -> Any:
        if len(sampled) == 7:
            signal.raise_signal(kill)
        return sample(*arguments, **settings)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Sampler, "sample", dies)
        evaluate()
    assert signal.getsignal(signal.SIGTERM) == before
    left = (folder / "samples.jsonl").read_text()
    assert left.count("\n") == 7  # the 5 of the first seed and the first batch of the second, in pairs
    (folder / "samples.jsonl").write_text(left[:-20])  # killed while the last line was written
    sampled.clear()
    evaluate()
    assert sampled[0] == (7, 1)
    assert len(sampled) == 4
    assert {name: read(name) for name in whole} == whole


def test_another_models_results_are_replaced(
    evaluate: Evaluate, read: Read, sampled: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    evaluate()
    first = read("samples.jsonl")
    sampled.clear()
    evaluate(seed=2)
    assert len(sampled) == 10
    assert f"{len(first)} texts of another model, corpus or precision are replaced" in caplog.text
    second = read("samples.jsonl")
    assert len(second) == len(first)
    assert [row["text"] for row in first] != [row["text"] for row in second]
    assert len({row["model"] for row in read("metrics.jsonl")}) == 2


def test_models_that_differ_outside_of_their_network_have_results_of_their_own(
    small: Any, data: ELFDataModule, tiny_scoring_model: str, folder: Path, read: Read
) -> None:
    model = small.make_model(data, tiny_scoring_model, num_samples=2, seeds=[0])
    small.make_trainer(folder).test(model, datamodule=data, verbose=False)
    with_words = replace(model.config, codec=replace(data.codec, words=("the",)))
    for config, direction in [(with_words, None), (model.config, torch.ones(16))]:
        generator = TextGenerator(model.network, config, nullcontext, repetition_direction=direction)
        evaluation = Evaluation(generator, model.evaluation, folder, ReferenceTexts(data))
        evaluation.run()
        assert {row["model"] for row in read("samples.jsonl")} == {evaluation.source["model"]}
    assert len({row["model"] for row in read("metrics.jsonl")}) == 3


def test_text_to_text_is_measured_against_references(
    small: Any, tmp_path: Path, tiny_t5: str, folder: Path, read: Read
) -> None:
    data = small.make_data(tmp_path, tiny_t5, paired=True)
    model = small.make_model(data, "no scoring model at all", num_samples=64)
    small.make_trainer(folder).test(model, datamodule=data, verbose=False)
    assert len(read("samples.jsonl")) == 2 * 10  # two seeds, all validation pairs
    numbers = {row["kind"]: row for row in read("metrics.jsonl")}
    assert numbers.keys() == {"copied", "shuffled", "sampled"}
    for row in numbers.values():
        assert row["metrics"].keys() == {"bleu", "bleu_default", "rouge1", "rouge2", "rougeL"}
        assert row["scoring_model"] is None
    # With the same words in another order, all unigrams match and few bigrams.
    assert numbers["shuffled"]["metrics"]["rouge1"]["mean"] == pytest.approx(1)
    assert numbers["shuffled"]["metrics"]["rouge2"]["mean"] < 0.6
    assert 20 < numbers["copied"]["metrics"]["bleu"]["mean"] < 80


def test_a_published_result_is_shown_beside_the_models(
    evaluate: Evaluate, read: Read, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = PublishedScores("a paper", {"gen_ppl": 24.1, "entropy": 5.15}, num_samples=999)
    evaluate(published=published)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(" published:")]
    assert row.split()[-6:] == ["24.1", "5.15", "none", "none", "none", "1x999"]
    page = (folder / "report.html").read_text()
    (shown,) = re.findall(
        r'<tr class="published"><th scope="row">published: a paper</th>(.*?)</tr>', page, re.S
    )
    assert re.findall(r"<td[^>]*>(.*?)</td>", shown, re.S)[:3] == ["24.1", "5.15", "none"]
    assert [row["kind"] for row in read("metrics.jsonl")] == ["real", "shuffled", "sampled"]


def test_a_published_result_of_another_task_is_refused(
    evaluate: Evaluate, sampled: list[tuple[int, int]]
) -> None:
    with pytest.raises(UserError, match="'bleu' is not measured here; choose from gen_ppl, entropy"):
        evaluate(published=PublishedScores("a paper", {"bleu": 26.4}))
    assert sampled == []


def test_empty_texts_are_counted_and_told(
    evaluate: Evaluate,
    read: Read,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    decode = TextCodec.decode

    def half_empty(codec: TextCodec, ids: Any) -> list[str]:
        texts = decode(codec, ids)
        return [" ", *texts[1:]]

    monkeypatch.setattr(TextCodec, "decode", half_empty)
    for _ in range(2):  # the second time from the saved results
        evaluate()
        assert [row["num_empty"] for row in read("metrics.jsonl")] == [0, 0, 6]  # 2 seeds of 3 batches
        assert capsys.readouterr().out.count("6 empty") == 1
        assert (folder / "report.html").read_text().count(", 6 empty") == 1


def test_answers_are_cut_to_the_published_length(
    small: Any, tmp_path: Path, tiny_t5: str, folder: Path, read: Read
) -> None:
    data = small.make_data(tmp_path, tiny_t5, paired=True)  # 24 tokens, of which 10 for the condition
    scores = []
    for cut in (False, True, True, False):
        model = small.make_model(data, "no scoring model", num_samples=10, seeds=[0], cut_answers=cut)
        small.make_trainer(folder).test(model, datamodule=data, verbose=False)
        scores.append(read("metrics.jsonl"))
    whole, cut, again, back = scores
    texts = read("samples.jsonl")
    assert len(texts) == 10 and max(len(row["tokens"]) for row in texts) > 14  # saved whole, and once
    assert [row["kind"] for row in whole] == ["copied", "shuffled", "sampled"]
    assert len(cut) == 6 and back == again == cut  # both are remembered
    assert cut[5]["measured"]["cut_answers"] is True
    codec = data.codec
    kept = [codec.decode([row["tokens"][:14]])[0] for row in texts]
    targets = ReferenceTexts(data).targets(range(10))
    expected = MetricSuite.text_to_text()(kept, targets)
    assert {name: one["mean"] for name, one in cut[5]["metrics"].items()} == pytest.approx(expected)
    assert cut[5]["metrics"] != whole[2]["metrics"]


@pytest.mark.parametrize("settings", [SamplingSettings(steps=1), SamplingSettings(steps=2, temperature=1.0)])
def test_empty_samples_are_reported(
    evaluate: Evaluate, settings: SamplingSettings, data: ELFDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elf_lightning.codec.TextCodec.decode", lambda self, ids: [""] * len(ids))
    with pytest.raises(UserError, match=r"^SDE \d steps, .*: GenerativePerplexity: all 5 samples are empty"):
        evaluate(settings=[settings])


def test_a_missing_scoring_model_is_reported_before_sampling(
    small: Any, data: ELFDataModule, folder: Path, tmp_path: Path, sampled: list[tuple[int, int]]
) -> None:
    model = small.make_model(data, str(tmp_path / "nobody"))
    with pytest.raises(UserError, match=r"the scoring model '.*nobody' cannot be loaded"):
        small.make_trainer(folder).test(model, datamodule=data)
    assert sampled == []


def test_a_damaged_results_file_is_reported(evaluate: Evaluate, folder: Path) -> None:
    folder.mkdir()
    (folder / "samples.jsonl").write_text('{"text": "of somebody else"}\nno JSON\n')
    with pytest.raises(UserError, match=r"line 2 of .*samples.jsonl is not a JSON object; move it away"):
        evaluate()


def test_an_untrained_model_is_a_warning(evaluate: Evaluate) -> None:
    with pytest.warns(UserWarning, match="the model is not trained; give a checkpoint with --ckpt_path"):
        evaluate()
