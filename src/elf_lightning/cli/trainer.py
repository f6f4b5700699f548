"""`fit`, `validate`, `test` and `predict`: a small LightningCLI."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import isclass
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from elf_lightning import callbacks, data, encoders, optim, training
from elf_lightning.callbacks import CollapseWatch, RunSummary, Throughput
from elf_lightning.callbacks.run_plan import plan_run
from elf_lightning.cli.arithmetic import arithmetic_of_a_command
from elf_lightning.cli.checkpoint_file import checkpoint_file
from elf_lightning.cli.config import resolved_arguments
from elf_lightning.cli.quiet import quiet_lightning
from elf_lightning.errors import UserError
from elf_lightning.precision import PRECISIONS
from elf_lightning.training.base import SIZES_FROM_DATA

PROGRESS = "elf_lightning.callbacks.TrainingProgress"
DEFAULT_CALLBACKS = ("elf_lightning.callbacks.EMA", PROGRESS, "elf_lightning.callbacks.SampleWriter")

CHECKPOINTING = {"filename": "step-{step}", "auto_insert_metric_name": False, "save_last": "link"}
"""A checkpoint after each validation and at the end, with a link to the newest, `last.ckpt`."""

MODEL, DATA = "elf_lightning.training.ELFModule", "elf_lightning.data.ELFDataModule"
"""Classes used where a configuration gives no `class_path`."""

DDP = {"find_unused_parameters": False, "broadcast_buffers": False, "gradient_as_bucket_view": True}
"""For `strategy: ddp`: each step uses all parameters, no buffer changes, gradients are not copied."""
BASES: dict[str, type] = {
    "model": training.TrainingModule,
    "data": LightningDataModule,
    "model.optimizer": optim.OptimizerSettings,
    "data.encoder": encoders.Encoder,
    "data.source": data.Source,
    "trainer.callbacks": Callback,
}
"""Settings that take a class by its short name -> base class."""
ROOMS = (callbacks, data, encoders, optim, training)


class RunConfig(SaveConfigCallback):
    """Saves the configuration of a training run beside its logs."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the configuration when training starts; other commands leave the run's folder alone."""
        if stage == "fit":
            super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the settings of a resumed run, which may differ from those it started with."""
        if trainer.ckpt_path is not None and trainer.is_global_zero:
            print("settings that differ from the defaults:")
            print(self.parser.dump(self.config, skip_default=True), flush=True)


class ELFCLI(LightningCLI):
    """LightningCLI for any LightningModule and LightningDataModule, with runs in `runs/<name>/`.

    Without a `class_path`, the model is an ELFModule and the data an ELFDataModule.

    Args:
        command: the command to run, such as `fit`.
        settings: arguments of LightningCLI.
    """

    def __init__(self, command: str, **settings: Any) -> None:
        self.command = command
        super().__init__(**settings)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """This command alone: adding all settings to a parser takes a second per command."""
        return {self.command: super().subcommands()[self.command]}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser that raises errors instead of printing its usage and exiting."""
        return super().init_parser(**kwargs | {"exit_on_error": False})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add settings of the run, links from data to model, and defaults."""
        parser.add_argument(
            "--name", type=str, default="elf", help="name of the run; its folder is runs/<name>"
        )
        parser.add_argument(
            "--float32_matmul_precision",
            type=Literal["highest", "high", "medium"] | None,
            default=None,
            help="precision of float32 matrix products (heads, Newton-Schulz), for "
            "torch.set_float32_matmul_precision; `high` is TF32 on a GPU: faster, with a 10-bit mantissa "
            "(default: unchanged)",
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
        """Parse `args`, and never `sys.argv`: tests and notebooks call `main` too."""
        self.config = parser.parse_args(args)
        # Here, because Lightning opens the file next.
        self._check_checkpoint(self.config.subcommand, self.config[self.config.subcommand])

    def before_instantiate_classes(self) -> None:
        """Set what follows from other settings: seeds, and the folders of logs and checkpoints."""
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
        """Check that there are weights to use, and replace a folder by the checkpoint file in it."""
        path = config.get("ckpt_path")
        if path is None:
            if command != "fit" and config.model.init_args.get("init_from") is None:
                raise UserError(
                    f"{command} would use random weights; give a checkpoint or a run's folder with "
                    "--ckpt_path, such as --ckpt_path runs/<name>, or weights with --model.init_from"
                )
        else:
            config.ckpt_path = checkpoint_file(path, resumes=command == "fit")

    def instantiate_classes(self) -> None:
        """Instantiate all classes, after setting the precision of matrix products."""
        if precision := self.config[self.subcommand].float32_matmul_precision:
            torch.set_float32_matmul_precision(precision)
        super().instantiate_classes()
        # For all commands: a run's latents have to mean the same when it is evaluated or resumed.
        if (
            isinstance(self.model, training.TrainingModule)
            and isinstance(self.datamodule, data.ELFDataModule)
            and (codec := self.model.initial_codec) is not None
        ):
            self.datamodule.normalise_as(codec)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Instantiate the Trainer.

        Raises:
            UserError: for settings that it refuses, or an unsupported precision.
        """
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except ValueError as error:
            raise UserError(f"trainer: {error}") from error
        if trainer.precision not in PRECISIONS:
            raise UserError(
                f"trainer.precision {trainer.precision} is not supported, since weights and losses are kept "
                f"in float32; choose {', '.join(PRECISIONS)}"
            )
        return trainer

    def before_fit(self) -> None:
        """Refuse an impossible run before other processes are started."""
        plan_run(self.model, self.datamodule, self.trainer)


