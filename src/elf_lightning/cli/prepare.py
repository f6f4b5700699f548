"""`elf prepare`: what `elf fit` would do to the data before it trains, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from elf_lightning.cli.run_instead import NonTrainingTrainer
from elf_lightning.cli.trainer import run_trainer
from elf_lightning.data import ELFDataModule
from elf_lightning.training import ELFModule

EMBED = "--embed"
DESCRIPTION = (
    "What `elf fit` with these options does to the data before it trains: tokenise the corpus and, with "
    "--embed, write its latents too."
)


class PreparingTrainer(NonTrainingTrainer):
    """A Trainer that prepares data on its device, under its precision."""

    def run_instead(self, model: ELFModule, datamodule: ELFDataModule) -> None:
        """Prepare, and print what was prepared."""
        datamodule.trainer = self
        datamodule.prepare_data()
        preparation = datamodule.preparation
        for split, found in datamodule.summary().items():
            print(f"{split:11}{found.examples:,} sequences of at most {datamodule.max_length:,} tokens")
            shares = f"{found.padding:.2%} padding, {found.unknown:.2%} unknown tokens"
            print(f"{'':11}mean {found.mean_tokens:,.1f} tokens, {shares}")
        print(f"in         {preparation.folder}")
        if datamodule.cache_latents:
            for split in preparation.splits():
                num_bytes = datamodule.store.split(split, self.strategy.root_device).num_bytes
                print(f"latents    {num_bytes / 1e9:,.2f} GB of {split}")


def run(arguments: Sequence[str]) -> None:
    """Prepare the data of `elf fit` with these options; `--embed` writes the latents cache too.

    Raises:
        UserError: for settings or data that cannot be used.
    """
    options = [word for word in arguments[1:] if word != EMBED]
    embed = str(EMBED in arguments).lower()
    run_trainer(["fit", *options, "--data.cache_latents", embed], PreparingTrainer, DESCRIPTION)
