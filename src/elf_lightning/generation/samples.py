"""Sampled rows as texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from elf_lightning.data import Detokenizer
from elf_lightning.sampling import SampleResult, Trajectory


@dataclass(frozen=True)
class Stage:
    """A text on its way.

    Attributes:
        time: from 0 (noise) to 1 (data).
        text: what the network's estimate decodes to; at time 1, the generated text.
        tokens: (S) the network's ids of it, padding included.
        latents: (S, C) noised latents `z`.
        estimate: (S, C) what the network took the clean latents for, `x_hat`.
    """

    time: float
    text: str
    tokens: list[int]
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

    @property
    def stage_tokens(self) -> list[list[int]]:
        """The ids at each stage, padding included."""
        return [stage.tokens for stage in self.stages]

    def record(self) -> dict[str, Any]:
        """A line of a sample file, in plain types: `index, seed, text, tokens`."""
        return {"index": self.index, "seed": self.seed, "text": self.text, "tokens": self.tokens}


def samples_of(
    result: SampleResult, detokenizer: Detokenizer, pad_id: int, indices: Sequence[int], seed: int
) -> Iterator[Sample]:
    """The rows of a result as samples.

    Args:
        result: what the sampler gave.
        detokenizer: the model's.
        pad_id: the network's id of padding.
        indices: the rows' numbers in the request.
        seed: of the request.
    """
    stages = _stages(result.trajectory, detokenizer) if result.trajectory else [()] * len(result.tokens)
    rows = zip(indices, detokenizer(result.tokens), result.tokens.tolist(), stages, strict=True)
    for index, text, ids, way in rows:
        yield Sample(index, seed, text, [token for token in ids if token != pad_id], way)


def _stages(trajectory: Trajectory, detokenizer: Detokenizer) -> list[tuple[Stage, ...]]:
    """Each row's stages."""
    texts = [detokenizer(tokens) for tokens in trajectory.tokens]
    return [
        tuple(
            Stage(
                time,
                texts[step][row],
                trajectory.tokens[step, row].tolist(),
                trajectory.latents[step, row],
                trajectory.estimates[step, row],
            )
            for step, time in enumerate(trajectory.times)
        )
        for row in range(trajectory.tokens.shape[1])
    ]
