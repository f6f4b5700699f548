"""The network against recorded outputs, published sizes and its own promises."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import wraps
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from elf_lightning.errors import UserError
from elf_lightning.network import PRESETS, ELFNetwork, NetworkConfig
from elf_lightning.network.blocks import Attention, add_product, rotary_table, rotate

TINY = NetworkConfig(hidden_size=32, depth=4, num_heads=2, bottleneck_size=8)


def tiny_network(shape: NetworkConfig = TINY, seed: int = 0) -> ELFNetwork:
    network = ELFNetwork(shape, 16, 50, 12, generator=torch.Generator().manual_seed(seed))
    torch.nn.init.normal_(network.latent_head.linear.weight, std=0.1)
    return network


def inputs(batch: int = 3, length: int = 12) -> dict[str, torch.Tensor]:
    return {
        "z": torch.randn(batch, length, 16),
        "t": torch.rand(batch),
        "guidance": 1 + torch.rand(batch),
        "decode_gate": torch.tensor([0.0, 1.0, 0.0])[:batch],
        "self_cond": torch.randn(batch, length, 16),
    }


@pytest.mark.parametrize(
    ("preset", "parameters"), [("elf-b", 104_579_940), ("elf-m", 342_540_036), ("elf-l", 652_103_332)]
)
def test_published_sizes(preset: str, parameters: int) -> None:
    with torch.device("meta"):
        network = ELFNetwork(PRESETS[preset], latent_size=512, vocab_size=32_100, max_length=1024)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


CASES = ["denoise", "decode", "mixed", "masked", "no_self_cond"]


def replay(case: str, values: Any, network: ELFNetwork) -> None:
    z, self_cond = values["x"].chunk(2, dim=-1)
    gate = values["decoder_gate"]
    arguments = {
        "z": z,
        "self_cond": self_cond,
        "decode_gate": {"denoise": torch.zeros_like(gate), "decode": torch.ones_like(gate)}.get(case, gate),
        "attention_mask": values["attention_mask"] if case == "masked" else None,
    }
    if case == "no_self_cond":
        arguments |= {
            "z": values["x_no_self_cond"],
            "self_cond": None,
            "decode_gate": torch.zeros_like(gate),
        }
    with torch.no_grad():
        hidden = network(t=values["t"], guidance=values["self_cond_cfg_scale"], **arguments)
        assert_close(network.latent_head(hidden), values[f"{case}_out"], atol=1e-5, rtol=1e-4)
        if f"{case}_logits" in values:
            assert_close(network.token_head(hidden), values[f"{case}_logits"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_golden_network(case: str, golden: Callable[[str], Any], golden_network: ELFNetwork) -> None:
    replay(case, golden("network"), golden_network)


@pytest.mark.slow
def test_golden_network_in_compiled_kernels(golden: Callable[[str], Any], golden_network: ELFNetwork) -> None:
    torch.compiler.reset()
    network = copy.deepcopy(golden_network)
    network.compile()
    for case in CASES:
        replay(case, golden("network"), network)


def test_golden_network_bfloat16_keeps_heads_exact(
    golden: Callable[[str], Any], golden_network: ELFNetwork
) -> None:
    values = golden("network")
    z, self_cond = values["x"].chunk(2, dim=-1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        hidden = golden_network(z, values["t"], values["self_cond_cfg_scale"], torch.zeros(len(z)), self_cond)
        x_hat = golden_network.latent_head(hidden)
        logits = golden_network.token_head(hidden)
    assert x_hat.dtype == logits.dtype == torch.float32
    error = (x_hat - values["denoise_out"]).norm() / values["denoise_out"].norm()
    assert 0 < error < 0.02


def test_both_forms_of_the_rotation_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rotary, x = rotary_table(16, 3, 10), torch.randn(2, 13, 4, 16, requires_grad=True)
    eager = rotate(x, rotary)
    (gradient,) = torch.autograd.grad(eager.square().sum(), x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    compiled = rotate(x, rotary)
    assert_close(compiled, eager)
    assert_close(torch.autograd.grad(compiled.square().sum(), x)[0], gradient)


@pytest.mark.parametrize("length", [1, 5, 12])
def test_any_length_up_to_the_limit(length: int) -> None:
    hidden = tiny_network()(**inputs(length=length))
    assert hidden.shape == (3, length, 32)


def test_longer_rows_are_refused() -> None:
    with pytest.raises(UserError, match="max_length 12"):
        tiny_network()(**inputs(length=13))


def test_checkpointing_changes_nothing_but_memory() -> None:
    plain = tiny_network()
    frugal = tiny_network(NetworkConfig(32, 4, 2, 8, gradient_checkpointing=True))
    frugal.load_state_dict(plain.state_dict())
    batch = inputs()
    for network in (plain, frugal):
        network.latent_head(network(**batch)).square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        if one.grad is None:
            assert other.grad is None, name
        else:
            assert_close(one.grad, other.grad, msg=name)


@torch.no_grad()
def test_products_added_in_place_make_the_same_hidden_states() -> None:
    blocks, table = tiny_network().blocks, tiny_network().rotary
    generator = torch.Generator().manual_seed(0)
    for name, parameter in blocks.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(generator=generator)
    h = torch.randn(2, len(table), 32, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(len(table))[None, None, None] < torch.tensor([3, len(table)])[:, None, None, None]
    for allowed in (None, mask):
        added = blocks.in_place(h.clone(), table, allowed)[:, 3:]
        assert_close(added, blocks(h[:, :3], h[:, 3:], table, allowed))


def test_the_compiler_knows_what_adding_a_product_changes() -> None:
    torch.library.opcheck(add_product, (torch.randn(2, 3, 8), torch.randn(2, 3, 4), torch.randn(8, 4)))


@pytest.mark.parametrize(
    ("training", "dropout", "gradient", "dtype", "expected"),
    [
        (False, 0.1, False, torch.bfloat16, True),
        (True, 0.1, False, torch.bfloat16, False),
        (True, 0.0, False, torch.bfloat16, True),
        (False, 0.0, True, torch.bfloat16, False),
        (False, 0.0, False, torch.float32, False),
    ],
)
def test_products_are_added_in_place_only_without_gradient_and_dropout(
    training: bool, dropout: float, gradient: bool, dtype: torch.dtype, expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("elf_lightning.network.blocks.by_kernel", lambda h: True)
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    blocks = tiny_network(NetworkConfig(32, 4, 2, 8, dropout=dropout)).blocks.train(training)
    with torch.set_grad_enabled(gradient):
        assert blocks._adds_in_place(torch.zeros(1, 1, 32, dtype=dtype)) == expected


@pytest.mark.parametrize(
    ("training", "dropout", "checkpointing", "gradient", "expected"),
    [
        (False, 0.1, False, True, True),
        (True, 0.1, False, True, False),
        (True, 0.0, False, True, True),
        (True, 0.0, False, False, False),
        (True, 0.0, True, True, False),
    ],
)
def test_sums_are_fused_with_norms_only_with_gradient_and_without_dropout_and_checkpointing(
    training: bool, dropout: float, checkpointing: bool, gradient: bool, expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("elf_lightning.network.blocks.by_kernel", lambda h: True)
    config = NetworkConfig(32, 4, 2, 8, dropout=dropout, gradient_checkpointing=checkpointing)
    blocks = tiny_network(config).blocks.train(training)
    with torch.set_grad_enabled(gradient):
        assert blocks._fuses(torch.zeros(1, 1, 32)) == expected


@pytest.mark.parametrize(
    ("length", "gradient", "masked", "expected"),
    [
        (140, True, False, "short"),
        (140, False, False, "short"),
        (140, True, True, "torch"),
        (300, False, False, "long"),
        (300, True, False, "torch"),
        (16, False, False, "long"),
    ],
)
def test_kernels_attend_with_gradient_only_within_short_sequences(
    length: int, gradient: bool, masked: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def kernel(name: str) -> Callable[..., Tensor]:
        return lambda qkv, *_: (used.append(name), qkv[:, :, 2])[1]

    def attend(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None) -> Tensor:
        used.append("torch")
        return v

    long = SimpleNamespace(pays_off=lambda h, heads: True, attention=kernel("long"))
    short = SimpleNamespace(fits=lambda h: 17 <= h.shape[1] <= 192, attend=kernel("short"))
    rotated = SimpleNamespace(norm_and_rotate=lambda x, *_: x.unbind(2))
    stand_ins = {"attention_kernel": long, "short_attention_kernel": short, "kernels": rotated}
    for name, stand_in in {**stand_ins, "by_kernel": lambda h: True}.items():
        monkeypatch.setattr(f"elf_lightning.network.blocks.{name}", stand_in, raising=False)
    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", attend)
    attention, h = Attention(32, 2, dropout=0.0), torch.zeros(1, length, 32)
    mask = torch.ones(1, 1, 1, length, dtype=torch.bool) if masked else None
    with torch.set_grad_enabled(gradient):
        attention.mixed(h, torch.zeros(length, 1, 8, 2), mask)
    assert used == [expected]


def test_first_estimate_is_zero_and_initial_values_repeat() -> None:
    one, other = (ELFNetwork(TINY, 16, 50, 12, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert one.latent_head(one(**inputs())).count_nonzero() == 0


def test_dropout_only_in_the_middle_half() -> None:
    network = tiny_network(NetworkConfig(32, 8, 2, 8, dropout=0.5))
    rates = [block.mlp.dropout.p for block in network.blocks]
    assert rates == [0, 0, 0.5, 0.5, 0.5, 0.5, 0, 0]


def test_without_self_conditioning_or_guidance_tokens() -> None:
    network = tiny_network(NetworkConfig(32, 2, 2, 8, num_guidance_tokens=0, self_conditioning=False))
    names = [name for name, _ in network.named_parameters()]
    assert not any("merge_self_cond" in name or "guidance" in name for name in names)
    batch = inputs()
    changed = batch | {"guidance": batch["guidance"] + 1, "self_cond": batch["self_cond"] + 1}
    assert torch.equal(network(**batch), network(**changed))


@pytest.mark.parametrize(
    "wrong", [{"depth": 0}, {"hidden_size": 30, "num_heads": 4}, {"dropout": 1.0}, {"num_heads": 0}]
)
def test_impossible_shapes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"network\."):
        NetworkConfig(**wrong)


@pytest.mark.parametrize(
    "given", [{}, {"dynamic": True}, {"backend": "eager"}, {"mode": "default"}, {"options": {}}]
)
def test_small_kernels_are_combined_unless_the_compiler_is_chosen(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(
        torch, "compile", wraps(torch.compile)(lambda function, **settings: seen.append(settings))
    )
    ELFNetwork(NetworkConfig(hidden_size=16, depth=1, num_heads=2), 8, 20, 6).compile(**given)
    *graphs, plain = seen
    combined = {} if given.keys() & {"backend", "mode", "options"} else {"combo_kernels": True}
    assert plain.get("options", {}) == combined
    assert all(settings["options"] == {"triton.cudagraphs": True} | combined for settings in graphs)
    assert len(graphs) == (not given.keys() & {"backend", "mode"})
    assert all(
        settings.items() >= {k: v for k, v in given.items() if k != "options"}.items() for settings in seen
    )
