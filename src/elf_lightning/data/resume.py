"""Where training is in the data, so that a resumed run continues with the next batch."""

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Self

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn

from elf_lightning.errors import UserError

VERSION = 2  # of the order of training examples and of label drop; increased whenever these change


@dataclass(frozen=True)
class Position:
    """The next batch to train on: its epoch, its index there, and the examples of a batch on all devices."""

    epoch: int = 0
    batch: int = 0
    examples_per_batch: int | None = None

    @classmethod
    def in_state(cls, state_dict: Mapping[str, Any]) -> Self:
        """The position in a DataModule's `state_dict`."""
        # Version 1 had no entry `version`, and another name for the examples of a batch.
        examples = state_dict.get("examples_per_batch", state_dict.get("batch_rows"))
        return cls(state_dict["epoch"], state_dict["batch"], examples)

    @property
    def begun(self) -> bool:
        """Whether there are batches before this one."""
        return (self.epoch, self.batch) != (0, 0)

    def set_counters(self, fit_loop: dict[str, Any], batches_per_epoch: int, steps: int) -> None:
        """Set the counters of a checkpoint's fit loop, in place, to this position after `steps` steps.

        What Lightning saves depends on the hook that saves. If a run stops within an epoch (`max_time`), the
        counters say that the epoch is over; between two accumulated micro-batches, a resumed run would miss
        the gradient of the first; after the last batch of an epoch, it would not start the next. From these,
        it always resumes with the batch here. An interrupted validation is not repeated.
        """
        # Lightning starts the epoch, including hooks, if `ready` and `started` differ, else continues it.
        epochs = dict.fromkeys(("ready", "started", "processed", "completed"), self.epoch)
        epochs |= {"ready": self.epoch + 1, "started": self.epoch + bool(self.batch)}
        fit_loop["epoch_progress"] = {"total": epochs, "current": dict(epochs)}
        total = self.epoch * batches_per_epoch + self.batch
        fit_loop["epoch_loop.batch_progress"] = {
            # Lightning infers the hook that saved from `completed`: a lag of 0 or 1 is treated specially.
            "total": {"ready": total, "started": total, "processed": total, "completed": total - 2},
            "current": dict.fromkeys(epochs, self.batch),
            "is_last_batch": False,
        }
        # The x axis of all logs; Lightning adds one when it resumes.
        fit_loop["epoch_loop.state_dict"] = {"_batches_that_stepped": steps - 1}
        fit_loop.pop("epoch_loop.val_loop.batch_progress", None)


class ResumableDataModule(LightningDataModule):
    """Keeps its position in checkpoints, continues there, and follows the Trainer's device and ranks."""

    def __init__(
        self, batch_size: int, global_batch_size: int | None, order_depends_on_batches: bool
    ) -> None:
        super().__init__()
        self.batch_size = self._given_batch_size = batch_size
        self.global_batch_size = global_batch_size
        self.order_depends_on_batches = order_depends_on_batches
        self.position = Position()

    def setup(self, stage: str) -> None:
        """Begin at the first batch, and set the accumulation that `global_batch_size` needs."""
        if stage == "fit":
            self.position = Position()  # Lightning loads a checkpoint after this
            self._accumulate(self.trainer.accumulate_grad_batches if self.trainer else 1)

    def accumulation(self, world_size: int, asked: int = 1) -> int:
        """Micro-batches per optimizer step: what `global_batch_size` needs, or else as many as asked for."""
        if self.global_batch_size is None:
            return asked
        needed, rest = divmod(self.global_batch_size, self.batch_size * world_size)
        if needed < 1 or rest:
            raise UserError(
                f"data.global_batch_size {self.global_batch_size} is not a multiple of data.batch_size "
                f"{self.batch_size} x {world_size} device(s); change one of them"
            )
        if asked not in (1, needed):
            raise UserError(
                f"trainer.accumulate_grad_batches {asked} contradicts data.global_batch_size "
                f"{self.global_batch_size}, which needs {needed}; leave out one of them"
            )
        return needed

    def reached(self) -> Position | None:
        """Where the last optimizer step of `fit` left training; None if no training has begun.

        No checkpoint holds the gradients of later micro-batches: these are repeated.
        """
        trainer = self.trainer
        if trainer is None or not 0 < trainer.num_training_batches < inf:
            return None
        # `completed` is one behind when a callback saves after a batch.
        batches: int = trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
        epoch, batch = divmod(batches, int(trainer.num_training_batches))
        batch -= batch % trainer.accumulate_grad_batches
        return Position(epoch, batch, self.batch_size * trainer.world_size)

    def state_dict(self) -> dict[str, Any]:
        """Where training is in the data."""
        position = self.reached()
        return {} if position is None else {"version": VERSION, **asdict(position)}

    def rescaled(self, state_dict: dict[str, Any]) -> Position | None:
        """The position of a run with other micro-batches, counted in those of this one.

        None if they are the same, if none begins there, or if the order of examples depends on them.
        """
        if not state_dict or self.order_depends_on_batches:
            return None
        position, together = Position.in_state(state_dict), self.batch_size * self._rank()[1]
        if not position.begun or position.examples_per_batch in (None, together):
            return None
        batch, rest = divmod(position.batch * position.examples_per_batch, together)
        return None if rest else Position(position.epoch, batch, together)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue there; warns if the examples that follow come in another order than before."""
        self.position = Position.in_state(state_dict)
        if state_dict.get("version", 1) != VERSION and self.position.begun:
            rank_zero_warn(
                "the checkpoint is from a version of elf_lightning that shuffled differently: training "
                "continues with the training examples in another order"
            )
        # The sampler does resume; Lightning looks for loaders that save a state of their own.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")

    def _fit_batch_size(self, examples: int) -> None:
        """Reduce a batch size that was set after construction to one that fits the number of examples."""
        world_size = self._rank()[1]
        size = max(1, min(self.batch_size, examples // world_size))
        per_device, rest = divmod(self.global_batch_size or 0, world_size)
        if per_device and not rest:
            size = max(one for one in range(1, size + 1) if not per_device % one)
        if size != self.batch_size:
            whole = f"data.global_batch_size {self.global_batch_size} and " if per_device else ""
            rank_zero_warn(
                f"batch size {self.batch_size} does not fit {whole}{examples} training sequences; "
                f"using {size}"
            )
            self.batch_size = size
        self._accumulate(1)

    def _check_position(self) -> None:
        """A position counted in batches holds for batches of the same size only."""
        world_size, before = self._rank()[1], self.position.examples_per_batch
        together = self.batch_size * world_size
        if self.position.begun and before not in (None, together):
            raise UserError(
                f"data.batch_size {self.batch_size} x {world_size} device(s) is {together} sequences per "
                f"batch, but the checkpoint counts batches of {before}, and none of these begins where it "
                "stopped, or their order depends on it; choose data.batch_size so that they agree"
            )

    def _accumulate(self, asked: int) -> None:
        if self.global_batch_size is not None and self.trainer is not None:
            self.trainer.accumulate_grad_batches = self.accumulation(self.trainer.world_size, asked)

    def _device(self) -> torch.device:
        if self.trainer is not None:
            return self.trainer.strategy.root_device
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")

    def _precision(self) -> AbstractContextManager[None]:
        return nullcontext() if self.trainer is None else self.trainer.precision_plugin.forward_context()

    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
