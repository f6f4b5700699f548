"""An upper bound on the negative log-likelihood of texts, in nats per token (docs/likelihood.md)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from elf_lightning.batch import LatentBatch
from elf_lightning.data.examples import Collate, Example
from elf_lightning.errors import UserError
from elf_lightning.evaluation.settings import LikelihoodSettings
from elf_lightning.flow import KnownLatents, seeded_generator
from elf_lightning.generation import TextGenerator
from elf_lightning.metrics.perplexity import LIKELIHOOD_NUMBERS
from elf_lightning.network.projections import full_precision

Estimate = Callable[[Tensor, float], Tensor]
"""`x_hat` (B, S, C) of noised latents (B, S, C) and a time, and of nothing else."""


@dataclass(frozen=True)
class Likelihood:
    """The bound over several texts, an upper bound in expectation."""

    nats_per_token: float  # all nats over all real tokens
    decoder_nats: float  # the decoder's part of it
    text_error_nats: float  # its standard error, from the differences between texts; NaN for one text
    probe_error_nats: float  # the same from the differences between probes; NaN for one probe
    num_texts: int
    num_tokens: int  # real tokens, conditions and padding left out

    @classmethod
    def of(cls, latent_nats: Tensor, decoder_nats: Tensor, num_tokens: Tensor) -> Self:
        """The result for (P, B) nats by probe and text, (B,) nats of the decoder and (B,) tokens."""
        tokens, texts = num_tokens.sum(), len(num_tokens)
        nats = latent_nats.mean(0) + decoder_nats
        rate = nats.sum() / tokens
        by_probe = latent_nats.sum(1) / tokens
        spread = (nats - rate * num_tokens).square().sum() * texts / (texts - 1) if texts > 1 else math.nan
        return cls(
            nats_per_token=float(rate),
            decoder_nats=float(decoder_nats.sum() / tokens),
            text_error_nats=float(spread**0.5 / tokens),
            probe_error_nats=float(by_probe.std() / len(by_probe) ** 0.5) if len(by_probe) > 1 else math.nan,
            num_texts=texts,
            num_tokens=int(tokens),
        )

    @property
    def perplexity(self) -> float:
        """`exp` of the nats per token, an upper bound on the perplexity."""
        return math.exp(min(self.nats_per_token, 700.0))

    def numbers(self) -> dict[str, float]:
        """The numbers of a table, by the names of `LIKELIHOOD_NUMBERS`."""
        numbers = vars(self) | {"ppl_bound": self.perplexity}
        return {number.name: numbers[number.name] for number in LIKELIHOOD_NUMBERS}


def measure_likelihood(
    generator: TextGenerator, texts: Sequence[str] | Sequence[Example], settings: LikelihoodSettings
) -> Likelihood:
    """The bound on the likelihood of texts under a model, the same on all its ranks.

    In pad mode `pad`, sequences are measured without their padding, given their lengths; in pad mode `eos`,
    the padding belongs to the text. If the generator is `distributed`, each rank gives a part of the texts.
    Examples in the tokenizer's ids are for text-to-text, and for sequences that are not one text.

    Raises:
        UserError: if there are no texts, or for guidance that the network cannot take.
    """
    network, codec = generator.network, generator.codec
    if settings.guidance != 1 and not network.config.num_guidance_tokens:
        raise UserError(
            f"evaluation.likelihood.guidance is {settings.guidance}, but the network has no guidance tokens; "
            "set it to 1"
        )
    rank, world_size = generator.ranks
    size, training = settings.batch_size, network.training
    fill = codec.tokenizer_id(codec.eos_id if codec.pad_mode == "eos" else codec.pad_id)
    collate = Collate(codec.max_length, fill, codec.pad_mode, codec.max_condition_length)
    examples = [
        Example(np.array(codec.sequence(one, codec.max_length))) if isinstance(one, str) else one
        for one in texts
    ]
    network.eval()
    found: list[tuple[list[float], float, int]] = []
    try:
        for start in range(0, len(examples), size):
            batch = collate(examples[start : start + size])
            number = start * world_size + rank
            random = seeded_generator("likelihood", settings.seed, number, device=generator.device)
            with torch.no_grad(), generator.precision():
                embedded = codec.embedder.tokens(batch.to(generator.device))
            ids = codec.vocabulary.to_network(embedded.input_ids)
            embedded = replace(embedded, input_ids=ids, latents=embedded.latents.float())
            # Lightning tests in inference mode, whose tensors have no derivatives.
            with torch.inference_mode(False), full_precision(embedded.latents):
                latent, decoder = _nats(generator, embedded.map(torch.clone), settings, random)
            tokens = (batch.attention_mask & ~batch.condition_mask).sum(1)
            found += zip(latent.T.tolist(), decoder.tolist(), tokens.tolist(), strict=True)
    finally:
        network.train(training)
    found = generator.gathered(found)
    if not found:
        raise UserError("evaluation.likelihood: there are no texts to measure; give at least one")
    columns = [torch.tensor(column, dtype=torch.float64) for column in zip(*found, strict=True)]
    return Likelihood.of(columns[0].T, columns[1], columns[2])


def _nats(
    generator: TextGenerator, batch: LatentBatch, settings: LikelihoodSettings, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Nats of the latents (P, B) and of the tokens given them (B,)."""
    network, path, t, x = generator.network, generator.config.path, settings.last_time, batch.latents
    # Padding with EOS is text; sequences with a BOS have no padding.
    padding_is_text = generator.codec.pad_mode == "eos" and not generator.codec.bos_eos
    seen = batch.attention_mask | padding_is_text
    modelled, clean = seen & ~batch.condition_mask, KnownLatents(x, batch.condition_mask, batch.unconditional)

    def estimate(z: Tensor, t: float) -> Tensor:
        z, times = clean.restore(z), z.new_full(z.shape[:1], t)
        guidance, x_hat = torch.full_like(times, settings.guidance), torch.zeros_like(z)
        for _ in range(1 + (settings.self_cond and network.config.self_conditioning)):
            x_hat = network.denoise(z, times, guidance, clean.restore(x_hat), seen)
        return x_hat

    if settings.reconstructed:
        with torch.no_grad():
            x = estimate(x, 1.0)
    noise = torch.randn(x.shape, generator=random, device=x.device)
    if settings.bound == "flow":
        times = [t * step / settings.steps for step in range(settings.steps + 1)]
        latent = flow_nats(estimate, x, noise, modelled, path.noise_scale, times, settings.probes, random)
    else:
        latent = diffusion_nats(estimate, x, modelled, path.noise_scale, t, settings.steps, random)[None]
    with torch.no_grad():
        z, gate = clean.restore(path.interpolate(x, noise, x.new_full(x.shape[:1], t))), x.new_ones(len(x))
        hidden = network(z, gate, gate * settings.guidance, gate, torch.zeros_like(z), seen)
        losses = [
            F.cross_entropy(network.token_head(one[kept]).double(), tokens[kept], reduction="sum")
            for one, tokens, kept in zip(hidden, batch.input_ids, modelled, strict=True)
        ]
    return latent, torch.stack(losses)


