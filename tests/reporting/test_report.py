"""The report as text and, where there is a browser, as people see it."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from elf_lightning.reporting import Estimate, Specimen, few_steps_page, report_page


class Outline(HTMLParser):
    """Which elements a page has, and whether they close."""

    VOID = ("meta", "link", "input", "br")

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def page(made_up: Any) -> str:
    return report_page(made_up.report([made_up.REAL, made_up.MIXED, *made_up.SWEEP]))


def test_the_page_is_whole_and_asks_for_nothing_outside(page: str) -> None:
    outline = Outline(page)
    assert outline.open == []
    assert outline.sources == ["data:,"]
    assert "default-src 'none'" in page
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org)", page)


def test_the_scoring_model_is_named_wherever_it_matters(page: str) -> None:
    named = "a &lt;tiny&gt; scoring model"
    for heading in ("Repetition %", "Overlap %", "Distinct %"):
        assert f'{heading} <small class="scoring_model">needs no scoring model</small>' in page
    for heading in ("Gen. PPL", "Entropy"):
        assert page.count(f'{heading} <small class="scoring_model">scoring model: {named}</small>') >= 2
    assert f"<figcaption>scoring model: {named}</figcaption>" in page
    assert f"in the tokens of the scoring model {named}; numbers under different" in page


def test_perplexity_never_stands_alone(page: str) -> None:
    (cards,) = re.findall(r'<div class="cards">(.*?)\n</div>\n', page, re.DOTALL)
    assert [name in cards for name in ("Gen. PPL", "Entropy", "Repetition %")] == [True, True, True]
    rows = re.findall(r"<tr class=.*?</tr>", page, re.DOTALL)
    assert all(
        all(f'data-name="{name}"' in row for name in ("Gen. PPL", "Entropy", "Repetition %")) for row in rows
    )


def test_the_table_has_real_text_the_optimal_configurations_and_all_others_folded(
    page: str, made_up: Any
) -> None:
    shown, folded = page.split("<details>")
    assert "real validation text" in shown and "the same words, shuffled" in shown
    optimal = re.findall(r'(SDE [^<]*) <span class="pareto">Pareto (\d)</span>', shown)
    assert [int(number) for _, number in optimal] == list(range(1, len(optimal) + 1))
    for row in made_up.SWEEP:
        assert row.name in folded
    listed = re.findall(r"<li>(SDE .*?)</li>", shown)
    assert listed == [name for name, _ in optimal]


def test_texts_are_shown_and_not_run(page: str) -> None:
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "let there be $light" in page
    assert "5M &lt;b&gt;" in page


def test_a_text_to_text_report_has_its_own_numbers(made_up: Any) -> None:
    page = report_page(made_up.report(made_up.PAIRED, scoring_model=None))
    assert Outline(page).open == []
    assert '<li class="good">BLEU is 25.0; copying the source would have 12.0.</li>' in page
    assert "the source, copied" in page and "scoring model:" not in page
    assert "For the sampling configuration that has the best BLEU: ODE 64 steps, w 1, cfg scale 2." in page
    assert '<section id="frontier">' not in page
    assert "Gen. PPL" not in page
    assert re.findall(r"<h3>(source|model|real)</h3>", page) == ["source", "model", "real"] * 2
    assert "BLEU: case:lc" in page


def test_a_report_without_real_text_shows_none_and_calls_nothing_closest_to_it(made_up: Any) -> None:
    report = made_up.report(made_up.SWEEP[:2])
    page = report_page(replace(report, specimens=[Specimen("a text")] * 2))
    assert "There is no real text to compare with" in page
    assert f"For the sampling configuration that has the highest entropy: {made_up.SWEEP[0].name}." in page
    assert re.findall(r"<h3>(source|model|real)</h3>", page) == ["model"] * 2
    assert "--columns:1" in page and "(empty)" not in page


def test_a_report_without_logs_and_texts_is_whole(made_up: Any) -> None:
    bare = replace(
        made_up.report([made_up.REAL, made_up.MIXED, made_up.SWEEP[0]]),
        curves={},
        specimens=(),
        trajectory="",
    )
    page = report_page(bare)
    assert Outline(page).open == []
    for name in ("curves", "texts", "trajectory"):
        assert f'id="{name}"' not in page
    assert "Pareto" not in page  # a single configuration is not compared


def test_the_page_has_both_plots_with_student_and_teacher_and_all_numbers(made_up: Any) -> None:
    teacher = {n: made_up.scores("x", "sampled", 400 / n, 3.1) for n in (1, 4)}
    student = {n: made_up.scores("x", "sampled", 200 / n, 3.2) for n in (1, 2, 4)}
    models = {"teacher": teacher, "round 1": student, "round 2 <b>": student}
    page = few_steps_page("mine", {"scoring model": "<tiny>"}, models, made_up.REAL)
    assert re.findall(r"<figcaption>(.*?)</figcaption>", page) == ["Gen. PPL", "Entropy"]
    assert "teacher: 400 at 1, 100 at 4; round 1: 200 at 1, 100 at 2, 50 at 4" in page
    assert "real text: 60" in page
    assert page.count("<th>teacher</th>") == 2
    assert page.count("<th>round 2 &lt;b&gt;</th>") == 3
    assert "<tiny>" not in page


def test_texts_with_references_are_plotted_by_bleu_and_rouge(made_up: Any) -> None:
    models = {
        name: {n: made_up.paired("x", "sampled", 20 + n) for n in (1, 2)} for name in ("teacher", "mine")
    }
    page = few_steps_page("mine", {}, models)
    assert re.findall(r"<figcaption>(.*?)</figcaption>", page) == ["BLEU", "ROUGE-L"]


def test_numbers_that_could_not_be_measured_leave_gaps(made_up: Any) -> None:
    row = made_up.scores("x", "sampled", 100, 3.1)
    unknown = replace(row, metrics={name: Estimate(math.nan) for name in row.metrics})
    page = few_steps_page("mine", {}, {"teacher": {1: unknown, 2: row}, "mine": {1: unknown}})
    assert "teacher: 100 at 2; mine: " in page


SLIDER = "document.querySelector('iframe').contentDocument.getElementById('step')"
TEXT = "document.querySelector('iframe').contentDocument.querySelector('.text').textContent"
SHOWN = (
    "[...document.querySelectorAll('svg')].filter(plot => plot.getBoundingClientRect().width > 100).length"
)


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_in_a_browser(browser: Any, page: str, tmp_path: Path, width: int, dark: bool) -> None:
    path = tmp_path / "report.html"
    path.write_text(page)
    browser.requests.clear()
    browser.open(path, width, dark=dark)

    assert browser.complaints == []
    assert browser.requests == [path.as_uri()]
    assert browser.run("document.documentElement.scrollWidth") == width  # nothing sticks out
    assert browser.run(SHOWN) == 2 + 2  # the frontier and the published points, two curves
    red, green, blue = map(
        int, re.findall(r"\d+", browser.run("getComputedStyle(document.body).backgroundColor"))
    )
    assert (red + green + blue < 150) == dark

    assert browser.run(TEXT) == "the day was"
    browser.run(f"{SLIDER}.focus()")
    browser.press("Home")
    assert browser.run(f"{SLIDER}.value") == "0"
    assert browser.run(TEXT) == "the light light"
    browser.press("ArrowRight")
    assert browser.run(TEXT) == "the light was"
    frame = "document.querySelector('iframe')"
    assert browser.run(f"{frame}.contentDocument.documentElement.scrollHeight <= {frame}.clientHeight")
    assert browser.complaints == []
    picture = tmp_path / "report.png"
    browser.picture(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
