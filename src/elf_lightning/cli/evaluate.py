"""`elf eval`: evaluate any checkpoint; a run's checkpoint with the configuration it was trained with."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elf_lightning import codec, evaluation, generation
from elf_lightning.checkpoints.locate import RUNS, find_checkpoint, newest_or_shipped, run_folder
from elf_lightning.cli.config import CONFIG_OPTIONS, loaded, resolved_arguments
from elf_lightning.cli.options import OneLineParser, add_checkpoint, add_machine, loading
from elf_lightning.errors import UserError
from elf_lightning.terminal import printable


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="elf eval",
        usage="elf eval [--checkpoint CHECKPOINT] [--likelihood] [options of `elf test`]",
        description="Generate and score texts, and write metrics.jsonl, samples.jsonl and report.html to the "
        "run's folder, or to runs/eval-NAME for a checkpoint outside a run. An interrupted evaluation is "
        "completed.",
        epilog="A run's own configuration is read first; `--config conf/eval/frontier.yaml` and options such "
        "as `--model.evaluation.num_samples 64` change it. Other checkpoints are compared with the text of "
        "`--config` or `--data.source`, if given.",
    )
    add_checkpoint(parser)
    add = parser.add_argument
    add("--output", metavar="FOLDER", help="folder for the results, if not as above")
    add("--encoder", metavar="PLACE", help="where the model's encoder is now, if it has moved")
    likelihood = "also bound the texts' likelihood; short for --model.evaluation.likelihood '{}'"
    add("--likelihood", action="store_true", help=likelihood)
    return parser


def run(arguments: Sequence[str]) -> None:
    """Run `["eval"]` or `["eval", "--checkpoint", "runs/quickstart"]`."""
    options, others = _parser().parse_known_args(arguments[1:])
    if options.likelihood:
        others = ["--model.evaluation.likelihood", "{}", *others]
    given = options.checkpoint
    checkpoint = newest_or_shipped() if given is None else find_checkpoint(given)
    folder = run_folder(checkpoint)
    print(printable(f"evaluating {checkpoint}"), file=sys.stderr)
    # A configuration of the evaluation alone leaves the checkpoint what it is.
    configured = any("data" in loaded(config) for config in _configs().parse_known_args(others)[0].config)
    own = [file for file in [folder / "config.yaml"] if file.is_file()]
    alone = checkpoint.suffix != ".ckpt" or not (own or configured)
    if options.encoder is not None:
        others += ["--encoder" if alone else "--data.encoder.init_args.name_or_path", options.encoder]
    if alone:
        _evaluate_alone(checkpoint, others, options.output)
        return

    from elf_lightning.cli import trainer

    words = [word for path in own for word in ("--config", str(path))] + others
    place = ("--trainer.default_root_dir", options.output or str(folder), "--trainer.logger", "false")
    trainer.run(["test", *words, "--ckpt_path", str(checkpoint), *place])


def _configs() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="elf eval")
    parser.add_argument(*CONFIG_OPTIONS, action="append", default=[])
    return parser


def _evaluate_alone(checkpoint: Path, words: Sequence[str], output: str | None) -> None:
    """Evaluate a Hub folder, or a file outside a run, without a Trainer; results go to `output`, if given.

    Of a `--config FILE`, only the sections for evaluation and data are used.
    """
    from elf_lightning.cli.classes import one_line_errors
    from elf_lightning.cli.trainer import arithmetic_of_a_command

    parser = _configs()
    add_machine(parser)
    options, others = parser.parse_known_args(resolved_arguments(words))
    taken = re.compile(r"--(model\.evaluation|data)\b")
    if option := next((word for word in others if word.startswith("--") and not taken.match(word)), None):
        raise UserError(
            f"{checkpoint} belongs to no run and is evaluated without a Trainer: it takes no {option}, but "
            "settings of --model.evaluation and --data, such as --model.evaluation.sweep '{steps: [32]}'"
        )
    in_package = (checkpoint.parent / "__init__.py").is_file()
    name = re.sub(r"[^\w.-]+", "-", (checkpoint.parent if in_package else checkpoint).name)
    folder = RUNS / f"eval-{name}" if output is None else Path(output)
    model = generation.ELF.from_pretrained(checkpoint, **loading(options))
    with one_line_errors(), arithmetic_of_a_command():
        given = [_sections(loaded(config)) for config in options.config]
        made = _instantiated(given, others, model.codec)
        if (data := made.get("data")) is not None:
            data.prepare_data()
        references = None if data is None else evaluation.ReferenceTexts(data)
        source = {"checkpoint": str(checkpoint), "precision": model.precision}
        evaluation.evaluate(model.generator, made.model.evaluation, folder, references, **source)


def _instantiated(given: list[dict[str, Any]], words: Sequence[str], stored: "codec.TextCodec") -> Any:
    """`model.evaluation` and, if there is any setting of it, `data`, by default as the codec says."""
    from jsonargparse import ArgumentParser
    from lightning.pytorch import LightningDataModule

    from elf_lightning.cli.classes import DATA, check_sections, known_classes, settings_used

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(evaluation.EvaluationSettings, "model.evaluation")
    if any("data" in one for one in given) or any(word.startswith("--data") for word in words):
        known_classes()
        parser.add_subclass_arguments(LightningDataModule, "data")
        parser.set_defaults({"data": {"class_path": DATA, "init_args": _data_of(stored)}})
    with settings_used():
        configs = [word for one in given for word in ("--config", json.dumps(one))]
        parsed = parser.parse_args([*configs, *words])
        check_sections(parsed.model.evaluation, "model.evaluation", evaluation.EvaluationSettings)
        if "data" in parsed:
            check_sections(parsed.data, "data")
        return parser.instantiate(parsed)


def _data_of(stored: "codec.TextCodec") -> dict[str, Any]:
    """The settings of the DataModule as stored in the checkpoint."""
    encoder = dict(stored.encoder)
    names = ("max_length", "max_condition_length", "condition_eos", "pad_mode", "latent_mean", "latent_std")
    same = {name: getattr(stored, name) for name in names}
    return {"encoder": {"class_path": encoder.pop("class"), "init_args": encoder}, **same}


def _sections(settings: dict[str, Any]) -> dict[str, Any]:
    """The sections for evaluation and data of a configuration."""
    model = _section(settings, "model")
    chosen = _section(model, "evaluation") or _section(_section(model, "init_args"), "evaluation")
    given = {"data": settings["data"]} if "data" in settings else {}
    return given | ({"model": {"evaluation": chosen}} if chosen else {})


def _section(settings: dict[str, Any], name: str) -> dict[str, Any]:
    section = settings.get(name) or {}
    if not isinstance(section, dict):
        raise UserError(f"--config: {name} is {section!r:.40}; write its settings as `name: value` lines")
    return section
