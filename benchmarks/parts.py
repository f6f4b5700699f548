"""The parts of our training step, each timed alone with its inputs ready."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.batches import encoded
from benchmarks.measure import Function, Rounds, alternate
from benchmarks.training import Training, mixed_precision
from elf_lightning.batch import LatentBatch
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.objectives import StepKey
from elf_lightning.objectives.token_loss import token_cross_entropy

ENCODE = "encode"
FORWARD = "forward pass with gradient"
BACKWARD = "its backward pass"
BOTH = f"{FORWARD}, and backward"
HEAD = "token head and loss, with gradient"


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
            for _ in range(2):
                network.denoise(z[own], draws.t[own], draws.guidance[own], x[own])

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
