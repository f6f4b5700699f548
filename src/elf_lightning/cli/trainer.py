"""`fit`, `validate`, `test` and `predict`: a small LightningCLI."""

import argparse
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from inspect import getdoc
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal, get_args

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, Timer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.strategies import StrategyRegistry
from lightning.pytorch.utilities import rank_zero_info

from elf_lightning import callbacks, data, training
from elf_lightning.callbacks.run_plan import plan_run
from elf_lightning.callbacks.stop import RunTimer
from elf_lightning.checkpoints.locate import LAST, checkpoint_files, find_checkpoint, link_newest
from elf_lightning.checkpoints.torch_file import check_torch_file, read_torch_file
from elf_lightning.cli.classes import DATA, check_sections, known_classes, one_line_errors, settings_used
from elf_lightning.cli.config import resolved_arguments
from elf_lightning.cli.options import named_run
from elf_lightning.errors import Stopped, UserError, errors_about
from elf_lightning.precision import PRECISIONS
from elf_lightning.terminal import quiet_lightning, say
from elf_lightning.training.base import SIZES_FROM_DATA
from elf_lightning.training.ddp import DDP
from elf_lightning.whole_file import write_whole

PROGRESS = "elf_lightning.callbacks.TrainingProgress"
AVERAGES = ("EMA", "WeightAveraging")
DEFAULT_CALLBACKS = ("elf_lightning.callbacks.EMA", PROGRESS, "elf_lightning.callbacks.SampleWriter")
CHECKPOINTING = {"filename": "step-{step}", "auto_insert_metric_name": False}
"""A checkpoint after each validation and at the end, beside those of other callbacks."""
MATMUL_PRECISION = (
    "precision of float32 matrix products (heads, Newton-Schulz), for torch.set_float32_matmul_precision; "
    "`high` is TF32 on a GPU: faster, with a 10-bit mantissa (default: unchanged)"
)
LASTING = {
    "TensorBoardLogger": "elf_lightning.callbacks.loggers.TensorBoardWhileRoom",
    "CSVLogger": "elf_lightning.callbacks.loggers.CSVWhileRoom",
}
"""Lightning's loggers, and the same that outlast a full disk."""
ALWAYS = (callbacks.RunSummary, callbacks.Throughput, callbacks.CollapseWatch, callbacks.StopOnSignal)
"""Callbacks of every run, beside those that are settings."""
NEED_WEIGHTS = ("validate", "test", "predict")


class RunConfig(SaveConfigCallback):
    """Saves the configuration of a training run beside its logs, as it was given.

    What follows from it, such as folders from the name, is left out, so that it can begin another run.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write nothing yet: the run may be refused, and other commands leave its folder alone."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save and log the configuration."""
        if not trainer.is_global_zero:
            return
        file = Path(trainer.default_root_dir, self.config_filename)
        text = self.parser.dump(self.config, skip_unset=False)
        settings, resumes = yaml.safe_load(text), self.config.get("ckpt_path") is not None
        if resumes and file.is_file():
            from transformers.utils.generic import flatten_dict  # takes a second: imported only to compare

            before = yaml.safe_load(file.read_text(encoding="utf-8"))
            old, new = flatten_dict(before if isinstance(before, dict) else {}), flatten_dict(settings)
            for name in sorted((old.keys() | new.keys()) - {"ckpt_path", "config"}):
                if old.get(name) != new.get(name):
                    say(f"changed  {name}: {old.get(name)} -> {new.get(name)}")
        elif not resumes and checkpoint_files(file.parent):
            say(f"folder   {file.parent} has checkpoints of an earlier run, which stay;")
            say(f"         --ckpt_path {file.parent} continues it, --name begins another folder")
        for logger in trainer.loggers:
            logger.log_hyperparams(settings)
        if file.resolve() not in [Path(str(path)).resolve() for path in self.config.get("config") or []]:
            write_whole(file, text)


