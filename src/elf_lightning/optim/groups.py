"""Which parameters of a network Muon updates as matrices, and which Adam updates elementwise."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from elf_lightning.errors import UserError


def split_parameters(network: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """The trainable parameters by name: the matrices (two axes), and all others.

    Biases and norm weights have one axis, learned tokens (1, n, H) have three.

    Raises:
        UserError: if there is nothing to train.
    """
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if not trainable:
        raise UserError("the network has no trainable parameter; unfreeze at least one")
    matrices = {name: p for name, p in trainable.items() if p.ndim == 2}
    return matrices, {name: p for name, p in trainable.items() if name not in matrices}


def muon_parameter_groups(network: nn.Module, transposed: Collection[str] = ()) -> list[dict[str, Any]]:
    """Parameter groups for `MuonWithNesterovAdam`, without empty ones.

    Args:
        network: any module.
        transposed: names of matrices stored (fan_in, fan_out). All others are (fan_out, fan_in), as in
            `nn.Linear`.

    Raises:
        UserError: a name in `transposed` is not a trainable matrix of the network, or the network has nothing
            to train.
    """
    matrices, others = split_parameters(network)
    if unknown := sorted(set(transposed) - set(matrices)):
        raise UserError(f"transposed={unknown}: not trainable matrices; choose from {sorted(matrices)}")
    groups: list[dict[str, Any]] = [
        {
            "params": [p for name, p in matrices.items() if (name in transposed) == flipped],
            "use_muon": True,
            "transposed": flipped,
        }
        for flipped in (False, True)
    ]
    groups.append({"params": list(others.values()), "use_muon": False})
    return [group for group in groups if group["params"]]
