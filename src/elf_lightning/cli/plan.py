"""`elf plan`: what `elf fit` with the same settings would do, without doing it."""

from __future__ import annotations

from collections.abc import Sequence

from elf_lightning.callbacks.run_plan import plan_run
from elf_lightning.callbacks.run_summary import print_plan
from elf_lightning.cli.stand_in import StandInTrainer
from elf_lightning.cli.trainer import run_trainer
from elf_lightning.data import ELFDataModule
from elf_lightning.modules import ELFModule


class PlanningTrainer(StandInTrainer):
    """A Trainer that says what it would do."""

    def stand_in(self, model: ELFModule, datamodule: ELFDataModule) -> None:
        """Print the plan of a run; rows are prepared if they are not there, and not embedded."""
        print_plan(plan_run(model, datamodule, self))


def run(arguments: Sequence[str]) -> None:
    """Print the plan of `elf fit` with these options, such as `["plan", "--config", "conf/elf_105m.yaml"]`.

    Raises:
        UserError: for settings that cannot be used.
    """
    run_trainer(["fit", *arguments[1:]], PlanningTrainer)
