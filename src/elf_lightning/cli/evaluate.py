"""`elf eval`: texts and numbers of any checkpoint, for a run with the configuration it was trained with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from elf_lightning.checkpoints.locate import find_checkpoint, is_hub_folder, newest_checkpoint
from elf_lightning.cli.config import gives_configuration
from elf_lightning.cli.options import OneLineParser
from elf_lightning.errors import UserError

RUNS = Path("runs")


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="elf eval",
        usage="elf eval [--checkpoint WHERE] [options of `elf test`]",
        description="Generate, score and report: metrics.jsonl, samples.jsonl and report.html in the run's "
        "folder, or in runs/eval-NAME for a checkpoint that belongs to no run. Results of an earlier, "
        "interrupted evaluation are kept and completed.",
        epilog="The configuration saved with a run comes first; `--config conf/eval/frontier.yaml` and "
        "options such as `--model.evaluation.num_samples 64` change it. Other checkpoints are compared "
        "with the text given by `--config` or `--data.source`; without it, their texts are scored alone.",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="WHERE",
        help="a file, a run's folder (the newest in it), a Hub folder, or a Hub id (default: the newest "
        "under runs/ that has a configuration)",
    )
    return parser


def run(arguments: Sequence[str]) -> None:
    """Evaluate, as in `["eval"]` or `["eval", "--checkpoint", "runs/quickstart"]`.

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
    """The newest checkpoint under runs/, of a run that saved its configuration if there is one."""
    folders = {run_folder(path) for path in RUNS.rglob("*.ckpt") if path.is_file()}
    if not folders:
        raise UserError("there is no checkpoint under runs/ yet; train one first with `make quickstart`")
    # One that lies in runs/ itself has no configuration: those below belong to other runs.
    configured = [folder for folder in folders if folder != RUNS and saved_configurations(folder)]
    newest = map(newest_checkpoint, configured or folders)
    return max(newest, key=lambda path: path.stat().st_mtime_ns)


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that wrote `checkpoint`; a Hub folder is its own."""
    if is_hub_folder(checkpoint):
        return checkpoint
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def saved_configurations(folder: Path) -> list[Path]:
    """Those that a run saved in its folder, the newest last."""
    if folder == RUNS:
        return []
    return sorted(folder.rglob("config.yaml"), key=lambda path: path.stat().st_mtime_ns)
