"""Training without a Trainer: rows to learn, and the steps that `ELFModule` takes on them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.batches import full_rows
from benchmarks.sizes import Size
from elf_lightning.batch import LatentBatch
from elf_lightning.flow import seeded_generator
from elf_lightning.network import ELFNetwork
from elf_lightning.objectives import Draws, ELFObjective, StepKey
from elf_lightning.optim import MuonSettings, Schedule, scaled_learning_rate

CLIP = 1.0
"""Largest norm of a gradient."""


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


class StepLoss(nn.Module):
    """A network with its objective, as one module: what DDP wraps.

    Args:
        network: on its device.
        objective: gives the loss.
        mixed: compute in bfloat16 where the network allows it.
    """

    def __init__(self, network: ELFNetwork, objective: ELFObjective, mixed: bool) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.mixed = mixed

    def forward(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """The loss of a micro-batch, ()."""
        device = batch.latents.device.type
        # Without a cache, as Lightning has it.
        with torch.autocast(device, torch.bfloat16, enabled=self.mixed, cache_enabled=False):
            return self.objective(self.network, batch, draws).total


class Training:
    """A network on its way: draws, loss, gradient, clipping, optimizer, schedule, as in `ELFModule`.

    Args:
        network: on its device.
        objective: gives the loss.
        optimizer: its settings.
        schedule: of the learning rate.
        rows: of an optimizer step, over all processes; they scale the learning rate.
        mixed: compute in bfloat16 where the network allows it.
        seed: of the draws.
        rank: of this process, for the draws.
        wrap: what is put around the loss, such as DDP.
    """

    def __init__(
        self,
        network: ELFNetwork,
        objective: ELFObjective,
        optimizer: MuonSettings,
        schedule: Schedule = Schedule(),
        *,
        rows: int,
        mixed: bool,
        seed: int = 0,
        rank: int = 0,
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    ) -> None:
        self.network = network
        self.objective = objective
        self.loss = wrap(StepLoss(network, objective, mixed))
        self.optimizer = optimizer.build(network, scaled_learning_rate(optimizer.base_learning_rate, rows))
        self.scheduler = schedule.build(self.optimizer, float("inf"), steps_per_epoch=1)
        self.seed = seed
        self.rank = rank
        self.steps = self.micro_batches = 0

    def __call__(self, *batches: LatentBatch) -> Tensor:
        """One optimizer step on micro-batches; their mean loss, (). Nothing waits for the device."""
        total = torch.zeros((), device=batches[0].latents.device)
        for number, batch in enumerate(batches, start=1):
            total += self.gradient(batch, len(batches), synchronized=number == len(batches))
        self.update()
        return total

    def gradient(self, batch: LatentBatch, of: int = 1, synchronized: bool = True) -> Tensor:
        """Add a micro-batch's gradient, one `of` so many; its share of the loss, ().

        With `synchronized` false the ranks do not exchange it.
        """
        key = StepKey(self.seed, 0, self.micro_batches, self.rank)
        draws = self.objective.draw(batch.latents.shape, key, batch.latents.device)
        whole = self.loss
        alone = whole.no_sync() if isinstance(whole, DistributedDataParallel) else nullcontext()
        with nullcontext() if synchronized else alone:
            loss: Tensor = whole(batch, draws) / of
            loss.backward()  # type: ignore[no-untyped-call]
        self.micro_batches += 1
        return loss.detach()

    def update(self) -> None:
        """Clip, move the weights, forget the gradient."""
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()
        self.steps += 1


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
