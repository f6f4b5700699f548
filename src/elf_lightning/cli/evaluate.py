"""`elf eval`: evaluate any checkpoint; a run's checkpoint with the configuration it was trained with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from elf_lightning.checkpoints.locate import (
    RUNS,
    find_checkpoint,
    is_hub_folder,
    newest_checkpoint,
    shipped_model,
)
from elf_lightning.cli.config import gives_configuration
from elf_lightning.cli.options import OneLineParser


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="elf eval",
        usage="elf eval [--checkpoint CHECKPOINT] [options of `elf test`]",
        description="Generate and score texts, and write metrics.jsonl, samples.jsonl and report.html to the "
        "run's folder, or to runs/eval-NAME for a checkpoint outside a run. An interrupted evaluation is "
        "completed.",
        epilog="A run's own configuration is read first; `--config conf/eval/frontier.yaml` and options such "
        "as `--model.evaluation.num_samples 64` change it. Other checkpoints are compared with the text of "
        "`--config` or `--data.source`, if given.",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="CHECKPOINT",
        help="a file, a run's folder (its newest checkpoint), a Hub folder, a Hub id, or a package (default: "
        "the newest checkpoint under runs/ that has a configuration, otherwise elf_books)",
    )
    return parser


def run(arguments: Sequence[str]) -> None:
    """Run `["eval"]` or `["eval", "--checkpoint", "runs/quickstart"]`.

    Raises:
        UserError: if there is no checkpoint, or an option cannot be used.
    """
    options, others = _parser().parse_known_args(arguments[1:])
    checkpoint = _newest() if options.checkpoint is None else find_checkpoint(options.checkpoint)
    folder = run_folder(checkpoint)
    print(f"evaluating {checkpoint}", file=sys.stderr)
    own = saved_configurations(folder) if checkpoint.suffix == ".ckpt" else []
    if not own and not (checkpoint.suffix == ".ckpt" and gives_configuration(others)):
        from elf_lightning.cli.evaluate_alone import evaluate_alone

        evaluate_alone(checkpoint, others)
        return

    from elf_lightning.cli import trainer

    trainer.run(
        [
            "test",
            *(["--config", str(own[-1])] if own else []),
            *others,
            *("--ckpt_path", str(checkpoint)),
            *("--trainer.default_root_dir", str(folder)),
            *("--trainer.logger", "false"),
        ]
    )


def _newest() -> Path:
    """The newest checkpoint under runs/, with a configuration if there is one; else the shipped model."""
    folders = {run_folder(path) for path in RUNS.rglob("*.ckpt") if path.is_file()}
    if not folders:
        return shipped_model()
    # Configurations below runs/ belong to other runs than a checkpoint in runs/ itself.
    configured = [folder for folder in folders if folder != RUNS and saved_configurations(folder)]
    newest = map(newest_checkpoint, configured or folders)
    return max(newest, key=lambda path: path.stat().st_mtime_ns)


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that wrote `checkpoint`; for a Hub folder, the folder itself."""
    if is_hub_folder(checkpoint):
        return checkpoint
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def saved_configurations(folder: Path) -> list[Path]:
    """The configurations that a run saved in its folder, the newest last."""
    if folder == RUNS:
        return []
    return sorted(folder.rglob("config.yaml"), key=lambda path: path.stat().st_mtime_ns)
