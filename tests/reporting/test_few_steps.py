from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

from elf_lightning.reporting import Estimate, few_steps_page


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
