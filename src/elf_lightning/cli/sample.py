"""`elf sample`: generate texts from a checkpoint, in the terminal."""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields
from math import ceil
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import docstring_parser
from rich.console import Console
from rich.panel import Panel
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from elf_lightning import generation, reporting
from elf_lightning.cli.options import OneLineParser, add_checkpoint, add_machine, load, positive, writable
from elf_lightning.errors import UserError
from elf_lightning.sampling.settings import DEFAULT_TRAJECTORIES, SamplingSettings
from elf_lightning.terminal import Terminal
from elf_lightning.whole_file import GrowingFile, write_whole

Settings = Mapping[str, Any]
DEFAULT_NUM = 8  # number of texts without `--num`, prompts or templates

NUM = f"number of texts (default: {DEFAULT_NUM}), or of texts per prompt or template (default: 1)"
PROMPT = "text to answer (text-to-text models) or to continue (all others); may be repeated"
INFILL = """text in which each _ is a token to fill in: "The ____ sat on the ____."; may be repeated"""
TRAJECTORY = """an HTML page that shows how the texts emerge from noise; FILE.svg: a picture of the first
text"""
MOVIE = "a moving SVG picture of the first text as it emerges"
BATCH_SIZE = "texts sampled at once; changes speed and memory, not the texts (default: 32)"
COMPILE = """sample through torch.compile, which needs a C++ compiler on a CPU, Triton on a GPU; compiling
delays the first batch by up to a minute, later batches are faster"""
REPETITION_TEXTS = f"""texts on which to measure repetition for --repetition-control, unless the checkpoint
has a measurement (`elf convert --measure-repetition`; default: {DEFAULT_TRAJECTORIES})"""


def _parser() -> argparse.ArgumentParser:
    """Sampling settings that are not given are absent from the result."""
    parser = OneLineParser(prog="elf sample", description="Generate texts from a checkpoint.")
    add_checkpoint(parser)
    add = parser.add_argument
    add("--num", type=positive, metavar="N", help=NUM)
    add("--seed", type=int, default=0, metavar="N", help="seed of all random draws (default: 0)")
    add = parser.add_argument_group("inputs").add_mutually_exclusive_group().add_argument
    add("--prompt", action="append", metavar="TEXT", help=PROMPT)
    add("--prompt-file", type=Path, metavar="FILE", help="prompts, one per line")
    add("--infill", action="append", metavar="TEMPLATE", help=INFILL)
    add = parser.add_argument_group("outputs").add_argument
    add("--output", type=writable, metavar="FILE", help="JSON lines: index, seed, text, tokens")
    add("--trajectory", type=writable, metavar="FILE", help=TRAJECTORY)
    add("--movie", type=writable, metavar="FILE.svg", help=MOVIE)
    machine = parser.add_argument_group("model and machine")
    machine.add_argument("--batch-size", type=positive, default=32, metavar="N", help=BATCH_SIZE)
    machine.add_argument("--compile", action="store_true", help=COMPILE)
    add_machine(machine)
    group = parser.add_argument_group("sampling (default: the checkpoint's own)")
    documented = docstring_parser.parse(SamplingSettings.__doc__ or "").params
    purpose = {one.arg_name: " ".join((one.description or "").split()).rstrip(".") for one in documented}
    for name, hint in get_type_hints(SamplingSettings).items():
        option, described = f"--{name.replace('_', '-')}", purpose[name].replace("%", "%%")
        group.add_argument(option, default=argparse.SUPPRESS, help=described, **_argument_for(hint))
    texts: dict[str, Any] = {"type": positive, "default": DEFAULT_TRAJECTORIES, "metavar": "N"}
    parser.add_argument("--repetition-texts", **texts, help=REPETITION_TEXTS)
    return parser


def _argument_for(hint: Any) -> dict[str, Any]:
    """Arguments of `add_argument` for a field's type: name, number, switch, list of numbers or dictionary."""
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(hint) is dict:
        return {"type": json.loads, "metavar": "JSON"}
    kind = next((kind for kind in get_args(hint) if kind is not NoneType), hint)
    if get_origin(kind) is list:
        return {"type": get_args(kind)[0], "nargs": "+", "metavar": "VALUE"}
    return {"type": kind, "metavar": "NAME" if kind is str else "N"}


