"""What the sampler takes besides a prompt, and what it gives."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Infill:
    """Tokens that a text must have, anywhere in the sequence.

    Attributes:
        mask: (B, S) boolean, True at fixed positions.
        input_ids: (B, S) int64, the fixed tokens; any values elsewhere.
        latents: (B, S, C) their normalised latents; any values elsewhere.
    """

    mask: Tensor
    input_ids: Tensor
    latents: Tensor


@dataclass(frozen=True)
class Step:
    """The state of the sampler after a step.

    Attributes:
        number: of the step, from 0.
        time: the time reached.
        latents: (B, S, C) noised latents `z`.
        estimate: (B, S, C) the network's last estimate of the clean latents, `x_hat`.
        tokens: (B, S) int64, as in `Trajectory`, if this is one of the `trajectory_steps`.
    """

    number: int
    time: float
    latents: Tensor
    estimate: Tensor
    tokens: Tensor | None = None


@dataclass(frozen=True)
class Trajectory:
    """How a text came about, at K steps.

    Attributes:
        times: the K times, rising to 1.
        latents: (K, B, S, C) noised latents `z`.
        estimates: (K, B, S, C) the network's estimates of the clean latents, `x_hat`.
        tokens: (K, B, S) int64, `x_hat` decoded, in the form of `SampleResult.tokens`; at t=1 those tokens.
    """

    times: tuple[float, ...]
    latents: Tensor
    estimates: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class SampleResult:
    """Sampled sequences.

    Attributes:
        tokens: (B, S) int64, without the condition; padding from the first EOS on.
        latents: (B, S, C) float32, the latents at t=1, condition included.
        network_calls: (B,) int64, calls by the solver and by checks of the early exit for each sequence; two
            passes of guidance are one call, and the final decoding is not counted.
        trajectory: how the sequences came about, if requested.
    """

    tokens: Tensor
    latents: Tensor
    network_calls: Tensor
    trajectory: Trajectory | None = None
