"""Sampled rows as texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from elf_lightning.data import Detokenizer
from elf_lightning.sampling import SampleResult, Trajectory


@dataclass(frozen=True)
class Stage:
    """A text on its way.

    Attributes:
        time: from 0 (noise) to 1 (data).
        text: what the network's estimate decodes to.
        latents: (S, C) noised latents `z`.
        estimate: (S, C) what the network took the clean latents for, `x_hat`.
    """

    time: float
    text: str
    latents: Tensor
    estimate: Tensor


@dataclass(frozen=True)
class Sample:
    """A generated text.

    Attributes:
        index: its number in the request.
        seed: of the request.
        text: decoded, up to its end.
        tokens: the network's ids, without padding.
        stages: the way there, at the steps that were asked for.
    """

    index: int
    seed: int
    text: str
    tokens: list[int]
    stages: tuple[Stage, ...] = ()


def samples_of(
    result: SampleResult, detokenizer: Detokenizer, pad_id: int, first_index: int, seed: int
) -> Iterator[Sample]:
    """The rows of a result as samples.

    Args:
        result: what the sampler gave for rows numbered from `first_index`.
        detokenizer: the model's.
        pad_id: the network's id of padding.
        first_index: number of the first row in the request.
        seed: of the request.
    """
    stages = _stages(result.trajectory, detokenizer) if result.trajectory else [()] * len(result.tokens)
    rows = zip(detokenizer(result.tokens), result.tokens.tolist(), stages, strict=True)
    for index, (text, ids, way) in enumerate(rows, start=first_index):
        yield Sample(index, seed, text, [token for token in ids if token != pad_id], way)


def _stages(trajectory: Trajectory, detokenizer: Detokenizer) -> list[tuple[Stage, ...]]:
    """Each row's stages."""
    texts = [detokenizer(tokens) for tokens in trajectory.tokens]
    return [
        tuple(
            Stage(time, texts[step][row], trajectory.latents[step, row], trajectory.estimates[step, row])
            for step, time in enumerate(trajectory.times)
        )
        for row in range(trajectory.tokens.shape[1])
    ]
