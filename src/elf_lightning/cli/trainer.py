"""`fit`, `validate`, `test` and `predict`: a small LightningCLI."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from elf_lightning import callbacks, data, encoders, optim, training
from elf_lightning.callbacks import CollapseWatch, RunSummary, Throughput
from elf_lightning.callbacks.run_plan import PlannableModule, plan_run
from elf_lightning.cli.arithmetic import arithmetic_of_a_command
from elf_lightning.cli.checkpoint_file import checkpoint_file
from elf_lightning.cli.config import with_files
from elf_lightning.cli.quiet import quiet_lightning
from elf_lightning.errors import UserError
from elf_lightning.precision import PRECISIONS
from elf_lightning.training.base import SIZES_FROM_DATA

PROGRESS = "elf_lightning.callbacks.TrainingProgress"
DEFAULT_CALLBACKS = ("elf_lightning.callbacks.EMA", PROGRESS, "elf_lightning.callbacks.SampleWriter")

CHECKPOINTING = {"filename": "step-{step}", "auto_insert_metric_name": False, "save_last": "link"}
"""The newest state after each validation and at the end, and a link to it, `last.ckpt`."""

MODEL, DATA = "elf_lightning.training.ELFModule", "elf_lightning.data.ELFDataModule"
"""What is trained, and on what, where a configuration names no `class_path`."""

DDP = {"find_unused_parameters": False, "broadcast_buffers": False, "gradient_as_bucket_view": True}
"""What `ddp` means: every step reaches all parameters, no buffer changes, gradients are kept once."""


class RunConfig(SaveConfigCallback):
    """Keeps a training run's configuration beside its logs."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the configuration when training starts; other commands leave the run as it is."""
        if stage == "fit":
            super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the settings in force when a run is resumed: they need not be those it began with."""
        if trainer.ckpt_path is not None and trainer.is_global_zero:
            print("settings in force, where they are not the defaults:")
            print(self.parser.dump(self.config, skip_default=True), flush=True)


class ELFCLI(LightningCLI):
    """LightningCLI with runs in `runs/<name>/`, for any LightningModule and LightningDataModule.

    Settings without a `class_path` are those of ELFModule and ELFDataModule.

    Args:
        command: the one that will be run, `fit` for example.
        settings: those of LightningCLI.
    """

    def __init__(self, command: str, **settings: Any) -> None:
        self.command = command
        super().__init__(**settings)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """That command alone: to describe all settings to the parser takes a second for each command."""
        return {self.command: super().subcommands()[self.command]}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser that raises instead of printing its usage and leaving."""
        return super().init_parser(**kwargs | {"exit_on_error": False})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the settings of a whole run, the links between data and model, and the default callbacks."""
        parser.add_argument(
            "--name", type=str, default="elf", help="name of the run; its folder is runs/<name>"
        )
        parser.add_argument(
            "--float32_matmul_precision",
            type=Literal["highest", "high", "medium"] | None,
            default=None,
            help="of what stays in float32, heads and Newton-Schulz for example; on a GPU `high` is TF32, "
            "faster and of ten bits (torch.set_float32_matmul_precision; left as it is by default)",
        )
        for size in SIZES_FROM_DATA:
            parser.link_arguments(f"data.{size}", f"model.init_args.{size}", apply_on="instantiate")
        parser.set_defaults(
            {
                "model": {"class_path": MODEL},
                "data": {"class_path": DATA},
                "trainer.callbacks": [{"class_path": path} for path in DEFAULT_CALLBACKS],
                "trainer.gradient_clip_val": 1.0,
                "trainer.enable_model_summary": False,  # RunSummary prints the plan instead
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Sequence[str]) -> None:  # type: ignore[override]
        """Parse `args` alone: `main` is called with them from tests and notebooks as from the shell."""
        self.config = parser.parse_args(args)
        # Now, since Lightning opens the file next, whatever it may be.
        self._check_checkpoint(self.config.subcommand, self.config[self.config.subcommand])

    def before_instantiate_classes(self) -> None:
        """Fill in what follows from other settings: seeds, and the folder of logs and checkpoints."""
        config = self.config[self.subcommand]
        for part in (config.model, config.data):
            if "seed" in part.init_args and part.init_args.seed is None:
                part.init_args.seed = int(config.seed_everything)
        trainer = config.trainer
        if trainer.default_root_dir is None:
            trainer.default_root_dir = str(Path("runs") / config.name)
        if trainer.enable_progress_bar is False:
            trainer.callbacks = [one for one in trainer.callbacks or [] if one.class_path != PROGRESS]
        fitting = self.subcommand == "fit"
        if trainer.strategy == "ddp":
            trainer.strategy = _component("lightning.pytorch.strategies.DDPStrategy", **DDP)
        if trainer.logger in (None, True):
            trainer.logger = _loggers(trainer.default_root_dir) if fitting else False
        if fitting and trainer.enable_checkpointing is not False:
            _point_checkpoints_at(trainer)

    def _check_checkpoint(self, command: str, config: Namespace) -> None:
        """See that there is a model, and name its file where a folder is given."""
        path = config.get("ckpt_path")
        if path is None:
            if command != "fit" and config.model.init_args.get("init_from") is None:
                raise UserError(
                    f"{command} without --ckpt_path would use random weights; give a checkpoint or a "
                    "run's folder, such as --ckpt_path runs/<name>, or weights as --model.init_from"
                )
        else:
            config.ckpt_path = checkpoint_file(path, resumes=command == "fit")

    def instantiate_classes(self) -> None:
        """Make everything, with products in the precision asked for from here on."""
        if precision := self.config[self.subcommand].float32_matmul_precision:
            torch.set_float32_matmul_precision(precision)
        super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the Trainer.

        Raises:
            UserError: for settings that it refuses, and precisions that are none for ELF.
        """
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except ValueError as error:
            raise UserError(f"trainer: {error}") from error
        if trainer.precision not in PRECISIONS:
            raise UserError(
                f"trainer.precision {trainer.precision}: weights and losses are kept in float32; choose "
                + " or ".join(PRECISIONS)
            )
        return trainer

    def before_fit(self) -> None:
        """Refuse a run that cannot be before other processes are started, which would all complain."""
        if isinstance(self.model, PlannableModule) and isinstance(self.datamodule, data.ELFDataModule):
            plan_run(self.model, self.datamodule, self.trainer)


