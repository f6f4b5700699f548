from __future__ import annotations

from typing import Any

import jsonargparse
import pytest
import torch
from torch import nn

from elf_lightning.errors import UserError
from elf_lightning.optim import AdamWSettings, MuonSettings, MuonWithNesterovAdam, OptimizerSettings, Schedule


class Owner:
    """Takes its settings as a module does."""

    def __init__(self, optimizer: OptimizerSettings, schedule: Schedule) -> None:
        self.optimizer = optimizer
        self.schedule = schedule


def parse(*arguments: str) -> Owner:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Owner, "model")
    owner: Owner = parser.instantiate(parser.parse_args(arguments)).model
    return owner


def test_settings_are_read_from_a_configuration() -> None:
    owner = parse(
        "--model.optimizer={class_path: MuonSettings, init_args: {base_learning_rate: 0.002, momentum: 0.9}}",
        "--model.optimizer.newton_schulz_dtype=bfloat16",
        "--model.schedule.warmup_epochs=0.5",
    )
    assert owner.optimizer == MuonSettings(
        base_learning_rate=0.002, momentum=0.9, newton_schulz_dtype="bfloat16"
    )
    assert owner.schedule == Schedule(warmup_epochs=0.5)
    assert parse(
        "--model.optimizer=AdamWSettings", "--model.optimizer.weight_decay=0.1"
    ).optimizer == AdamWSettings(weight_decay=0.1)


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(jsonargparse.ArgumentError, match="Lion"):
        parse("--model.optimizer=Lion")


def test_muon_is_built_as_told() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    settings = MuonSettings(
        momentum=0.9, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1, newton_schulz_dtype="bfloat16"
    )
    optimizer = settings.build(network, 0.003)
    matrices, vectors = optimizer.param_groups
    assert isinstance(optimizer, MuonWithNesterovAdam)
    assert optimizer.newton_schulz_dtype == torch.bfloat16
    assert optimizer.sharded is False
    assert (matrices["lr"], matrices["momentum"], matrices["weight_decay"]) == (0.003, 0.9, 0.1)
    assert (vectors["lr"], vectors["betas"], vectors["eps"]) == (0.003, (0.8, 0.99), 1e-6)
    assert vectors["weight_decay"] == 0


def test_adamw_decays_only_matrices() -> None:
    optimizer = AdamWSettings(weight_decay=0.1).build(nn.Linear(3, 4), 0.003)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert [group["lr"] for group in optimizer.param_groups] == [0.003, 0.003]


@pytest.mark.parametrize("settings", [MuonSettings(), AdamWSettings()])
def test_a_frozen_network_is_refused(settings: OptimizerSettings) -> None:
    with pytest.raises(UserError, match="no trainable parameter"):
        settings.build(nn.Linear(2, 2).requires_grad_(False), 0.1)


@pytest.mark.parametrize("settings", [MuonSettings(), AdamWSettings()])
@pytest.mark.parametrize("bare", [nn.Linear(2, 2, bias=False), nn.RMSNorm(2)])
def test_a_network_of_one_kind_of_parameter_is_trained(settings: OptimizerSettings, bare: nn.Module) -> None:
    before = [p.detach().clone() for p in bare.parameters()]
    optimizer = settings.build(bare, 0.1)
    bare(torch.ones(1, 2)).square().sum().backward()
    optimizer.step()
    assert not any(torch.equal(p, old) for p, old in zip(bare.parameters(), before, strict=True))


@pytest.mark.parametrize("kind", [MuonSettings, AdamWSettings])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_learning_rate", 0.0),
        ("base_learning_rate", -1e-3),
        ("base_learning_rate", float("nan")),
        ("eps", 0.0),
        ("weight_decay", -0.1),
    ],
)
def test_bad_numbers_are_refused_in_one_line(kind: Any, name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^{name}={value}: give .*$"):
        kind(**{name: value})


def test_bad_muon_settings_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^momentum=1\.0: .*$"):
        MuonSettings(momentum=1.0)
    with pytest.raises(UserError, match=r"^betas=1\.5: .*$"):
        MuonSettings(betas=(0.9, 1.5))
    with pytest.raises(UserError, match=r"^newton_schulz_dtype='float16': .*$"):
        MuonSettings(newton_schulz_dtype="float16")  # type: ignore[arg-type]
