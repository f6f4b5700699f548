"""Generated texts and their trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from elf_lightning.codec import TextCodec
from elf_lightning.sampling import SampleResult, Trajectory


@dataclass(frozen=True)
class Stage:
    """A text at one step of sampling.

    Attributes:
        time: from 0 (noise) to 1 (data).
        text: decoded from the network's estimate; at time 1, the generated text.
        tokens: (S,) network ids, including padding.
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
        index: of the request.
        seed: of the random draws.
        text: the decoded text, up to EOS.
        tokens: network ids, without padding.
        stages: the text at the requested steps.
    """

    index: int
    seed: int
    text: str
    tokens: list[int]
    stages: tuple[Stage, ...] = ()

    @property
    def stage_tokens(self) -> list[list[int]]:
        """The ids at each stage, including padding."""
        return [stage.tokens for stage in self.stages]

    def record(self) -> dict[str, Any]:
        """A line of a sample file: `index, seed, text, tokens`."""
        return {"index": self.index, "seed": self.seed, "text": self.text, "tokens": self.tokens}


def samples_of(result: SampleResult, codec: TextCodec, indices: Sequence[int], seed: int) -> list[Sample]:
    """The sequences of a result as samples.

    Args:
        result: from the sampler.
        codec: of the model.
        indices: of the requests.
        seed: of the random draws.
    """
    stages = _stages(result.trajectory, codec) if result.trajectory else [()] * len(result.tokens)
    columns = zip(indices, codec.decode(result.tokens), result.tokens.tolist(), stages, strict=True)
    return [
        Sample(index, seed, text, [token for token in ids if token != codec.pad_id], path)
        for index, text, ids, path in columns
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
