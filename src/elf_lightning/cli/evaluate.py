"""`elf eval`: `lightning test` on the newest checkpoint, with the configuration it was trained with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from elf_lightning.checkpoints.locate import newest_checkpoint
from elf_lightning.cli.config import gives_configuration
from elf_lightning.cli.options import OneLineParser
from elf_lightning.errors import UserError

RUNS = Path("runs")


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="elf eval",
        usage="elf eval [--checkpoint WHERE] [options of `elf test`]",
        description="Generate, score and report: metrics.jsonl, samples.jsonl and report.html in the run's "
        "folder. What an earlier, interrupted evaluation has done is not done again.",
        epilog="The configuration saved with the run comes first; `--config conf/eval/frontier.yaml` and "
        "options such as `--model.evaluation.num_samples 64` change it.",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="WHERE",
        help="a file, or a run's folder for the newest in it (default: the newest under runs/ that has a "
        "configuration)",
    )
    return parser


def run(arguments: Sequence[str]) -> None:
    """Evaluate, as in `["eval"]` or `["eval", "--checkpoint", "runs/quickstart"]`.

    Raises:
        UserError: if there is no checkpoint or no configuration, or an option cannot be used.
    """
    options, others = _parser().parse_known_args(arguments[1:])
    checkpoint = _checkpoint(options.checkpoint)
    folder = run_folder(checkpoint)
    print(f"evaluating {checkpoint}", file=sys.stderr)

    from elf_lightning.cli import trainer

    trainer.run(
        [
            "test",
            *_own_configuration(folder, given=gives_configuration(others)),
            *others,
            *("--ckpt_path", str(checkpoint)),
            *("--trainer.default_root_dir", str(folder)),
            *("--trainer.logger", "false"),
        ]
    )


def _checkpoint(given: Path | None) -> Path:
    if given is None:
        return _newest()
    return given if given.is_file() else newest_checkpoint(given)


def _newest() -> Path:
    """The newest checkpoint under runs/, of a run that kept its configuration if there is one."""
    folders = {run_folder(path) for path in RUNS.rglob("*.ckpt") if path.is_file()}
    if not folders:
        raise UserError("there is no checkpoint under runs/ yet; train one first with `make quickstart`")
    # One that lies in runs/ itself has no configuration: those below are of other runs.
    configured = [folder for folder in folders if folder != RUNS and _configurations(folder)]
    newest = map(newest_checkpoint, configured or folders)
    return max(newest, key=lambda path: path.stat().st_mtime_ns)


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that wrote `checkpoint`."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def _configurations(folder: Path) -> list[Path]:
    """Those that a run saved in its folder, the newest last."""
    return sorted(folder.rglob("config.yaml"), key=lambda path: path.stat().st_mtime_ns)


def _own_configuration(folder: Path, given: bool) -> list[str]:
    saved = _configurations(folder)
    if not saved and not given:
        raise UserError(f"{folder} holds no config.yaml of its run; give one with --config conf/….yaml")
    return ["--config", str(saved[-1])] if saved else []
