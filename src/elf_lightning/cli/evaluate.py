"""`elf eval`: `lightning test` on the newest checkpoint, with the configuration it was trained with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from elf_lightning.checkpoints.locate import newest_checkpoint
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
        help="a file, or a run's folder for the newest in it (default: runs)",
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
            *_own_configuration(folder, given="--config" in others),
            *others,
            *("--ckpt_path", str(checkpoint)),
            *("--trainer.default_root_dir", str(folder)),
            *("--trainer.logger", "false"),
        ]
    )


def _checkpoint(given: Path | None) -> Path:
    if given is not None and given.is_file():
        return given
    if given is None and not list(RUNS.rglob("*.ckpt")):
        raise UserError("there is no checkpoint under runs/ yet; train one first with `make quickstart`")
    return newest_checkpoint(given or RUNS)


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that wrote `checkpoint`."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def _own_configuration(folder: Path, given: bool) -> list[str]:
    """The newest configuration that a run saved in its folder."""
    saved = sorted(folder.rglob("config.yaml"), key=lambda path: path.stat().st_mtime_ns)
    if not saved and not given:
        raise UserError(f"{folder} holds no config.yaml of its run; give one with --config conf/….yaml")
    return ["--config", str(saved[-1])] if saved else []
