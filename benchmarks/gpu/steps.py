"""Training without a Trainer: rows to learn, and the steps that `ELFModule` takes on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.sizes import Size
from elf_lightning.batch import LatentBatch
from elf_lightning.flow import seeded_generator
from elf_lightning.network import ELFNetwork
from elf_lightning.objectives import ELFObjective, Losses, StepKey
from elf_lightning.optim import Muon, Schedule, scaled_learning_rate


def full_rows(ids: Tensor, latents: Tensor) -> LatentBatch:
    """Unconditional rows (B, S) without padding, with their latents (B, S, C)."""
    on = torch.ones_like(ids, dtype=torch.bool)
    return LatentBatch(ids, on, ~on, on, ~on[:, 0], latents)


class MadeUpRows:
    """Rows of random pieces, each piece with a latent of its own: something that can be learned.

    Drawn on the CPU, so that all devices get the same.

    Args:
        size: of rows, latents and vocabulary.
        device: where the rows go.
    """

    def __init__(self, size: Size, device: torch.device) -> None:
        self.size = size
        generator = seeded_generator("latents")
        self._table = torch.randn(size.vocabulary_size, size.latent_size, generator=generator).to(device)

    def __call__(self, rows: int, number: int = 0) -> LatentBatch:
        """The batch with this number."""
        generator, size = seeded_generator("rows", number), self.size
        ids = torch.randint(size.vocabulary_size, (rows, size.max_length), generator=generator)
        ids = ids.to(self._table.device)
        return full_rows(ids, self._table[ids])


class Training:
    """A network on its way: draws, loss, gradient, clipping, optimizer, schedule, as in `ELFModule`.

    Args:
        network: on its device.
        objective: gives the loss.
        optimizer: its settings.
        schedule: of the learning rate.
        rows: of an optimizer step, over all processes; they scale the learning rate.
        total_steps: of the whole run, for the schedule.
        mixed: compute in bfloat16 where the network allows it.
        seed: of the draws.
        clip: largest norm of a gradient.
    """

    def __init__(
        self,
        network: ELFNetwork,
        objective: ELFObjective = ELFObjective(),
        optimizer: Muon = Muon(),
        schedule: Schedule = Schedule(),
        *,
        rows: int,
        total_steps: float = float("inf"),
        mixed: bool = True,
        seed: int = 0,
        clip: float = 1.0,
    ) -> None:
        self.network = network
        self.objective = objective
        self.optimizer = optimizer.build(network, scaled_learning_rate(optimizer.base_learning_rate, rows))
        self.scheduler = schedule.build(self.optimizer, total_steps, steps_per_epoch=1)
        self.mixed = mixed
        self.seed = seed
        self.clip = clip
        self.steps = 0

    def __call__(self, batch: LatentBatch) -> Losses:
        """One optimizer step on one batch; nothing waits for the device."""
        device = batch.latents.device
        draws = self.objective.draw(batch.latents.shape, StepKey(self.seed, 0, self.steps), device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.mixed):
            losses = self.objective(self.network, batch, draws)
        losses.total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()
        self.steps += 1
        return losses


class Average:
    """The running average of a network's weights, as `callbacks.EMA` makes it.

    Args:
        network: whose weights.
        decay: the largest share of the old average, which grows from the first steps on.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._weights = [p.detach() for p in network.parameters()]
        self._averages = [weight.clone() for weight in self._weights]
        self._decay = decay
        self._steps = 0

    def update(self) -> None:
        """Take in the weights after a step."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps)) if self._steps else 0.0
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
        self._steps += 1

    def show(self) -> None:
        """Give the network the average."""
        torch._foreach_copy_(self._weights, self._averages)