def run(arguments: Sequence[str]) -> None:
    """Run `["sample", "--checkpoint", "runs/quickstart", "--num", "8"]`."""
    options = _parser().parse_args(arguments[1:])
    names = {field.name for field in fields(SamplingSettings)}
    settings = {name: value for name, value in vars(options).items() if name in names}
    outputs = [path for path in (options.output, options.trajectory, options.movie) if path]
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise UserError("--output, --trajectory and --movie overwrite each other; give different files")
    if options.prompt_file is not None:
        options.prompt = _prompts(options.prompt_file)
    given = options.prompt or options.infill
    num = options.num or (1 if given else DEFAULT_NUM)
    screen = Terminal()
    screen.ends_with_pipe = not outputs
    aside = screen if screen.is_terminal else Terminal(stderr=True)
    if "solver" in settings:  # imported before the checkpoint is read, which may name it but not import it
        from elf_lightning.sampling.solvers import solver_class

        solver_class(settings["solver"])
    model = load(options, aside)
    details = _details(model, options, settings)
    if aside.is_terminal:
        table = Table.grid(padding=(0, 2))
        for name, value in details.items():
            table.add_row(Text(name, "dim"), Text(value))
        aside.print(table)
    paths, times = list[reporting.TextPath](), list[float]()
    with GrowingFile(options.output) if options.output else nullcontext() as file:
        for sample in _samples(model, options, num, settings, aside):
            name = f"{sample.index}: {given[sample.index // num]}" if given else str(sample.index)
            _show(sample, name, screen)
            if file is not None:
                file.append([sample.record()])
            if sample.stages:
                times = [stage.time for stage in sample.stages]
                paths.append(reporting.TextPath.of(name, sample.stage_tokens, model.codec.token_texts))
    if options.trajectory:
        if options.trajectory.suffix == ".svg":
            page = reporting.trajectory_picture(times, paths[0])
        else:
            page = reporting.trajectory_page("From noise to text", details, times, paths)
        write_whole(options.trajectory, page)
    if options.movie:
        write_whole(options.movie, reporting.trajectory_movie(times, paths[0]))
    for path in outputs:
        aside.print(Text(f"written: {path}", "dim"), soft_wrap=True)


def _prompts(path: Path) -> list[str]:
    """The lines of `--prompt-file`, in UTF-8 with or without a byte order mark."""
    try:
        lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(
            f"--prompt-file {path} cannot be read: {reason}; give a file with one text per line"
        ) from error
    if lines == [""]:
        raise UserError(f"--prompt-file {path} is empty; give a file with one text per line")
    if empty := [number for number, line in enumerate(lines, start=1) if not line.strip()]:
        raise UserError(f"--prompt-file {path}: line {empty[0]} is empty; write a prompt or remove it")
    return lines


def _details(model: "generation.ELF", options: argparse.Namespace, settings: Settings) -> dict[str, str]:
    """Everything that determines the texts, for display."""
    path, here = Path(options.checkpoint), Path.cwd()
    size = f"{model.bundle.num_parameters / 1e6:.1f}M parameters"
    return {
        "checkpoint": str(path.relative_to(here) if path.is_relative_to(here) else path),
        "model": f"{size}, {model.bundle.config.step} training steps",
        "sampling": f"seed {options.seed}, {model.changed_settings(**settings).short_name}",
        "machine": f"{model.device}, {model.precision}{', compiled' if model.generator.compile else ''}",
    }


def _samples(
    model: "generation.ELF", options: argparse.Namespace, num: int, settings: Settings, aside: Console
) -> "Iterator[generation.Sample]":
    """The samples, with a progress bar of sampling steps."""
    chosen = model.changed_settings(**settings)
    count = len(model.requests(num, options.prompt, options.infill))
    shared = {"prompts": options.prompt, "batch_size": options.batch_size, **settings}
    with Progress(console=aside, transient=True, disable=not aside.is_terminal) as progress:

        def bar(title: str, texts: int, best_of: int = 1) -> Callable[[object], None]:
            batches = ceil(texts / options.batch_size) * best_of
            task = progress.add_task(title, total=batches * chosen.num_steps)
            return lambda _: progress.advance(task)

        if model.generator.needs_measuring(chosen):
            texts = options.repetition_texts
            measuring = bar(f"measuring repetition in {texts} texts", texts)
            model.measure_repetition(texts, on_step=measuring, **shared)
        kept = reporting.shown_steps(chosen.num_steps) if options.trajectory or options.movie else ()
        sampling = {"infill": options.infill, "trajectory_steps": kept}
        sampling["on_step"] = bar("sampling", count, chosen.best_of)
        yield from model.samples(num, options.seed, **sampling, **shared)


def _show(sample: "generation.Sample", name: str, screen: Console) -> None:
    """Print a panel in a terminal, and only the text to a pipe or file."""
    if not screen.is_terminal:
        screen.print(sample.text, highlight=False, soft_wrap=True)
        return
    panel = Panel(Text(sample.text), title=Text(name), title_align="left", subtitle_align="right")
    panel.subtitle = Text(f"{len(sample.tokens)} tokens", "dim")
    screen.print(panel)
