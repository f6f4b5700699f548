"""Generated texts, and how they emerged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from elf_lightning.codec import TextCodec
from elf_lightning.sampling import SampleResult, Trajectory


@dataclass(frozen=True)
class Stage:
    """A text at one step of its sampling.

    Attributes:
        time: from 0 (noise) to 1 (data).
        text: the network's estimate, decoded; at time 1, the generated text.
        tokens: (S,) its network ids, padding included.
        latents: (S, C) noised latents `z`.
        estimate: (S, C) the network's estimate of the clean latents, `x_hat`.
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
        tokens: its network ids, without padding.
        stages: the text at the steps that were asked for.
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


def samples_of(result: SampleResult, codec: TextCodec, indices: Sequence[int], seed: int) -> list[Sample]:
    """The sequences of a result as samples.

    Args:
        result: what the sampler returned.
        codec: the model's.
        indices: the sequences' numbers in the request.
        seed: of the request.
    """
    stages = _stages(result.trajectory, codec) if result.trajectory else [()] * len(result.tokens)
    found = zip(indices, codec.decode(result.tokens), result.tokens.tolist(), stages, strict=True)
    return [
        Sample(index, seed, text, [token for token in ids if token != codec.pad_id], own)
        for index, text, ids, own in found
    ]


def _stages(trajectory: Trajectory, codec: TextCodec) -> list[tuple[Stage, ...]]:
    """Each sequence's stages."""
    texts = [codec.decode(tokens) for tokens in trajectory.tokens]
    return [
        tuple(
            Stage(
                time,
                texts[step][number],
                trajectory.tokens[step, number].tolist(),
                trajectory.latents[step, number],
                trajectory.estimates[step, number],
            )
            for step, time in enumerate(trajectory.times)
        )
        for number in range(trajectory.tokens.shape[1])
    ]
