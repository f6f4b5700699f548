"""The parts of the product's training step, each to be timed on its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from elf_lightning.objectives import StepKey
from elf_lightning.objectives.token_loss import token_cross_entropy

if TYPE_CHECKING:
    from benchmarks.train_step import ProductTraining


def parts(training: ProductTraining) -> dict[str, Callable[[], object]]:
    """Draws, two forward passes without gradient, the pass with gradient, heads, backward, and what follows.

    Encoding is not here: it is the DataModule's, done once where latents are cached.
    """
    network, batch, objective = training.network, training.batch, training.objective
    x = batch.latents
    draws = objective.draw(x.shape, StepKey(0, 0, 0), x.device)
    first, count = draws.num_decode, draws.num_self_cond
    own = slice(first, first + count)
    z = objective.path.interpolate(x, draws.noise, draws.t)
    gate = (torch.arange(len(batch), device=x.device) < first).float()
    counting = batch.loss_mask.float()
    hidden = torch.randn(*x.shape[:2], network.shape.hidden_size, device=x.device, requires_grad=True)

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

    def backward(loss: Callable[[], Tensor]) -> Callable[[], None]:
        return lambda: loss().backward()  # type: ignore[no-untyped-call]

    return {
        "draws": lambda: objective.draw(x.shape, StepKey(0, 0, 0), x.device),
        "two forward passes without gradient": without_gradient,
        "forward pass with gradient": main_forward,
        "the same and backward": backward(main_forward),
        "token head and loss, with gradient": backward(token_head),
        "latent head, with gradient": backward(latent_head),
        "clipping": training.clip,
        "optimizer": training.move,
        "average": training.average,
    }
