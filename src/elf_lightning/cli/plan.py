"""`elf plan`: what `elf fit` with the same settings would do once the rows are prepared."""

from __future__ import annotations

from collections.abc import Sequence

from elf_lightning.callbacks.run_plan import plan_run
from elf_lightning.callbacks.run_summary import print_plan
from elf_lightning.cli.run_instead import NonTrainingTrainer
from elf_lightning.cli.trainer import run_trainer
from elf_lightning.data import ELFDataModule
from elf_lightning.training import ELFModule

DESCRIPTION = (
    "What `elf fit` with these options would do: steps, rates and memory. Rows that are not prepared yet are "
    "prepared first, since the steps follow from their number: a corpus may be downloaded, and is tokenised."
)


class PlanningTrainer(NonTrainingTrainer):
    """A Trainer that says what it would do."""

    def run_instead(self, model: ELFModule, datamodule: ELFDataModule) -> None:
        """Print the plan of a run; rows that are not there are prepared, and not embedded."""
        print_plan(plan_run(model, datamodule, self))


def run(arguments: Sequence[str]) -> None:
    """Print the plan of `elf fit` with these options, such as `["plan", "--config", "conf/elf_105m.yaml"]`.

    Raises:
        UserError: for settings that cannot be used.
    """
    run_trainer(["fit", *arguments[1:]], PlanningTrainer, DESCRIPTION)