def flow_nats(
    estimate: Estimate,
    x: Tensor,
    noise: Tensor,
    modelled: Tensor,
    noise_scale: float,
    times: Sequence[float],
    probes: int,
    generator: torch.Generator,
) -> Tensor:
    """`log q(z | x) - log p(z)` for `z` noised from `x`, by the probability flow: nats (P, B) for each probe.

    With `r = t / (1 - t)` and `y = z / (1 - t)` the flow is `dy/dr = x_hat`, and the density of `y` changes
    by the trace of `d x_hat / dy` alone. Heun steps, the trace by the trapezoidal rule.

    Args:
        estimate: of the clean latents.
        x: (B, S, C) clean latents.
        noise: (B, S, C) standard normal.
        modelled: (B, S) boolean, False at positions that are conditions or padding.
        noise_scale: standard deviation of the noise at t=0.
        times: rising, from 0 to that of `z`.
        probes: random signs for each trace (Hutchinson).
        generator: draws the signs.
    """
    place = modelled[..., None]
    knots = [t / (1 - t) for t in reversed(times)]
    y = (knots[0] * x + noise_scale * noise) * place
    trace = x.new_zeros(probes, len(x), dtype=torch.float64)

    def slope(y: Tensor, r: float) -> Tensor:
        return estimate(y / (1 + r), r / (1 + r)) * place

    def slope_and_traces(y: Tensor, r: float) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            x_hat, traces = slope(y, r), []
            for probe in range(probes):
                signs = torch.randint(0, 2, x.shape, generator=generator, device=x.device) * 2.0 - 1
                (product,) = torch.autograd.grad(x_hat, y, signs, retain_graph=probe < probes - 1)
                traces.append((product * signs * place).double().sum((1, 2)))
        return x_hat.detach(), torch.stack(traces)

    velocity, change = slope_and_traces(y, knots[0])
    for r, r_next in pairwise(knots):
        step = r_next - r
        with torch.no_grad():
            y = y + step / 2 * (velocity + slope(y + step * velocity, r_next))
        last_change = change
        velocity, change = slope_and_traces(y, r_next)
        trace = trace - step / 2 * (last_change + change)
    start = (y / noise_scale).double().square().sum((1, 2))
    end = (noise * place).double().square().sum((1, 2))
    return (start - end) / 2 + trace


@torch.no_grad()
def diffusion_nats(
    estimate: Estimate,
    x: Tensor,
    modelled: Tensor,
    noise_scale: float,
    last_time: float,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """The variational bound on the same difference where latents follow the reverse SDE: nats (B,), unbiased.

    The integral over r of `|x_hat - x|^2 r / noise_scale^2`, at one random time in each of `steps` equal
    parts (Kingma et al. 2021, arXiv 2107.00630, in the signal-to-noise ratio `r^2 / noise_scale^2`).
    Arguments as in `flow_nats`.
    """
    place, end = modelled[..., None], last_time / (1 - last_time)
    total = x.new_zeros(len(x), dtype=torch.float64)
    for step in range(steps):
        r = float((step + torch.rand((), generator=generator, device=x.device)) / steps) * end
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        error = (estimate((r * x + noise_scale * noise) / (1 + r), r / (1 + r)) - x) * place
        total += error.double().square().sum((1, 2)) * (r / noise_scale**2 * end / steps)
    return total
