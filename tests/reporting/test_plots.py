from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from elf_lightning.reporting import pareto_optimal, read_curves
from elf_lightning.reporting.axes import Axis, Frame, Labels
from elf_lightning.reporting.curves import curve_plots, thinned
from elf_lightning.reporting.frontier import PUBLISHED, frontier_plots


@pytest.mark.parametrize(
    ("low", "high", "log", "ticks"),
    [
        (0, 10, False, [0, 2, 4, 6, 8, 10]),
        (3.02, 3.61, False, [3.1, 3.2, 3.3, 3.4, 3.5, 3.6]),
        (-1, 1, False, [-1, -0.5, 0, 0.5, 1]),
        (20, 1100, True, [20, 50, 100, 200, 500, 1000]),
        (21, 26, True, [21, 22, 23, 24, 25, 26]),
        (1, 1e6, True, None),
    ],
)
def test_ticks_are_round_few_and_inside(
    low: float, high: float, log: bool, ticks: list[float] | None
) -> None:
    found = Axis("", low, high, log).ticks(6)
    assert 2 <= len(found) <= 6
    assert all(low <= value <= high for value in found)
    if ticks is not None:
        assert found == pytest.approx(ticks)


def test_places_are_shares_of_the_axis() -> None:
    assert Axis("", 2, 4).place(3) == pytest.approx(0.5)
    assert Axis("", 1, 100, log=True).place(10) == pytest.approx(0.5)


@pytest.mark.parametrize("values", [[5.0], [0.0], [], [math.nan, 1.0, math.inf], [3.0, 3.0], [-2.0]])
@pytest.mark.parametrize("log", [False, True])
def test_an_axis_has_room_around_any_values(values: list[float], log: bool) -> None:
    axis = Axis.around("", values, log)
    assert axis.low < axis.high
    assert all(
        axis.low < value < axis.high for value in values if math.isfinite(value) and (value > 0 or not log)
    )
    assert axis.ticks(5)


def test_labels_keep_out_of_each_others_way() -> None:
    labels = Labels(Frame(600, 400, Axis("", 0, 1), Axis("", 0, 1)))
    written = [labels.beside(300, 200, f"label {number}") for number in range(6)]
    places = [re.search(r'<text[^>]* x="([\d.]+)" y="([\d.]+)"', text) for text in written]
    assert all(places)
    found = [(float(place[1]), float(place[2])) for place in places if place]
    for number, one in enumerate(found):
        for other in found[:number]:
            assert abs(one[0] - other[0]) >= 40 or abs(one[1] - other[1]) >= 14
    assert "leader" in written[-1] and "leader" not in written[0]


def test_a_label_without_room_is_left_out() -> None:
    labels = Labels(Frame(200, 120, Axis("", 0, 1), Axis("", 0, 1)))
    assert labels.beside(100, 60, "a label that is longer than the whole plot is wide") == ""


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{svg}</div>")


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter("text")]


@pytest.mark.parametrize("width", [330, 980])
def test_the_frontier_has_every_point_and_labels_what_matters(made_up: Any, width: int) -> None:
    rows = [made_up.REAL, made_up.MIXED, *made_up.SWEEP]
    svg = frontier_plots(rows, made_up.SCORING_MODEL, width)
    marks = list(parsed(svg).iter("path"))
    assert len(marks) == len(rows) + len(PUBLISHED)
    titles = {title.text for mark in marks for title in mark}
    assert "real validation text: Gen. PPL 60.0, entropy 3.50" in titles
    assert "ELF 105M, published, scoring model gpt2-large: Gen. PPL 24.1, entropy 5.15" in titles
    told = texts(svg)
    best = pareto_optimal(made_up.SWEEP)
    assert 1 < len(best) < len(made_up.SWEEP)
    assert {"real text", "shuffled", *PUBLISHED, *(str(i + 1) for i in range(len(best)))} <= set(told)
    assert sum("optimal" in mark.get("class", "") for mark in marks) == len(best)


def test_published_points_share_the_axes_of_their_own_scoring_model_alone(made_up: Any) -> None:
    rows = [made_up.REAL, made_up.MIXED, made_up.SWEEP[0]]
    assert frontier_plots(rows, "openai-community/gpt2-large", 980).count("<svg") == 1
    apart = frontier_plots(rows, made_up.SCORING_MODEL, 980)
    assert apart.count("<svg") == 2
    assert "<figcaption>scoring_model: a &lt;tiny&gt; scoring model</figcaption>" in apart
    assert "<figcaption>scoring_model: gpt2-large (published)</figcaption>" in apart
    assert "this model" in texts(apart)


def test_every_point_is_inside_the_plot(made_up: Any) -> None:
    (svg,) = parsed(frontier_plots([*made_up.SWEEP, made_up.REAL], "gpt2-large", 600)).iter("svg")
    for mark in svg.iter("path"):
        x, y = map(float, re.findall(r"[\d.]+", mark.get("transform", "")))
        assert 44 < x < 600 - 12 and 12 < y < 340 - 40


def test_curves_are_read_from_all_parts_of_a_run(tmp_path: Path) -> None:
    first, second = (tmp_path / "csv" / f"version_{number}" / "metrics.csv" for number in (0, 1))
    for path in (first, second):
        path.parent.mkdir(parents=True)
    first.write_text("epoch,step,train/loss,val/loss\n0,9,3.0,\n0,19,2.0,\n0,19,,2.5\n")
    second.write_text("epoch,step,train/loss\n0,19,1.9\n0,29,nan\n")
    assert read_curves(tmp_path)["val/loss"] == [(19, 2.5)]
    assert read_curves(tmp_path)["train/loss"][:2] == [(9, 3.0), (19, 1.9)]
    assert read_curves(tmp_path / "csv" / "nothing") == {}


def test_the_log_of_a_later_test_is_no_part_of_the_curves(tmp_path: Path) -> None:
    logs = {
        "fit": "epoch,step,train/loss,val/loss\n0,9,,2.5\n",
        "test": "epoch,step,val/loss\n0,0,2.4\n",
        "new": "",
    }
    for name, content in logs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text(content)
    assert read_curves(tmp_path) == {"val/loss": [(9, 2.5)]}


def test_curves_are_drawn_where_the_log_has_them() -> None:
    curves = {
        "train/denoise_loss": [(step, 1 / step) for step in range(1, 1001)],
        "val/denoise_loss": [(500, 0.5), (1000, 0.25)],
        "val/entropy": [(500, 3.0)],
        "train/decode_loss": [(1, math.nan)],
        "train/tokens_per_second": [(1, 9.0)],
    }
    svg = curve_plots(curves, 330)
    assert re.findall(r"<figcaption>(.*?)</figcaption>", svg) == [
        'Denoise loss <b class="train">0.001002</b> <b class="validation">0.25</b>',
        'Entropy of samples <b class="validation">3</b>',
    ]
    lines = [element.get("points", "").split() for element in parsed(svg).iter("polyline")]
    assert [len(line) for line in lines] == [200, 2, 1]
    assert "validation ends at 0.25" in svg
    assert curve_plots({}, 330) == ""


def test_thinning_averages_neighbours() -> None:
    assert thinned([(1, 1.0), (2, 3.0), (3, 5.0)], most=2) == [(2, 2.0), (3, 5.0)]
    assert thinned([(1, 1.0)], most=2) == [(1, 1.0)]
    assert thinned([]) == []
