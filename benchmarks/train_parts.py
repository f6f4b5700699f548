"""The parts of the product's training step, each to be timed on its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.batches import encoded
from benchmarks.rounds import Rounds, Way, alternate
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.objectives import StepKey
from elf_lightning.objectives.token_loss import token_cross_entropy

if TYPE_CHECKING:
    from benchmarks.train_step import ProductTraining


ENCODE = "encode"
FORWARD = "forward pass with gradient"
BACKWARD = "its backward pass"
BOTH = f"{FORWARD}, and backward"
HEAD = "token head and loss, with gradient"


def timed_parts(training: ProductTraining, encoder: PretrainedEncoder, rounds: int) -> Rounds:
    """Times of all parts. The backward pass alone is what remains of both without the forward pass."""
    device = training.batch.latents.device
    seconds = alternate(parts(training, encoder), rounds, device).seconds
    both = zip(seconds[BOTH], seconds[FORWARD], strict=True)
    seconds[BOTH] = [whole - forward for whole, forward in both]
    return Rounds({BACKWARD if name == BOTH else name: lasted for name, lasted in seconds.items()})


def parts(training: ProductTraining, encoder: PretrainedEncoder) -> dict[str, Way]:
    """Encoding, draws, the network's passes, heads, backward, and what follows, each with its inputs ready.

    The DataModule encodes; only once, where latents are cached.
    """
    network, batch, objective = training.network, training.batch, training.objective
    x = batch.latents
    draws = objective.draw(x.shape, StepKey(0, 0, 0), x.device)
    first, count = draws.num_decode, draws.num_self_cond
    own = slice(first, first + count)
    z = objective.path.interpolate(x, draws.noise, draws.t)
    gate = (torch.arange(len(batch), device=x.device) < first).float()
    counting = batch.loss_mask.float()
    hidden = torch.randn(*x.shape[:2], network.config.hidden_size, device=x.device, requires_grad=True)

    def main_forward() -> Tensor:
        with training.precision():
            hidden: Tensor = network(z, draws.t, draws.guidance, gate, x)
        return hidden.sum()

    @torch.no_grad()
    def without_gradient() -> None:
        with training.precision():
            for _ in range(2):
                network.denoise(z[own], draws.t[own], draws.guidance[own], x[own])

    def token_head() -> Tensor:
        return token_cross_entropy(network, hidden[:first], batch.input_ids[:first], counting[:first])[0]

    def latent_head() -> Tensor:
        with training.precision():
            x_hat: Tensor = network.latent_head(hidden[first:])
        return x_hat.sum()

    def encode() -> None:
        with training.precision():
            encoded(encoder, batch)

    def backward(loss: Callable[[], Tensor]) -> Way:
        return lambda: loss().backward()  # type: ignore[no-untyped-call]

    return {
        ENCODE: encode,
        "draws": lambda: objective.draw(x.shape, StepKey(0, 0, 0), x.device),
        "two forward passes without gradient": without_gradient,
        FORWARD: main_forward,
        BOTH: backward(main_forward),
        HEAD: backward(token_head),
        "latent head, with gradient": backward(latent_head),
        "clipping": training.clip,
        "optimizer": training.move,
        "average": training.average,
    }
