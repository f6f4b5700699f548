"""The plan of a run, printed before its first step."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from elf_lightning.callbacks.run_plan import PlannableModule, RunPlan, plan_run
from elf_lightning.data import ELFDataModule


def print_plan(plan: RunPlan) -> None:
    """Prints the plan, one line per item."""
    for name, text in plan.lines():
        print(f"{name:9}{text}", flush=True)


class RunSummary(Callback):
    """Prints the plan of `fit` before its first step, and where a resumed run continues."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the plan, if the module has the settings that it needs."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not (isinstance(pl_module, PlannableModule) and isinstance(data, ELFDataModule)):
            return
        plan = plan_run(pl_module, data, trainer)
        if trainer.is_global_zero:
            print_plan(plan)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints where a resumed run continues."""
        if trainer.global_step and trainer.is_global_zero:
            batch = trainer.fit_loop.batch_idx + 1
            place = f"step {trainer.global_step:,}, epoch {trainer.current_epoch}, batch {batch:,}"
            print(f"{'resumed':9}at {place}, from {trainer.ckpt_path}", flush=True)