class ELFCLI(LightningCLI):
    """LightningCLI for any LightningModule and LightningDataModule, with runs in `runs/<name>/`.

    Without a `class_path`, the model is an ELFModule and the data an ELFDataModule.
    """

    def __init__(self, command: str, **settings: Any) -> None:
        self.command = command
        super().__init__(**settings)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """This command alone: adding all settings to a parser takes a second per command."""
        known = super().subcommands()
        return {self.command: known.get(self.command, known["fit"])}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add settings of the run, links from data to model, and defaults."""
        name = "name of the run; its folder is runs/<name>"
        parser.add_argument("--name", type=str, default="elf", help=name)
        levels = Literal["highest", "high", "medium"] | None
        parser.add_argument("--float32_matmul_precision", type=levels, default=None, help=MATMUL_PRECISION)
        for action in parser._actions:
            # For the Trainer's `Union[int, float]`, typing may give the equal `Union[float, int]` of another
            # package: 1 batch would then be 1.0, which is all of them.
            if get_args(getattr(action, "_typehint", None))[:2] == (float, int):
                action._typehint = int | float | None  # type: ignore[attr-defined]
        for size in SIZES_FROM_DATA:
            parser.link_arguments(f"data.{size}", f"model.init_args.{size}", apply_on="instantiate")
        parser.set_defaults(
            {
                "model": {"class_path": "elf_lightning.training.ELFModule"},
                "data": {"class_path": DATA},
                "trainer.callbacks": [{"class_path": path} for path in DEFAULT_CALLBACKS],
                "trainer.gradient_clip_val": 1.0,
                "trainer.enable_model_summary": False,  # RunSummary prints the plan instead
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Sequence[str]) -> None:  # type: ignore[override]
        """Parse `args`, and never `sys.argv`: tests and notebooks call `main` too; check the checkpoint."""
        with settings_used():
            self.config = parser.parse_args(args)
        # Here, because Lightning draws from the seed and opens the file next.
        config = self.config[self.command]
        if "verbose" in config and not any(word.startswith("--verbose") for word in args):
            config.verbose = False  # of Lightning's table of numbers, which `after_validate` replaces
        kinds = {"name": str, "seed_everything": int} | dict.fromkeys(("trainer", "model", "data"), Namespace)
        for part, kind in kinds.items():
            if not isinstance(config[part], kind):
                raise UserError(f"{part} is {config[part]!r:.40}; give it another value, or leave it out")
        for part in ("model", "data"):
            check_sections(config[part], part)
        if not 0 <= int(config.seed_everything) < 2**32:
            raise UserError(f"--seed_everything {config.seed_everything}: give 0 to 4294967295")
        requeued = SLURMEnvironment.detect() and os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
        if self.command == "fit" and config.get("ckpt_path") is None and requeued:
            folder = Path(config.trainer.default_root_dir or named_run(config.name))
            config.ckpt_path = str(folder) if checkpoint_files(folder) else None
        if config.get("ckpt_path") is not None:
            own = not issubclass(resolve_name(config.model.class_path), training.TrainingModule)
            config.ckpt_path = _checkpoint_file(config.ckpt_path, self.command not in NEED_WEIGHTS, own)
        elif self.command in NEED_WEIGHTS and config.model.init_args.get("init_from") is None:
            raise UserError(
                f"{self.command} would use random weights; give a checkpoint or a run's folder with "
                "--ckpt_path, such as --ckpt_path runs/<name>, or weights with --model.init_from"
            )

    def before_instantiate_classes(self) -> None:
        """Set what follows from other settings: seeds, and the folders of logs and checkpoints."""
        config, fitting = self.config[self.subcommand], self.subcommand == "fit"
        self.given = config.clone()
        for part in (config.model, config.data):
            if "seed" in part.init_args and part.init_args.seed is None:
                part.init_args.seed = int(config.seed_everything)
        if config.float32_matmul_precision:
            torch.set_float32_matmul_precision(config.float32_matmul_precision)
        trainer = config.trainer
        folder = trainer.default_root_dir = trainer.default_root_dir or str(named_run(config.name))
        teacher = Path(str(config.model.init_args.get("teacher")))
        if fitting and teacher.is_dir() and Path(folder).resolve().is_relative_to(teacher.resolve()):
            raise UserError(
                f"{folder} is inside of model.teacher {teacher}, whose newest checkpoint would then be a "
                "student's; give another --name"
            )
        chosen = trainer.callbacks or []
        trainer.callbacks = list(chosen) if isinstance(chosen, list) else [chosen]
        if fitting and not any(one.class_path.endswith(AVERAGES) for one in trainer.callbacks):
            rank_zero_info(
                "trainer.callbacks leaves out EMA: weights are not averaged; --trainer.callbacks+ adds to "
                "the default callbacks"
            )
        if trainer.barebones:
            trainer.logger = trainer.enable_checkpointing = trainer.enable_progress_bar = False
        if trainer.enable_progress_bar is False:
            trainer.callbacks = [one for one in trainer.callbacks if one.class_path != PROGRESS]
        # What `ddp` means, and with several devices `auto`, outside notebooks.
        StrategyRegistry.register("ddp", DDP, override=True)
        if trainer.logger in (None, True):
            trainer.logger = fitting and [
                _component(lasting, save_dir=folder, name=name.removesuffix("Logger").lower())
                for name, lasting in LASTING.items()
            ]
        elif trainer.logger:
            for one in trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]:
                package, _, name = one.class_path.rpartition(".")
                if package.startswith("lightning."):
                    one.class_path = LASTING.get(name, one.class_path)
        if fitting and trainer.enable_checkpointing is not False:
            if not any(one.class_path.endswith("LatestModelCheckpoint") for one in trainer.callbacks):
                latest = _component("elf_lightning.callbacks.LatestModelCheckpoint", **CHECKPOINTING)
                trainer.callbacks.append(latest)
            for one in (one for one in trainer.callbacks if one.class_path.endswith("ModelCheckpoint")):
                settings = one.init_args
                if settings.get("dirpath") is None:
                    settings.dirpath = str(Path(folder) / "checkpoints")
                _name_without_slash(settings)
                # The link `last.ckpt` is there in any case; Lightning would write `last-v1.ckpt` beside it.
                if settings.get("save_top_k") == 0 and not trainer.fast_dev_run:
                    settings.enable_version_counter = False
                elif not settings.get("save_weights_only"):
                    settings.save_last = None

    def instantiate_classes(self) -> None:
        """Instantiate all classes, and take the latent statistics of initial weights."""
        with settings_used():
            super().instantiate_classes()
        # For all commands: a run's latents have to mean the same when it is evaluated or resumed.
        codec = getattr(self.model, "initial_codec", None)
        if codec is not None and isinstance(self.datamodule, data.ELFDataModule):
            self.datamodule.normalise_as(codec)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Instantiate the Trainer; settings that it refuses and unsupported precisions are UserErrors."""
        given = [*self.config_init[self.command].trainer.callbacks]
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except ValueError as error:
            raise UserError(f"trainer: {error}") from error
        used: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        for place, one in enumerate(used):
            if type(one) is Timer and one not in given:  # Lightning's, for `max_time`
                used[place] = RunTimer(self.config[self.command].trainer.max_time)
            elif isinstance(one, RunConfig):
                one.config = self.given
        if self.subcommand == "predict" and not any(isinstance(one, BasePredictionWriter) for one in used):
            used.append(callbacks.SampleWriter())
        if trainer.precision not in PRECISIONS:
            raise UserError(
                f"trainer.precision {trainer.precision} is not supported, since weights and losses are kept "
                f"in float32; choose {', '.join(PRECISIONS)}"
            )
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # unless `trainer.plugins` has another
            trainer.strategy.checkpoint_io = callbacks.WholeCheckpointIO()
        return trainer

    def before_fit(self) -> None:
        """Refuse an impossible run before other processes are started."""
        plan_run(self.model, self.datamodule, self.trainer)

    def after_validate(self) -> None:
        """Print the numbers, rounded."""
        say_metrics(self.trainer)

    after_test = after_validate

    def after_fit(self) -> None:
        """Say what was saved, and how to go on."""
        trainer, folder = self.trainer, self.trainer.default_root_dir
        last, trial = Path(folder, "checkpoints", LAST), trainer.fast_dev_run  # type: ignore[attr-defined]
        places = [getattr(one, "dirpath", None) for one in trainer.checkpoint_callbacks]
        saves = last.parent.resolve() in [Path(place).resolve() for place in places if place]
        saved = saves and not trial and last.exists()
        if not (trainer.is_global_zero and type(trainer) is Trainer and saved):
            return
        say(f"saved    {last}, step {trainer.global_step:,}")
        if isinstance(self.model, training.TrainingModule):
            paired = getattr(self.datamodule, "max_condition_length", None)
            say(f"next     elf sample --checkpoint {folder} {'--prompt TEXT' if paired else '--num 8'}")
            say(f"         elf eval --checkpoint {folder}")


