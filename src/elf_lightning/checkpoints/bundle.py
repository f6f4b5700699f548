"""A model as every format holds it: weights, sizes, and what turns latents into text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from elf_lightning.checkpoints.decoding import check_decoding
from elf_lightning.errors import UserError
from elf_lightning.flow import LogitNormal, RectifiedPath
from elf_lightning.network import ELFNetwork, NetworkShape

_LISTED = 5


@dataclass(frozen=True)
class ModelBundle:
    """Everything that sampling needs of a trained model.

    Attributes:
        shape: width, depth and the like.
        latent_size: C.
        vocab_size: V.
        max_length: longest row, S.
        weights: the network's state dict.
        decoding: the DataModule's decoding state (tokenizer, encoder, normalisation, special ids); empty
            where the file does not say.
        sampling: default `SamplingSettings` as plain values.
        path: the path it was trained on.
        times: the training distribution of times.
        step: optimizer steps behind the weights.
        repetition_direction: (C,) for the repetition control, if it was measured.

    Raises:
        UserError: if the weights are not those of a network of these sizes; it lists what is missing, what
            is extra and what has another shape.
    """

    shape: NetworkShape
    latent_size: int
    vocab_size: int
    max_length: int
    weights: Mapping[str, Tensor]
    decoding: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    path: RectifiedPath = RectifiedPath()
    times: LogitNormal = LogitNormal()
    step: int = 0
    repetition_direction: Tensor | None = None

    def __post_init__(self) -> None:
        with torch.device("meta"):
            expected = self._empty_network().state_dict()
        check_weights(self.weights, expected)

    def network(self) -> ELFNetwork:
        """A network with these weights, in evaluation mode."""
        network = self._empty_network()
        network.load_state_dict(self.weights)
        return network.eval()

    def description(self) -> dict[str, Any]:
        """All but the tensors, in plain types; `described` reads it."""
        sizes = {
            "latent_size": self.latent_size,
            "vocab_size": self.vocab_size,
            "max_length": self.max_length,
        }
        return {
            "network": asdict(self.shape) | sizes,
            "path": asdict(self.path),
            "times": asdict(self.times),
            "sampling": dict(self.sampling),
            "decoding": dict(self.decoding),
            "step": self.step,
        }

    @classmethod
    def described(
        cls,
        description: Mapping[str, Any],
        weights: Mapping[str, Tensor],
        repetition_direction: Tensor | None = None,
    ) -> Self:
        """The bundle of a `description` and its tensors.

        Raises:
            UserError: if the description lacks an entry, has an unknown one, or does not fit the weights.
        """
        try:
            network = dict(description["network"])
            sizes = {name: network.pop(name) for name in ("latent_size", "vocab_size", "max_length")}
            decoding = dict(description["decoding"])
            check_decoding(decoding, sizes["latent_size"], sizes["vocab_size"])
            return cls(
                shape=NetworkShape(**network),
                **sizes,
                weights=weights,
                decoding=decoding,
                sampling=description["sampling"],
                path=RectifiedPath(**description["path"]),
                times=LogitNormal(**description["times"]),
                step=description["step"],
                repetition_direction=repetition_direction,
            )
        except KeyError as error:
            raise UserError(f"the model's description has no entry {error}; is the file complete?") from error
        except (TypeError, ValueError) as error:
            raise UserError(
                f"the model's description does not fit this version of elf_lightning ({error}); "
                "use the version that wrote it"
            ) from error

    def _empty_network(self) -> ELFNetwork:
        return ELFNetwork(self.shape, self.latent_size, self.vocab_size, self.max_length)


def check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not exactly the expected ones.

    Raises:
        UserError: one line that lists missing, extra and differently shaped entries.
    """
    misshapen = (
        f"{name} {tuple(weights[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in weights and weights[name].shape != expected[name].shape
    )
    problems = [
        _listed("missing", (name for name in expected if name not in weights)),
        _listed("extra", (name for name in weights if name not in expected)),
        _listed("of another shape", misshapen),
    ]
    if found := "; ".join(problem for problem in problems if problem):
        raise UserError(f"the weights do not fit the network: {found}")


def _listed(what: str, names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return f"{len(found)} {what}: {', '.join(found[:_LISTED])}{more}" if found else ""
