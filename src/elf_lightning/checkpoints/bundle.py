"""A model in any format: configuration and weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from elf_lightning.checkpoints.config import ELFConfig
from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork

MAX_LISTED = 5

StorageDtype = Literal["float32", "bfloat16", "int8"]


@dataclass(frozen=True)
class ModelBundle:
    """Everything needed to sample from a trained model.

    Attributes:
        config: the model's description.
        weights: the network's state dict.
        repetition_direction: (C,) for repetition control, if measured.
        dtype: of the weights in a Hub folder; None keeps theirs, `int8` is for matrices only.

    Raises:
        UserError: if the weights do not fit the configuration.
    """

    config: ELFConfig
    weights: Mapping[str, Tensor]
    repetition_direction: Tensor | None = None
    dtype: StorageDtype | None = None

    def __post_init__(self) -> None:
        with torch.device("meta"):
            expected = self.config.build_network().state_dict()
        check_weights(self.weights, expected)

    @property
    def num_parameters(self) -> int:
        """Number of parameters."""
        return sum(value.numel() for value in self.weights.values())

    def network(self) -> ELFNetwork:
        """A network with these weights, in evaluation mode."""
        network = self.config.build_network()
        network.load_state_dict(self.weights)
        return network.eval()


def check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compare names and shapes of weights with the expected ones.

    Raises:
        UserError: if there are missing, extra or differently shaped entries.
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
        raise UserError(
            f"the weights do not fit the network: {found}; use the configuration they were trained with"
        )


def _listed(what: str, names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
    return f"{len(found)} {what}: {', '.join(found[:MAX_LISTED])}{more}" if found else ""
