"""Which parameters of a network Muon moves as matrices, and which Adam moves one number at a time."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from elf_lightning.errors import UserError


def split_parameters(network: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """The trainable parameters by name: the matrices (two axes), and all others.

    Biases and norm weights have one axis, learned tokens (1, n, H) have three: they are not matrices.
    """
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    matrices = {name: p for name, p in trainable.items() if p.ndim == 2}
    return matrices, {name: p for name, p in trainable.items() if name not in matrices}


def muon_parameter_groups(network: nn.Module, transposed: Collection[str] = ()) -> list[dict[str, Any]]:
    """Parameter groups for `MuonWithNesterovAdam`; empty groups are left out.

    Args:
        network: any module.
        transposed: names of matrices stored (fan_in, fan_out). All others are read as `nn.Linear` stores
            them, (fan_out, fan_in).

    Raises:
        UserError: a name in `transposed` is no trainable matrix of the network, or the network has nothing
            to train.
    """
    matrices, others = split_parameters(network)
    if unknown := sorted(set(transposed) - set(matrices)):
        raise UserError(f"transposed={unknown}: no such trainable matrices; there are {sorted(matrices)}")
    groups: list[dict[str, Any]] = [
        {
            "params": [p for name, p in matrices.items() if (name in transposed) == flipped],
            "use_muon": True,
            "transposed": flipped,
        }
        for flipped in (False, True)
    ]
    groups.append({"params": list(others.values()), "use_muon": False})
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise UserError("the network has no trainable parameter: nothing for an optimizer to do")
    return groups
