from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest

from elf_lightning.metrics import metric_numbers
from elf_lightning.reporting import (
    Estimate,
    Finding,
    Scores,
    closest_to_real,
    measured_numbers,
    pareto_optimal,
    score_table,
    verdict,
)


def test_the_interval_is_students() -> None:
    assert Estimate.of([3.0]) == Estimate(3.0, None)
    # 1 to 5: mean 3, deviation sqrt(2.5), 4 degrees of freedom.
    five = Estimate.of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert five.mean == 3
    assert five.half_width == pytest.approx(2.776 * math.sqrt(2.5 / 5))
    assert Estimate.of([1.0, math.nan, 2.0, 3.0, 4.0, 5.0]) == five
    assert math.isnan(Estimate.of([math.nan, math.nan]).mean)


@pytest.mark.parametrize(
    ("values", "quantile"), [(11, 2.228), (12, 2.201), (21, 2.086), (61, 2.000), (10_001, 1.960)]
)
def test_quantiles_beyond_the_table_go_on(values: int, quantile: float) -> None:
    half = Estimate.of([0.0, 1.0] * (values // 2) + [0.5] * (values % 2)).half_width
    deviation = math.sqrt((values // 2 * 2) * 0.25 / (values - 1))
    assert half == pytest.approx(quantile * deviation / math.sqrt(values), rel=1e-3)


def test_a_row_goes_through_json_and_back(made_up: Any) -> None:
    row = Scores.of("one", "sampled", 4, [{"gen_ppl": 2.0, "repetition": math.nan}] * 2)
    record = json.loads(json.dumps(row.record(), allow_nan=False))
    again = Scores.from_record({**record, "model": "more"})
    assert math.isnan(again.metrics["repetition"].mean)
    assert again.metrics["gen_ppl"] == Estimate(2.0, 0.0)
    assert (again.name, again.kind, again.num_samples, again.num_sets) == ("one", "sampled", 4, 2)
    assert Scores.from_record(made_up.REAL.record()) == made_up.REAL


def test_numbers_are_shown_with_their_interval() -> None:
    numbers = metric_numbers()
    assert Estimate(123.456, 7.89).show(numbers["gen_ppl"]) == "123.5 ± 7.9"
    assert Estimate(0.01234).show(numbers["repetition"]) == "1.23"
    assert Estimate(math.nan, math.nan).show(numbers["repetition"]) == "none"


def test_numbers_of_old_records_that_no_metric_declares_are_shown_under_their_names() -> None:
    rows = [
        Scores.of("old", "sampled", 4, [{"gen_ppl": 2.0, "self_bleu": 0.123}]),
        Scores.of("new", "sampled", 4, [{"gen_ppl": 2.0, "entropy": 3.0}]),
    ]
    numbers = measured_numbers(rows)
    assert [number.title for number in numbers] == ["Gen. PPL", "self_bleu", "Entropy"]
    shown = [[row[number.name].show(number) for number in numbers] for row in rows]
    assert shown == [["2.0", "0.12", "none"], ["2.0", "none", "3.00"]]


def test_pareto_optimal_is_what_nothing_beats(made_up: Any) -> None:
    points = {"a": (10, 3.0), "b": (20, 3.2), "worse": (20, 3.1), "c": (30, 3.3), "beaten": (40, 3.2)}
    rows = [made_up.scores(name, "sampled", *point) for name, point in points.items()]
    assert [row.name for row in pareto_optimal(rows)] == ["a", "b", "c"]
    assert pareto_optimal([rows[0], rows[0]]) == [rows[0], rows[0]]


def test_closest_to_real_heeds_perplexity_and_entropy(made_up: Any) -> None:
    repetitive = made_up.scores("repetitive", "sampled", 61, 1.0)
    noisy = made_up.scores("noisy", "sampled", 700, 3.5)
    good = made_up.scores("good", "sampled", 90, 3.4)
    assert closest_to_real([made_up.REAL, made_up.MIXED, repetitive, noisy, good]) is good
    assert closest_to_real(made_up.PAIRED).name.startswith("ODE")


def test_the_verdict_says_what_is_wrong(made_up: Any) -> None:
    def told(gen_ppl: float, entropy: float, repetition: float) -> tuple[str, list[bool | None]]:
        ours = made_up.scores("ours", "sampled", gen_ppl, entropy, repetition)
        findings = verdict([made_up.REAL, made_up.MIXED, ours])
        return " ".join(one.sentence for one in findings), [one.good for one in findings]

    sentences, good = told(90, 3.45, 0.005)
    assert "1.5 times as surprising as real ones; real words in random order, 13.3 times" in sentences
    assert "as varied as real text (3.45 nats" in sentences
    assert "They rarely repeat themselves (0.5% of 4-grams, real text 0.0%)" in sentences
    assert good == [True, True, True]
    sentences, good = told(30, 1.2, 0.8)
    assert "0.5 times as surprising as real ones: likelier than anything people write" in sentences
    assert (
        "less varied than real text (1.20 nats of entropy, real text 3.50), which lowers the perplexity"
        in sentences
    )
    assert "They repeat themselves (80.0% of 4-grams" in sentences
    assert good == [False, False, False]
    sentences, good = told(700, 3.9, math.nan)
    assert (
        "more varied than real text (3.90 nats of entropy, real text 3.50), as random words are" in sentences
    )
    assert "too short" in sentences
    assert good == [False, False, None]


def test_the_verdict_on_pairs_names_what_costs_nothing(made_up: Any) -> None:
    assert verdict(made_up.PAIRED) == [
        Finding("BLEU is 25.0; copying the source would have 12.0.", True),
        Finding("ROUGE-L is 25.0, against 12.0.", True),
    ]
    poor = made_up.paired("ODE 2 steps", "sampled", 11)
    assert [one.good for one in verdict([*made_up.PAIRED[:2], poor])] == [False, False]


def test_a_table_fits_a_terminal_whole(made_up: Any) -> None:
    from rich.console import Console

    own = Scores(
        "SDE 64 steps", "sampled", 64, 3, {**made_up.REAL.metrics, "own metric": Estimate(0.5, 0.01)}
    )
    for rows in ([made_up.REAL, made_up.MIXED, *made_up.SWEEP], [made_up.REAL, own], made_up.PAIRED):
        console = Console(width=80, record=True, file=io.StringIO())
        console.print(score_table(rows, made_up.SCORING_MODEL, {"BLEU": "case:lc"}))
        written = console.export_text()
        assert "…" not in written
        assert "the source, copied" in written if rows is made_up.PAIRED else "real validation" in written
        assert made_up.SCORING_MODEL in written and "BLEU: case:lc" in written
        assert "Repetition" in written or rows is made_up.PAIRED
    assert "60.0" in written or "12.0" in written