def say_metrics(trainer: Trainer) -> None:
    """Print the numbers of a validation or test, rounded, on rank 0."""
    metrics = trainer.callback_metrics if trainer.is_global_zero else {}
    for name, value in metrics.items():
        say(f"{name:{max(map(len, metrics))}}  {float(value):.4g}")


def _name_without_slash(checkpoint: Namespace) -> None:
    """Keep metrics such as `val/loss`, which Lightning puts in the name of a file, from making folders."""
    name = checkpoint.get("filename") or ""
    if checkpoint.get("auto_insert_metric_name", True) and re.search(r"\{[^{}:]*/", name):
        named = re.sub(r"\{([^{}:]+)", lambda metric: f"{metric[1].replace('/', '_')}={metric[0]}", name)
        checkpoint.auto_insert_metric_name, checkpoint.filename = False, named


def _component(class_path: str, **init_args: Any) -> Namespace:
    """A class with its arguments, in the parser's form."""
    return Namespace(class_path=class_path, init_args=Namespace(**init_args))  # type: ignore[no-untyped-call]


def _checkpoint_file(path: str, resumes: bool, own: bool) -> str:
    """The file that `--ckpt_path` refers to: a file itself, or the newest checkpoint of a run's folder.

    It must be for a `TrainingModule`, or from Lightning for one's `own` module.
    """
    if path in ("best", "last", "hpc"):  # Lightning finds it
        return path
    if Path(path).name == LAST:
        try:
            check_torch_file(Path(path))
        except (OSError, UserError):
            path = str(Path(path).parent)  # its newest checkpoint
    if not Path(path).exists():
        raise UserError(f"--ckpt_path {path}: file not found; checkpoints are in runs/<name>/checkpoints")
    file = find_checkpoint(path)
    if resumes and Path(path).is_dir() and file.suffix == ".ckpt":
        # Resumed under the name of the link, Lightning deletes the file when it is outdated.
        with suppress(UserError):
            link_newest(file)
            file = file.with_name(LAST)
    if file.is_dir():
        raise UserError(f"--ckpt_path {path} contains only weights; use --model.init_from {path}")
    with errors_about(f"--ckpt_path {file}"):
        content = read_torch_file(file)
    if not content.keys() >= {"state_dict", "pytorch-lightning_version" if own else "elf"}:
        other = f"to load weights in another format, use --model.init_from {file}"
        remedy = "give a checkpoint of a run" if own else other
        raise UserError(f"--ckpt_path {file} was not written by a run of elf_lightning; {remedy}")
    if resumes and "optimizer_states" not in content:
        remedy = "give another checkpoint" if own else f"start a new run with --model.init_from {file}"
        message = f"--ckpt_path {file} contains only weights, so training cannot resume from it"
        raise UserError(f"{message}; {remedy}")
    return str(file)