def make_class_names_known() -> None:
    """Import everything that YAML may name, so that `class_path: TextFiles` is enough."""
    for room in (callbacks, data, encoders, optim, training):
        for name in room.__all__:
            getattr(room, name)


@contextmanager
def _settings_after_help(words: Sequence[str]) -> Iterator[None]:
    """After the help of a command, list the settings of the default model and data, which it leaves out."""
    try:
        yield
    except SystemExit:
        if {"-h", "--help"} & {*words}:
            parser = ArgumentParser(usage=argparse.SUPPRESS, add_help=False)
            parser.add_class_arguments(training.ELFModule, "model", skip={*SIZES_FROM_DATA})
            parser.add_class_arguments(data.ELFDataModule, "data")
            print(f"\n{parser.format_help()}")
        raise


def _component(class_path: str, **init_args: Any) -> Namespace:
    """A class with its arguments, as the parser writes it."""
    return Namespace(class_path=class_path, init_args=Namespace(**init_args))  # type: ignore[no-untyped-call]


def _loggers(folder: str) -> list[Namespace]:
    return [
        _component("lightning.pytorch.loggers.TensorBoardLogger", save_dir=folder, name="tensorboard"),
        _component("lightning.pytorch.loggers.CSVLogger", save_dir=folder, name="csv"),
    ]


def _point_checkpoints_at(trainer: Namespace) -> None:
    """Give every checkpoint callback without a folder the run's, and add one if there is none."""
    callbacks = list(trainer.callbacks or [])
    checkpoints = [callback for callback in callbacks if callback.class_path.endswith("ModelCheckpoint")]
    if not checkpoints:
        checkpoints = [_component("elf_lightning.callbacks.LatestModelCheckpoint", **CHECKPOINTING)]
        trainer.callbacks = callbacks + checkpoints
    for checkpoint in checkpoints:
        if checkpoint.init_args.get("dirpath") is None:
            checkpoint.init_args.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")


def _innermost(message: str) -> str:
    """What is wrong with which setting, without the parser's account of everything that it tried."""
    _, nested, problem = message.rpartition("Problem with given class_path ")
    if not nested:
        return message
    setting = ".".join(re.findall(r'Parser key "([\w.]+)":', message))
    problem = re.sub(r"^'[\w.]+':\s*(Parser key \"[\w.]+\":)?", "", problem)
    problem = re.split(r"- Expected a <class 'NoneType'>|Given value type:", problem)[0]
    return f"{setting}: {problem.strip()}"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn the parser's and Lightning's complaints about settings into `UserError`.

    Raises:
        UserError: in place of ArgumentError and MisconfigurationException, or the one behind a ValueError.
        ValueError: one that has nothing to do with settings, as it is.
    """
    try:
        yield
    except ArgumentError as error:
        raise UserError(f"{_innermost(error.message)}; `elf fit --help` lists the settings") from error
    except MisconfigurationException as error:
        raise UserError(str(error)) from error
    except ValueError as error:
        # What a component says that is one of several that may stand there, as a callback is.
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def run(arguments: Sequence[str]) -> None:
    """Run a Trainer command, such as `["fit", "--config", "conf/quickstart.yaml"]`.

    Raises:
        UserError: for settings that cannot be used.
    """
    run_trainer(arguments, Trainer)


def run_trainer(
    arguments: Sequence[str], trainer_class: type[Trainer], description: str | None = None
) -> None:
    """`run` with a Trainer of another class.

    Args:
        arguments: as for `run`.
        trainer_class: does what the command asks for.
        description: what `--help` says that it does; the first line of the method's docstring by default.

    Raises:
        UserError: for settings that cannot be used.
    """
    quiet_lightning()
    make_class_names_known()
    with one_line_errors(), arithmetic_of_a_command(), _settings_after_help(arguments):
        ELFCLI(
            arguments[0],
            model_class=LightningModule,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=RunConfig,
            save_config_kwargs={"overwrite": True},
            trainer_class=trainer_class,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs={arguments[0]: {"description": description}} if description else None,
            args=with_files(arguments),
            trainer_defaults={
                "callbacks": [RunSummary(), Throughput(), CollapseWatch()],
            },
        )