def make_class_names_known() -> None:
    """Import all public classes, so that short names such as `class_path: TextFiles` work."""
    for room in ROOMS:
        for name in room.__all__:
            getattr(room, name)


@contextmanager
def _settings_after_help(arguments: Sequence[str]) -> Iterator[None]:
    """After the help, list the settings of the default model and data, which subclass mode omits."""
    try:
        yield
    except SystemExit:
        if {"-h", "--help"} & {*arguments}:
            parser = ArgumentParser(usage=argparse.SUPPRESS, add_help=False)
            parser.add_class_arguments(training.ELFModule, "model", skip={*SIZES_FROM_DATA})
            parser.add_class_arguments(data.ELFDataModule, "data")
            print(f"\n{parser.format_help()}")
        raise


def _component(class_path: str, **init_args: Any) -> Namespace:
    """A class with its arguments, in the parser's form."""
    return Namespace(class_path=class_path, init_args=Namespace(**init_args))  # type: ignore[no-untyped-call]


def _loggers(folder: str) -> list[Namespace]:
    return [
        _component("lightning.pytorch.loggers.TensorBoardLogger", save_dir=folder, name="tensorboard"),
        _component("lightning.pytorch.loggers.CSVLogger", save_dir=folder, name="csv"),
    ]


def _point_checkpoints_at(trainer: Namespace) -> None:
    """Set the folder of checkpoint callbacks that have none; add a callback if there is none."""
    callbacks = list(trainer.callbacks or [])
    checkpoints = [callback for callback in callbacks if callback.class_path.endswith("ModelCheckpoint")]
    if not checkpoints:
        checkpoints = [_component("elf_lightning.callbacks.LatestModelCheckpoint", **CHECKPOINTING)]
        trainer.callbacks = callbacks + checkpoints
    for checkpoint in checkpoints:
        if checkpoint.init_args.get("dirpath") is None:
            checkpoint.init_args.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")


def _innermost(message: str) -> str:
    """The setting and its problem, without everything else that the parser tried."""
    setting = ".".join(re.findall(r'Parser key "([\w.]+)":', message))
    if unknown := re.search(r"Expected a dot import path string: (.+)", message):
        return f"{setting} {unknown[1]} is not a known class; give {_known_classes(setting)}"
    _, nested, problem = message.rpartition("Problem with given class_path ")
    if not nested:
        return message
    problem = re.sub(r"^'[\w.]+':\s*(Parser key \"[\w.]+\":)?", "", problem)
    problem = re.split(r"- Expected a <class 'NoneType'>|Given value type:", problem)[0]
    return f"{setting}: {problem.strip()}"


def _known_classes(setting: str) -> str:
    """The short names that a setting accepts."""
    base = BASES.get(setting, ())
    public = (getattr(room, name) for room in ROOMS for name in room.__all__)
    names = [one.__name__ for one in public if isclass(one) and issubclass(one, base) and one is not base]
    return ", ".join([*names, "or a class path such as my_module.MyClass"])


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors of the parser and of Lightning about settings into `UserError`.

    Raises:
        UserError: instead of ArgumentError, MisconfigurationException, or a ValueError caused by a UserError.
        ValueError: any other, unchanged.
    """
    try:
        yield
    except ArgumentError as error:
        raise UserError(f"{_innermost(error.message)}; `elf fit --help` lists the settings") from error
    except MisconfigurationException as error:
        raise UserError(str(error)) from error
    except ValueError as error:
        # The parser wraps errors of classes in a union or list, such as callbacks.
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def run(
    arguments: Sequence[str], trainer_class: type[Trainer] = Trainer, description: str | None = None
) -> None:
    """Run a Trainer command, such as `["fit", "--config", "conf/quickstart.yaml"]`.

    Args:
        arguments: the command and its options.
        trainer_class: executes the command.
        description: for `--help`; by default the first line of the method's docstring.

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
            args=resolved_arguments(arguments),
            trainer_defaults={"callbacks": [RunSummary(), Throughput(), CollapseWatch()]},
        )
