"""`elf plan`, `elf prepare` and `elf latent-stats`: commands with all settings of `fit` that do not train."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from inspect import getdoc
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from elf_lightning.callbacks.run_plan import plan_run
from elf_lightning.cli import trainer
from elf_lightning.data import ELFDataModule
from elf_lightning.errors import UserError

EMBED = "--embed"


def as_fit(method: Callable[..., None]) -> Callable[..., None]:
    """The method with the options of `fit`, which LightningCLI reads from signature and docstring."""
    options = "".join((getdoc(Trainer.fit) or "").partition("\n\nArgs:")[1:])
    described = wraps(Trainer.fit, assigned=())(method)
    described.__doc__ = f"{getdoc(method)}{options}"
    return described


class DryTrainer(Trainer):
    """Plans a run or prepares its data, and does not train."""

    @as_fit
    def plan(self, model: LightningModule, datamodule: LightningDataModule, **_: Any) -> None:
        """Print what `elf fit` would do with these options: steps, learning rate and memory.

        The number of steps depends on the number of sequences, so the corpus is downloaded and tokenised
        first if necessary.
        """
        plan = plan_run(model, datamodule, self)
        if plan is None:
            raise UserError(
                f"there is no plan for model {type(model).__name__} with data {type(datamodule).__name__}; "
                "use a TrainingModule and an ELFDataModule"
            )
        plan.show()

    @as_fit
    def prepare(self, model: LightningModule, datamodule: LightningDataModule, **_: Any) -> None:
        """Prepare the data of `elf fit`: download and tokenise it and, with --embed, write its latents."""
        datamodule.trainer = self  # its device and precision
        datamodule.prepare_data()
        if not isinstance(datamodule, ELFDataModule):
            return
        for split, found in datamodule.summary().items():
            print(f"{split:11}{found.examples:,} sequences of at most {datamodule.max_length:,} tokens")
            fractions = f"{found.padding:.2%} padding, {found.unknown:.2%} unknown tokens"
            print(f"{'':11}mean length {found.mean_tokens:,.1f} tokens, {fractions}")
        print(f"in         {datamodule.preparation.folder}")
        if datamodule.cache_latents:
            for split in datamodule.preparation.splits():
                num_bytes = datamodule.store.split(split, self.strategy.root_device).num_bytes
                print(f"latents    {num_bytes / 1e9:,.2f} GB for {split}")

    @as_fit
    def latent_stats(self, model: LightningModule, datamodule: LightningDataModule, **_: Any) -> None:
        """Measure mean and standard deviation of the encoder's output on the corpus of `elf fit`.

        Over its first 32,768 positions, whatever data.latent_mean and data.latent_std say.
        """
        if not isinstance(datamodule, ELFDataModule):
            raise UserError(f"data {type(datamodule).__name__} has no latents; use an ELFDataModule")
        datamodule.trainer = self
        measured = replace(datamodule.store, given=None).latent_statistics(self.strategy.root_device)
        one = measured.over_channels
        print(f"latent_mean: {one.mean:.6f}\nlatent_std: {one.std:.6f}")
        print(f"# around a mean for each channel, the default without these settings: {measured.std:.6f}")


def run(arguments: Sequence[str]) -> None:
    """Run `["plan", "--config", "quickstart"]`, or `prepare`, perhaps with `--embed`, or `latent-stats`."""
    command, words = arguments[0], [word for word in arguments if word != EMBED]
    if command == "prepare":
        words += ["--data.cache_latents", str(EMBED in arguments).lower()]
    words[0] = command.replace("-", "_")  # a method of the Trainer
    trainer.run(words, DryTrainer)
