from __future__ import annotations

import pytest
import torch
from torch import nn

from elf_lightning.errors import UserError
from elf_lightning.optim import muon_parameter_groups, split_parameters


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)
        self.norm = nn.RMSNorm(5)
        self.tokens = nn.Parameter(torch.zeros(1, 4, 5))
        self.kernel = nn.Parameter(torch.zeros(5, 7))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.tied = nn.Linear(3, 5)
        self.tied.weight = self.linear.weight


def test_matrices_are_told_from_vectors_and_tokens() -> None:
    matrices, others = split_parameters(Network())
    assert sorted(matrices) == ["kernel", "linear.weight"]
    assert sorted(others) == ["linear.bias", "norm.weight", "tied.bias", "tokens"]


def test_groups_hold_every_trainable_parameter_once() -> None:
    network = Network()
    matrices, rest = muon_parameter_groups(network)
    assert {id(one) for one in matrices["params"]} == {id(network.linear.weight), id(network.kernel)}
    assert len(matrices["params"]) == 2
    assert matrices["use_muon"] is True
    assert len(rest["params"]) == 4
    assert rest["use_muon"] is False


def test_empty_groups_are_left_out() -> None:
    assert len(muon_parameter_groups(nn.Linear(2, 2, bias=False))) == 1
    assert len(muon_parameter_groups(nn.RMSNorm(3))) == 1


def test_a_frozen_network_is_refused() -> None:
    with pytest.raises(UserError, match=r"^the network has no trainable parameter; .*$"):
        muon_parameter_groups(nn.Linear(2, 2).requires_grad_(False))
