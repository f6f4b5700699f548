"""Evaluation of a checkpoint outside a run: a Hub folder or an official file."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule

from elf_lightning.cli.arithmetic import arithmetic_of_a_command
from elf_lightning.cli.config import CONFIG_OPTIONS, resolved_arguments
from elf_lightning.cli.old_names import renamed_settings
from elf_lightning.cli.options import OneLineParser, add_machine, add_reading
from elf_lightning.cli.trainer import DATA, make_class_names_known, one_line_errors
from elf_lightning.codec import TextCodec
from elf_lightning.evaluation import EvaluationSettings, ReferenceTexts, evaluate
from elf_lightning.generation import ELF


def evaluate_alone(checkpoint: Path, words: Sequence[str]) -> None:
    """Evaluate without a Trainer.

    Args:
        checkpoint: a file or Hub folder.
        words: `--model.evaluation.…`, `--data.…`, `--config FILE` (only these two sections are used),
            `--output FOLDER`, and the options of `elf sample` for reading and running a checkpoint.

    Raises:
        UserError: for options or a checkpoint that cannot be used.
    """
    options, others = _parser().parse_known_args(words)
    in_package = (checkpoint.parent / "__init__.py").is_file()
    name = re.sub(r"[^\w.-]+", "-", (checkpoint.parent if in_package else checkpoint).name)
    folder: Path = options.output or Path("runs") / f"eval-{name}"
    model = ELF.from_pretrained(
        checkpoint,
        device=options.device,
        averaged=not options.last_weights,
        precision=options.precision,
        max_length=options.max_length,
        max_condition_length=options.max_condition_length,
    )
    with one_line_errors(), arithmetic_of_a_command():
        settings, references = _parsed(resolved_arguments(others), model.codec)
        folder.mkdir(parents=True, exist_ok=True)
        evaluate(
            model.generator,
            settings,
            folder,
            references,
            checkpoint=str(checkpoint),
            precision=model.precision,
        )


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="elf eval")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder for the results")
    add_machine(parser)
    add_reading(parser)
    return parser


def _parsed(words: Sequence[str], codec: TextCodec) -> tuple[EvaluationSettings, ReferenceTexts | None]:
    """Evaluation settings and real text from configurations and options."""
    words, given = _without_configurations(words)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(EvaluationSettings, "model.evaluation")
    with_data = "data" in given or any(word.startswith("--data") for word in words)
    if with_data:
        make_class_names_known()
        parser.add_subclass_arguments(LightningDataModule, "data")
        parser.set_defaults({"data": {"class_path": DATA, "init_args": _data_of(codec)}})
    made = parser.instantiate(parser.parse_args(["--config", json.dumps(given), *words]))
    if not with_data:
        return made.model.evaluation, None
    made.data.prepare_data()
    return made.model.evaluation, ReferenceTexts(made.data)


def _without_configurations(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The other arguments, and the merged sections for evaluation and data of all configurations."""
    rest: list[str] = []
    given: dict[str, Any] = {}
    remaining = iter(words)
    for word in remaining:
        option, equals, value = word.partition("=")
        if option not in CONFIG_OPTIONS:
            rest.append(word)
            continue
        source = value if equals else next(remaining, "")
        text = Path(source).read_text(encoding="utf-8") if Path(source).is_file() else source
        settings, _ = renamed_settings(yaml.safe_load(text) or {})
        model = settings.get("model", {})
        if evaluation := model.get("evaluation") or model.get("init_args", {}).get("evaluation"):
            given.setdefault("model", {}).setdefault("evaluation", {}).update(evaluation)
        if "data" in settings:
            given["data"] = settings["data"]
    return rest, given


def _data_of(codec: TextCodec) -> dict[str, Any]:
    """The settings of the DataModule as stored in the checkpoint."""
    encoder = dict(codec.encoder)
    return {
        "encoder": {"class_path": encoder.pop("class"), "init_args": encoder},
        "max_length": codec.max_length,
        "max_condition_length": codec.max_condition_length,
        "condition_eos": codec.condition_eos,
        "pad_mode": codec.pad_mode,
        "latent_mean": codec.latent_mean,
        "latent_std": codec.latent_std,
    }
