"""`elf sample`: generate texts from a checkpoint, in the terminal."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from io import StringIO
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from elf_lightning.checkpoints.locate import RUNS, find_checkpoint, newest_checkpoint, shipped_model
from elf_lightning.cli.sample_options import DEFAULT_NUM, sample_parser
from elf_lightning.cli.text_files import read_lines
from elf_lightning.errors import UserError
from elf_lightning.reporting import TextPath, shown_steps, trajectory_page, trajectory_picture
from elf_lightning.sampling import SamplingSettings

if TYPE_CHECKING:
    from elf_lightning.generation import ELF, Sample

PICTURE_WIDTH = 100
"""Width of `--screenshot`, in characters."""


def run(arguments: Sequence[str]) -> None:
    """Run `["sample", "--checkpoint", "runs/quickstart", "--num", "8"]`.

    Raises:
        UserError: for options, a checkpoint, prompts or templates that cannot be used.
    """
    options = sample_parser().parse_args(arguments[1:])
    written = _written(options)
    prompts = options.prompt if options.prompt_file is None else _prompts(Path(options.prompt_file))
    given = prompts or options.infill
    num = options.num or (1 if given else DEFAULT_NUM)
    screen = Console()
    aside = screen if screen.is_terminal else Console(stderr=True)
    picture = Console(record=True, file=StringIO(), force_terminal=True, width=PICTURE_WIDTH)
    picture.print(Text(f"$ elf {shlex.join(arguments)}", "bold"))
    model = _load(options, aside)
    for console in (aside, picture):
        _show_details(_details(model, options), console)
    paths: list[TextPath] = []
    times: list[float] = []
    for sample in _samples(model, options, num, prompts, aside):
        name = f"{sample.index}: {given[sample.index // num]}" if given else str(sample.index)
        for console in (screen, picture):
            _show(sample, name, console)
        if options.output:
            _append(sample, options.output)
        if sample.stages:
            times = [stage.time for stage in sample.stages]
            paths.append(TextPath.of(name, sample.stage_tokens, model.codec.token_texts))
    if options.trajectory:
        if options.trajectory.suffix == ".svg":
            page = trajectory_picture(times, paths[0])
        else:
            page = trajectory_page("From noise to text", _details(model, options), times, paths)
        options.trajectory.write_text(page, encoding="utf-8")
    if options.screenshot:
        picture.save_svg(str(options.screenshot), title="elf sample")
    for path in written:
        aside.print(Text(f"written: {path}", "dim"), soft_wrap=True)


def _written(options: argparse.Namespace) -> list[Path]:
    """The files to write; refuses a name given twice."""
    paths = [path for path in (options.output, options.trajectory, options.screenshot) if path]
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("--output, --trajectory and --screenshot overwrite each other; give different files")
    return paths


def _prompts(path: Path) -> list[str]:
    lines = read_lines(path, "--prompt-file")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise UserError(f"--prompt-file {path}: line {number} is empty; write a prompt or remove it")
    return lines


def _load(options: argparse.Namespace, aside: Console) -> ELF:
    with aside.status("reading the checkpoint"):
        from transformers.utils.logging import disable_progress_bar

        from elf_lightning.generation import ELF

        # The encoder's progress bar would interrupt ours.
        disable_progress_bar()  # type: ignore[no-untyped-call]
        # The details name the file itself: given a folder, users want to know which one was the newest.
        if options.checkpoint is None:
            options.checkpoint = _newest_or_shipped()
            print(f"sampling from {options.checkpoint}", file=sys.stderr)
        else:
            options.checkpoint = find_checkpoint(options.checkpoint)
        return ELF.from_pretrained(
            options.checkpoint,
            device=options.device,
            averaged=not options.last_weights,
            compile=options.compile,
            precision=options.precision,
            max_length=options.max_length,
            max_condition_length=options.max_condition_length,
        )


def _newest_or_shipped() -> Path:
    with suppress(UserError):
        return newest_checkpoint(RUNS)
    return shipped_model()


def _show_details(details: Mapping[str, str], console: Console) -> None:
    if not console.is_terminal:
        return
    table = Table.grid(padding=(0, 2))
    for name, value in details.items():
        table.add_row(Text(name, "dim"), Text(value))
    console.print(table)


def _given_settings(options: argparse.Namespace) -> dict[str, Any]:
    names = {field.name for field in fields(SamplingSettings)}
    return {name: value for name, value in vars(options).items() if name in names}


def _details(model: ELF, options: argparse.Namespace) -> dict[str, str]:
    """Everything that determines the texts, for display."""
    bundle, settings = model.bundle, model.changed_settings(**_given_settings(options))
    shown = (f"{name} {value}" for name, value in asdict(settings).items() if value is not None)
    return {
        "checkpoint": str(options.checkpoint),
        "model": f"{bundle.num_parameters / 1e6:.1f}M parameters, {bundle.config.step} training steps",
        "sampling": f"seed {options.seed}, {', '.join(shown)}",
        "machine": f"{model.device}, {model.precision}{', compiled' if model.generator.compile else ''}",
    }


def _samples(
    model: ELF, options: argparse.Namespace, num: int, prompts: list[str] | None, aside: Console
) -> Iterator[Sample]:
    """The samples, with a progress bar of sampling steps."""
    given = _given_settings(options)
    settings = model.changed_settings(**given)
    steps = settings.num_steps
    count = len(model.requests(num, prompts, options.infill))
    kept = shown_steps(steps) if options.trajectory else ()
    with Progress(console=aside, transient=True, disable=not aside.is_terminal) as progress:

        def bar(title: str, texts: int) -> Callable[[object], None]:
            task = progress.add_task(title, total=ceil(texts / options.batch_size) * steps)
            return lambda _: progress.advance(task)

        if model.needs_measuring(**given):
            texts = options.repetition_texts
            model.measure_repetition(
                texts,
                prompts=prompts,
                batch_size=options.batch_size,
                on_step=bar(f"measuring repetition in {texts} texts", texts),
                **given,
            )
        yield from model.samples(
            num,
            options.seed,
            prompts,
            options.infill,
            options.batch_size,
            trajectory_steps=kept,
            on_step=bar("sampling", count),
            **given,
        )


def _show(sample: Sample, name: str, screen: Console) -> None:
    """Print a panel in a terminal, and only the text to a pipe or file."""
    if not screen.is_terminal:
        screen.print(sample.text, markup=False, highlight=False, emoji=False, soft_wrap=True)
        return
    about = Text(f"{len(sample.tokens)} tokens", "dim")
    panel = Panel(
        Text(sample.text), title=Text(name), subtitle=about, title_align="left", subtitle_align="right"
    )
    screen.print(panel)


def _append(sample: Sample, output: Path) -> None:
    """Append a line; the first sample replaces the contents of the file."""
    with output.open("a" if sample.index else "w", encoding="utf-8") as file:
        file.write(json.dumps(sample.record(), ensure_ascii=False) + "\n")
