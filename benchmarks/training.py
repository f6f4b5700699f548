"""Training steps without a Trainer, ours and the baseline, and the parts of ours."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.baseline.training import BaselineOptimizer, baseline_loss
from benchmarks.batches import encoded
from benchmarks.measure import Function, Rounds, alternate
from elf_lightning.batch import LatentBatch
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.network import ELFNetwork
from elf_lightning.objectives import Draws, ELFObjective, StepKey
from elf_lightning.objectives.token_loss import token_cross_entropy
from elf_lightning.optim import MuonSettings, Schedule

MAX_NORM = 1.0
"""Of a step's gradient, by clipping."""
ENCODE = "encode"
FORWARD = "forward pass with gradient"
BACKWARD = "its backward pass"
BOTH = f"{FORWARD}, and backward"
HEAD = "token head and loss, with gradient"


class StepLoss(nn.Module):
    """A network with its loss () in one module, which DDP can wrap; `mixed` computes in bfloat16."""

    def __init__(
        self, network: ELFNetwork, loss: Callable[[ELFNetwork, LatentBatch, Draws], Tensor], mixed: bool
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.mixed = mixed

    def forward(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """The loss of a micro-batch, ()."""
        with mixed_precision(batch.latents.device, self.mixed):
            return self.loss(self.network, batch, draws)


def mixed_precision(device: torch.device, enabled: bool) -> torch.autocast:
    """bfloat16 autocast as Lightning has it, without a cache of cast weights."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)


def our_optimizer(network: nn.Module, learning_rate: float, sharded: bool = False) -> torch.optim.Optimizer:
    """Muon, as configurations set it."""
    return MuonSettings(sharded=sharded).build(network, learning_rate)


class Training:
    """Draws, loss, gradient, clipping, optimizer, schedule and average, as a step of `ELFModule` has them.

    The learning rate is constant after its warm-up; `decay` of the average warms up as in `callbacks.EMA`.
    `mixed` computes in bfloat16, `sharded` divides Muon's matrices among the ranks, `wrap` wraps the loss.
    """

    def __init__(
        self,
        network: ELFNetwork,
        objective: ELFObjective,
        learning_rate: float = 1e-3,
        warmup_steps: int = 0,
        *,
        decay: float = 0.999,
        mixed: bool = False,
        sharded: bool = False,
        rank: int = 0,
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    ) -> None:
        self.network = network
        self.objective = objective
        self.mixed = mixed
        self.rank = rank
        self.loss = wrap(StepLoss(network, self.total_loss, mixed))
        self.optimizer = our_optimizer(network, learning_rate, sharded)
        schedule = Schedule(warmup_steps=warmup_steps)
        self.scheduler = schedule.build(self.optimizer, float("inf"), steps_per_epoch=1)
        self.weights = [p.detach() for p in network.parameters()]
        self.averages = [weight.clone() for weight in self.weights]
        self.decay = decay
        self.steps = self.micro_batches = 0

    def __call__(self, *batches: LatentBatch) -> Tensor:
        """One optimizer step on micro-batches; their mean loss, (). Never waits for the device."""
        self.optimizer.zero_grad()
        total = torch.zeros((), device=batches[0].latents.device)
        for number, batch in enumerate(batches, start=1):
            total += self.gradient(batch, len(batches), synchronized=number == len(batches))
        self.clip()
        self.update()
        self.average()
        return total

    def gradient(self, batch: LatentBatch, accumulated: int = 1, synchronized: bool = True) -> Tensor:
        """Add the gradient of one of `accumulated` micro-batches; returns its part of the loss, ().

        The ranks exchange gradients only where it is `synchronized`.
        """
        key = StepKey(0, 0, self.micro_batches, self.rank)
        draws = self.objective.draw(batch.latents.shape, key, batch.latents.device)
        self.micro_batches += 1
        return self.backward(batch, draws, accumulated, synchronized)

    def backward(
        self, batch: LatentBatch, draws: Draws, accumulated: int = 1, synchronized: bool = True
    ) -> Tensor:
        """As `gradient`, at given draws."""
        local = isinstance(self.loss, DistributedDataParallel) and not synchronized
        with self.loss.no_sync() if local else nullcontext():  # type: ignore[operator]
            loss: Tensor = self.loss(batch, draws) / accumulated
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def total_loss(self, network: ELFNetwork, batch: LatentBatch, draws: Draws) -> Tensor:
        """The loss with its graph, ()."""
        return self.objective(network, batch, draws).total

    def clip(self) -> None:
        """Clip the gradient by its global norm."""
        nn.utils.clip_grad_norm_(self.network.parameters(), MAX_NORM)

    def update(self) -> None:
        """Move the weights."""
        self.optimizer.step()
        self.scheduler.step()
        self.steps += 1

    def average(self) -> None:
        """Take the weights into their average."""
        warm = self.steps - 1
        self.blend(1 - min(self.decay, (1 + warm) / (10 + warm)) if warm > 0 else 1.0)

    def blend(self, weight: float) -> None:
        """Move the average towards the weights."""
        torch._foreach_lerp_(self.averages, self.weights, weight)


class BaselineTraining(Training):
    """The same steps without fast paths."""

    def __init__(self, network: ELFNetwork, objective: ELFObjective, *, mixed: bool = False) -> None:
        super().__init__(network, objective, mixed=mixed)
        self.baseline_optimizer = BaselineOptimizer(network, 1e-3)

    def total_loss(self, network: ELFNetwork, batch: LatentBatch, draws: Draws) -> Tensor:
        """All sequences through everything."""
        return baseline_loss(self.objective, network, batch, draws)[0]

    def clip(self) -> None:
        """One gradient after the other."""
        nn.utils.clip_grad_norm_(self.network.parameters(), MAX_NORM, foreach=False)

    def update(self) -> None:
        """One parameter after the other."""
        self.baseline_optimizer.step()
        self.steps += 1

    def blend(self, weight: float) -> None:
        """One parameter after the other."""
        for average, one in zip(self.averages, self.weights, strict=True):
            average.lerp_(one, weight)


def timed_parts(training: Training, batch: LatentBatch, encoder: PretrainedEncoder, rounds: int) -> Rounds:
    """Times of all parts. That of the backward pass is the difference of both passes and the forward pass."""
    seconds = alternate(parts(training, batch, encoder), rounds, batch.latents.device).seconds
    seconds[BOTH] = [both - one for both, one in zip(seconds[BOTH], seconds[FORWARD], strict=True)]
    return Rounds({BACKWARD if name == BOTH else name: times for name, times in seconds.items()})


def parts(training: Training, batch: LatentBatch, encoder: PretrainedEncoder) -> dict[str, Function]:
    """Encoding, draws, passes of the network, heads, and what follows the backward pass.

    Encoding is not part of a step where latents are cached. The gradient of a step must be in place.
    """
    network, objective, x = training.network, training.objective, batch.latents
    draws = objective.draw(x.shape, StepKey(0, 0, 0), x.device)
    first = draws.num_decode
    own = slice(first, first + draws.num_self_cond)
    z = objective.path.interpolate(x, draws.noise, draws.t)
    gate = (torch.arange(len(batch), device=x.device) < first).float()
    loss_mask = batch.loss_mask.float()
    hidden = torch.randn(*x.shape[:2], network.config.hidden_size, device=x.device, requires_grad=True)

    def forward() -> Tensor:
        with mixed_precision(x.device, training.mixed):
            return network(z, draws.t, draws.guidance, gate, x).sum()  # type: ignore[no-any-return]

    @torch.no_grad()
    def without_gradient() -> None:
        with mixed_precision(x.device, training.mixed):
            prefix = network.prefix(draws.t[own], draws.guidance[own], torch.zeros_like(draws.t[own]))
            for _ in range(2):
                network.estimate(prefix, z[own], x[own])

    def token_head() -> Tensor:
        return token_cross_entropy(network, hidden[:first], batch.input_ids[:first], loss_mask[:first])[0]

    def latent_head() -> Tensor:
        with mixed_precision(x.device, training.mixed):
            return network.latent_head(hidden[first:]).sum()  # type: ignore[no-any-return]

    def encode() -> None:
        with mixed_precision(x.device, training.mixed):
            encoded(encoder, batch)

    def backward(loss: Callable[[], Tensor]) -> Function:
        return lambda: loss().backward()  # type: ignore[no-untyped-call]

    return {
        ENCODE: encode,
        "draws": lambda: objective.draw(x.shape, StepKey(0, 0, 0), x.device),
        "two forward passes without gradient": without_gradient,
        FORWARD: forward,
        BOTH: backward(forward),
        HEAD: backward(token_head),
        "latent head, with gradient": backward(latent_head),
        "clipping": training.clip,
        "optimizer": training.update,
        "average": training.average,
    }
