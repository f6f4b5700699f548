"""`elf sample`: text from a checkpoint, in the terminal."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from elf_lightning.cli.options import OneLineParser, add_settings, positive, writable
from elf_lightning.errors import UserError
from elf_lightning.reporting import TextPath, trajectory_page
from elf_lightning.sampling import SamplingSettings

if TYPE_CHECKING:
    from elf_lightning.modules.generator import ELF
    from elf_lightning.modules.samples import Sample

UNPROMPTED = 8
"""Texts without `--num` where there is nothing to answer or fill in."""
MOST_STAGES = 64
"""Times on a trajectory's page at most, since each costs a decoding."""
PRECISIONS = {"32-true": None, "bf16-mixed": "bfloat16", "16-mixed": "float16"}
"""The Trainer's names -> torch's."""


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="elf sample", description="Generate text from a checkpoint.")
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="WHERE",
        help="a file, a run's folder (the newest in it), a Hub folder, or a Hub id (owner/name)",
    )
    parser.add_argument(
        "--num",
        type=positive,
        metavar="N",
        help=f"texts (default: {UNPROMPTED}), or texts for each prompt or template (default: 1)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all random draws (default: 0)")
    _add_inputs(parser)
    _add_outputs(parser)
    _add_machine(parser)
    add_settings(parser, SamplingSettings, "sampling (default: the checkpoint's own)")
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    given = parser.add_argument_group("what is given").add_mutually_exclusive_group()
    given.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="to answer (text-to-text models) or to go on from (all others); may be repeated",
    )
    given.add_argument("--prompt-file", metavar="FILE", help="the same, a prompt on each line")
    given.add_argument(
        "--infill",
        action="append",
        metavar="TEMPLATE",
        help='a text in which each _ is a token to fill in: "The ____ sat on the ____."; may be repeated',
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    outputs = parser.add_argument_group("what is written besides")
    outputs.add_argument(
        "--output", type=writable, metavar="FILE", help="JSON lines: index, seed, text, tokens"
    )
    outputs.add_argument(
        "--trajectory",
        type=writable,
        metavar="FILE",
        help="an HTML page that shows the texts emerge from noise",
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    machine = parser.add_argument_group("model and machine")
    machine.add_argument(
        "--batch-size",
        type=positive,
        default=32,
        metavar="N",
        help="texts sampled at once; changes speed and memory, not the texts (default: 32)",
    )
    machine.add_argument(
        "--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if there is one)"
    )
    machine.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="32-true",
        help="as the Trainer calls it (default: 32-true)",
    )
    machine.add_argument(
        "--last-weights", action="store_true", help="the last weights of training, not the averaged ones"
    )


def run(arguments: Sequence[str]) -> None:
    """Sample, as in `["sample", "--checkpoint", "runs/quickstart", "--num", "8"]`.

    Raises:
        UserError: for options, a checkpoint, prompts or templates that cannot be used.
    """
    options = _parser().parse_args(arguments[1:])
    prompts = options.prompt if options.prompt_file is None else _lines(Path(options.prompt_file))
    given = prompts or options.infill
    num = options.num or (1 if given else UNPROMPTED)
    screen = Console()
    aside = screen if screen.is_terminal else Console(stderr=True)
    model = _load(options, aside)
    paths: list[TextPath] = []
    times: list[float] = []
    for sample in _samples(model, options, num, prompts, aside):
        name = f"{sample.index}: {given[sample.index // num]}" if given else str(sample.index)
        _show(sample, name, screen)
        if options.output:
            _append(sample, options.output)
        if sample.stages:
            times = [stage.time for stage in sample.stages]
            paths.append(_path(sample, name, model))
    if options.trajectory:
        page = trajectory_page("From noise to text", _details(model, options), times, paths)
        options.trajectory.write_text(page, encoding="utf-8")
    for path in filter(None, (options.output, options.trajectory)):
        aside.print(Text(f"written: {path}", "dim"), soft_wrap=True)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise UserError(f"--prompt-file {path} cannot be read: {reason}") from error
    if not text:
        raise UserError(f"--prompt-file {path} is empty; write a prompt on each line")
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise UserError(f"--prompt-file {path}: line {number} is empty; write a prompt or remove it")
    return lines


def _load(options: argparse.Namespace, aside: Console) -> ELF:
    with aside.status("reading the checkpoint"):
        from transformers.utils.logging import disable_progress_bar

        from elf_lightning.checkpoints.locate import locate
        from elf_lightning.modules.generator import ELF

        # The encoder's bar would stand in the middle of ours.
        disable_progress_bar()  # type: ignore[no-untyped-call]
        # Named by the file: the newest in a folder is news to the user.
        options.checkpoint = locate(options.checkpoint)
        model = ELF.from_pretrained(
            options.checkpoint, device=options.device, averaged=not options.last_weights
        )
    if aside.is_terminal:
        table = Table.grid(padding=(0, 2))
        for name, value in _details(model, options).items():
            table.add_row(Text(name, "dim"), Text(value))
        aside.print(table)
    return model


def _given_settings(options: argparse.Namespace) -> dict[str, Any]:
    names = {field.name for field in fields(SamplingSettings)}
    return {name: value for name, value in vars(options).items() if name in names}


def _details(model: ELF, options: argparse.Namespace) -> dict[str, str]:
    """All that the texts follow from."""
    bundle, settings = model.bundle, model.sampler(**_given_settings(options)).settings
    parameters = sum(value.numel() for value in bundle.weights.values())
    in_force = (f"{name} {value}" for name, value in asdict(settings).items() if value is not None)
    return {
        "checkpoint": str(options.checkpoint),
        "model": f"{parameters / 1e6:.1f}M parameters, {bundle.step} training steps",
        "sampling": f"seed {options.seed}, {', '.join(in_force)}",
        "machine": f"{model.device}, {options.precision}",
    }


def _samples(
    model: ELF, options: argparse.Namespace, num: int, prompts: list[str] | None, aside: Console
) -> Iterator[Sample]:
    """The samples, with a bar for the steps on the way."""
    import torch

    settings = _given_settings(options)
    times = model.sampler(**settings).settings
    steps = times.steps if times.times is None else len(times.times) - 1
    batches = ceil(len(model.plans(num, prompts, options.infill)) / options.batch_size)
    kept = range(steps - 1, -1, -ceil(steps / MOST_STAGES)) if options.trajectory else ()
    dtype = PRECISIONS[options.precision]
    with (
        torch.autocast(model.device.type, getattr(torch, dtype) if dtype else None, enabled=bool(dtype)),
        Progress(console=aside, transient=True, disable=not aside.is_terminal) as progress,
    ):
        task = progress.add_task("sampling", total=batches * steps)
        yield from model.samples(
            num,
            options.seed,
            prompts,
            options.infill,
            options.batch_size,
            trajectory_steps=kept,
            on_step=lambda _: progress.advance(task),
            **settings,
        )


def _show(sample: Sample, name: str, screen: Console) -> None:
    """A panel in a terminal; the bare text where another program reads it."""
    if not screen.is_terminal:
        screen.print(sample.text, markup=False, highlight=False, emoji=False, soft_wrap=True)
        return
    about = Text(f"{len(sample.tokens)} tokens", "dim")
    panel = Panel(
        Text(sample.text), title=Text(name), subtitle=about, title_align="left", subtitle_align="right"
    )
    screen.print(panel)


def _append(sample: Sample, output: Path) -> None:
    """Add a line; the first sample, once it is there, replaces what was in the file."""
    with output.open("a" if sample.index else "w", encoding="utf-8") as file:
        file.write(json.dumps(sample.record(), ensure_ascii=False) + "\n")


def _path(sample: Sample, name: str, model: ELF) -> TextPath:
    tokens = [stage.tokens for stage in sample.stages]
    return TextPath(name, tokens, [model.detokenizer.pieces(row) for row in tokens])