@contextmanager
def arithmetic_of_a_command() -> Iterator[None]:
    """Flush denormal numbers to zero in this thread and in those it starts; afterwards restore this one's.

    Activations behind nearly closed gates become denormal in training, which costs a small network a few
    percent of its speed on a CPU. Torch starts its threads with its first large operation: enter this before.
    """
    were_flushed = bool(torch.tensor(torch.finfo(torch.float32).smallest_normal).mul(0.5) == 0)
    matmul_precision = torch.get_float32_matmul_precision()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(were_flushed)
        torch.set_float32_matmul_precision(matmul_precision)


def run(arguments: Sequence[str], kind: type[Trainer] = Trainer) -> None:
    """Run a method of this kind of Trainer, such as `["fit", "--config", "conf/quickstart.yaml"]`."""
    quiet_lightning()
    known_classes()
    command, arguments = arguments[0], ["--help" if word == "--help-all" else word for word in arguments]
    purpose = (getdoc(getattr(kind, command)) or "").partition("\n\nArgs:")[0]
    described = {"exit_on_error": False, "description": purpose}
    try:
        with one_line_errors(), arithmetic_of_a_command():
            ELFCLI(
                command,
                model_class=LightningModule,
                datamodule_class=LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=RunConfig,
                trainer_class=kind,
                seed_everything_default=0,
                auto_configure_optimizers=False,
                parser_kwargs={"prog": "elf", "exit_on_error": False, command: described},
                args=resolved_arguments(arguments),
                trainer_defaults={"callbacks": [make() for make in ALWAYS]},
            )
    except Stopped as stopped:
        if stopped.signal == signal.SIGUSR1 and stopped.announced and SLURMEnvironment.detect():
            # `elf fit` then continues from the newest checkpoint of its run.
            array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
            job = os.environ["SLURM_JOB_ID"] if array is None else f"{array}_{task}"
            with suppress(OSError):
                subprocess.run(["scontrol", "requeue", job], check=False)
        raise
    except SystemExit:
        if {"-h", "--help"} & {*arguments}:  # list what subclass mode omits
            parser = ArgumentParser(usage=argparse.SUPPRESS, add_help=False)
            parser.add_class_arguments(training.ELFModule, "model", skip={*SIZES_FROM_DATA})
            parser.add_class_arguments(data.ELFDataModule, "data")
            print(f"\n{parser.format_help()}")
        raise
