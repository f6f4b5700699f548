from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from elf_lightning.reporting import pareto_optimal, read_curves
from elf_lightning.reporting.plots import (
    COLOURS,
    PUBLISHED,
    Mark,
    averaged,
    curve_panels,
    draw_marks,
    frontier_plots,
    new_axes,
    svg,
)

SVG = "{http://www.w3.org/2000/svg}"


def ticks(values: list[float], log: bool) -> list[float]:
    """Of an axis over these values, as they are written."""
    axes = new_axes(448, 200, "", log=log)
    axes.margins(0)
    axes.plot(values, [0] * len(values))
    svg(axes, "", {})
    low, high = axes.get_xlim()
    seen = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    slack = 1e-6 * max(map(abs, seen), default=0)
    assert all(low - slack <= value <= high + slack for value in seen)
    ends = (low, high)
    return [x for x in axes.get_xticks() if low < x < high or any(math.isclose(x, end) for end in ends)]


@pytest.mark.parametrize(
    ("low", "high", "log", "expected"),
    [
        (0, 10, False, [0, 2, 4, 6, 8, 10]),
        (3.02, 3.61, False, [3.1, 3.2, 3.3, 3.4, 3.5, 3.6]),
        (-1, 1, False, [-1, -0.5, 0, 0.5, 1]),
        (20, 1100, True, [20, 50, 100, 200, 500, 1000]),
        (21, 26, True, [21, 22, 23, 24, 25, 26]),
        (1, 1e6, True, None),
    ],
)
def test_ticks_are_round_and_few(low: float, high: float, log: bool, expected: list[float] | None) -> None:
    found = ticks([low, high], log)
    assert 2 <= len(found) <= 7
    if expected is not None:
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("values", [[5.0], [0.0], [], [math.nan, 1.0, math.inf], [3.0, 3.0], [-2.0]])
@pytest.mark.parametrize("log", [False, True])
def test_any_values_can_be_drawn(values: list[float], log: bool) -> None:
    ticks(values, log)


def test_labels_do_not_overlap() -> None:
    axes = new_axes(600, 400, "")
    content = parsed(svg(axes, "", draw_marks(axes, [Mark((0, 0), "", f"label {n}") for n in range(6)])))
    written = [text for text in content.iter(f"{SVG}text") if (text.text or "").startswith("label")]
    found = [tuple(map(float, re.findall(r"-?[\d.]+", text.get("transform", ""))[-2:])) for text in written]
    assert len(found) == 6
    for number, one in enumerate(found):
        for other in found[:number]:
            assert abs(one[0] - other[0]) >= 40 or abs(one[1] - other[1]) >= 14


def test_a_label_without_room_is_left_out() -> None:
    axes = new_axes(200, 120, "")
    draw_marks(axes, [Mark((0, 0), "", "a label that is longer than the whole plot is wide")])
    assert not list(axes.texts)


def test_labels_and_tooltips_are_plain_text() -> None:
    axes = new_axes(600, 400, "")
    hostile = "</svg><script>$\\frac$"
    content = svg(axes, hostile, draw_marks(axes, [Mark((0, 0), hostile, hostile)]))
    assert "<script" not in content
    root = parsed(content)
    assert hostile in texts(content)
    assert [title.text for title in root.iter(f"{SVG}title")] == [hostile]
    assert root[0].get("aria-label") == hostile


def test_colours_are_those_of_the_page_and_nothing_is_fetched(made_up: Any) -> None:
    for _, plot in frontier_plots([made_up.REAL, made_up.SWEEP[0]], "gpt2-large", 600):
        assert "var(--real)" in plot and "var(--model)" in plot
        assert not any(colour in plot for colour in COLOURS.values())
        assert not re.search(r"url\(|https?://(?!www\.w3\.org)|<style", plot)


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{svg}</div>")


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter(f"{SVG}text")]


def marks(svg: str) -> list[ElementTree.Element]:
    return [group for group in parsed(svg).iter(f"{SVG}g") if group.get("class") == "mark"]


@pytest.mark.parametrize("width", [330, 980])
def test_the_frontier_has_every_point_and_labels_what_matters(made_up: Any, width: int) -> None:
    rows = [made_up.REAL, made_up.MIXED, *made_up.SWEEP]
    svg = "".join(plot for _, plot in frontier_plots(rows, made_up.SCORING_MODEL, width))
    assert len(marks(svg)) == len(rows) + len(PUBLISHED)
    titles = {mark.findtext(f"{SVG}title") for mark in marks(svg)}
    assert "real validation text: Gen. PPL 60.0, entropy 3.50" in titles
    assert "ELF 105M, published, scoring model gpt2-large: Gen. PPL 24.1, entropy 5.15" in titles
    best = pareto_optimal(made_up.SWEEP)
    assert 1 < len(best) < len(made_up.SWEEP)
    written = set(texts(svg))
    assert {"real text", "shuffled", *PUBLISHED, *(str(i + 1) for i in range(len(best)))} <= written


def test_published_points_share_the_axes_of_their_own_scoring_model_alone(made_up: Any) -> None:
    rows = [made_up.REAL, made_up.MIXED, made_up.SWEEP[0]]
    assert len(list(frontier_plots(rows, "openai-community/gpt2-large", 980))) == 1
    (scoring_model, ours), (published, _) = frontier_plots(rows, made_up.SCORING_MODEL, 980)
    assert (scoring_model, published) == (made_up.SCORING_MODEL, "gpt2-large (published)")
    assert "this model" in texts(ours)


def test_every_point_is_inside_the_plot(made_up: Any) -> None:
    ((_, svg),) = frontier_plots([*made_up.SWEEP, made_up.REAL], "gpt2-large", 600)
    for mark in marks(svg):
        (use,) = mark.iter(f"{SVG}use")
        assert 44 < float(use.attrib["x"]) < 600 - 12 and 12 < float(use.attrib["y"]) < 340 - 40


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
    panels = list(curve_panels(curves, 330))
    assert [(title, last) for title, last, _ in panels] == [
        ("Denoise loss", {"train": pytest.approx(0.001002, rel=1e-3), "validation": 0.25}),
        ("Entropy of samples", {"validation": 3.0}),
    ]
    lines = [group.find(f"{SVG}path") for _, _, svg in panels for group in marks(svg)]
    assert [line is not None and line.get("d", "").startswith("M") for line in lines] == [True, True, True]
    assert "validation ends at 0.25" in panels[0][2]
    assert list(curve_panels({}, 330)) == []


def test_averaging_keeps_the_last_step_of_neighbours() -> None:
    assert averaged([(1, 1.0), (2, 3.0), (3, 5.0)], max_points=2) == [(2, 2.0), (3, 5.0)]
    assert averaged([(1, 1.0)], max_points=2) == [(1, 1.0)]
    assert averaged([]) == []
