"""The objective against recorded steps, and what it promises about modes and draws."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from elf_lightning.batch import LatentBatch
from elf_lightning.checkpoints.official import official_name, to_official
from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork, NetworkConfig, projections
from elf_lightning.objectives import Draws, ELFObjective, StepKey

CPU = torch.device("cpu")


def stub_encoder(ids: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
    """The recording's stand-in for an encoder, already normalised (golden README)."""
    x = embedding[ids]
    return x + 0.5 * (mask / mask.sum(-1, keepdim=True)) @ x


def recorded_step(values: Any, pad_mode: str) -> tuple[LatentBatch, Draws]:
    """The recorded batch and draws, rows sorted into mode order."""
    decode = values["draw/decoder_rows"].bool()
    self_cond = values["draw/use_self_cond"].bool() & ~decode
    order = torch.argsort(torch.where(decode, 0, torch.where(self_cond, 1, 2)), stable=True)
    condition = values["in/cond_seq_mask"].bool()
    drop = values["in/label_drop_mask"].bool()
    mask = values["in/encoder_attention_mask"].bool()
    hidden = drop[:, None, None] & ~condition[:, :, None] & condition[:, None, :]
    latents = stub_encoder(values["in/input_ids"], (mask & ~hidden).float(), values["in/encoder_embedding"])
    attention = values["in/attention_mask"].bool()
    batch = LatentBatch(
        input_ids=values["in/input_ids"],
        attention_mask=attention,
        condition_mask=condition,
        loss_mask=(attention if pad_mode == "pad" else torch.ones_like(attention)) & ~condition,
        label_drop=drop,
        latents=latents,
    ).map(lambda tensor: tensor[order])
    draws = Draws(
        t=values["draw/t"][order],
        noise=values["draw/noise"][order],
        guidance=values["draw/self_cond_cfg_scale"][order],
        decode_mix=values["draw/decoder_lambda"][order],
        decode_noise=values["draw/decoder_noise_unit"][order],
        num_decode=int(decode.sum()),
        num_self_cond=int(self_cond.sum()),
    )
    return batch, draws


def replay(values: Any, objective: ELFObjective, pad_mode: str, network: ELFNetwork) -> None:
    """Losses and every gradient of the recorded step."""
    batch, draws = recorded_step(values, pad_mode)
    network.zero_grad()
    losses = objective(network, batch, draws)
    losses.total.backward()
    assert_close(losses.total, values["out/loss"].squeeze(), atol=1e-5, rtol=1e-4)
    assert_close(losses.denoise, values["out/l2_loss"].squeeze(), atol=1e-5, rtol=1e-4)
    assert_close(losses.decode, values["out/ce_loss"].squeeze(), atol=1e-5, rtol=1e-4)
    recorded = values.group("grad")
    grads = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert {official_name(name) for name in grads} == recorded.keys()
    for name, grad in to_official(grads).items():
        assert_close(
            grad, recorded[name], atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_golden_train_uncond(golden: Callable[[str], Any], golden_network: ELFNetwork) -> None:
    replay(golden("train_uncond"), ELFObjective(decode_noise_scale=5.0), "pad", golden_network)


def test_golden_train_cond(golden: Callable[[str], Any], golden_network: ELFNetwork) -> None:
    replay(golden("train_cond"), ELFObjective(decode_noise_scale=1.0), "eos", golden_network)


@pytest.fixture
def fast_network(golden_network: ELFNetwork, monkeypatch: pytest.MonkeyPatch) -> ELFNetwork:
    """The recorded network, compiled, its token loss taking five positions at a time."""
    torch.compiler.reset()
    monkeypatch.setattr(projections, "CHUNK_LOGITS", 5 * golden_network.vocab_size)
    network = copy.deepcopy(golden_network)
    network.compile(backend="aot_eager")
    return network


def test_golden_train_uncond_compiled_in_chunks(
    golden: Callable[[str], Any], fast_network: ELFNetwork
) -> None:
    replay(golden("train_uncond"), ELFObjective(decode_noise_scale=5.0), "pad", fast_network)


def test_golden_train_cond_compiled_in_chunks(golden: Callable[[str], Any], fast_network: ELFNetwork) -> None:
    replay(golden("train_cond"), ELFObjective(decode_noise_scale=1.0), "eos", fast_network)


def tiny_network() -> ELFNetwork:
    shape = NetworkConfig(hidden_size=32, depth=2, num_heads=2, bottleneck_size=8)
    network = ELFNetwork(shape, 16, 50, 12, generator=torch.Generator().manual_seed(0))
    torch.nn.init.normal_(network.latent_head.linear.weight, std=0.1)
    return network


def tiny_batch(rows: int = 8, length: int = 6, condition: int = 2) -> LatentBatch:
    condition_mask = torch.zeros(rows, length, dtype=torch.bool)
    condition_mask[:, :condition] = True
    return LatentBatch(
        input_ids=torch.randint(50, (rows, length)),
        attention_mask=torch.ones(rows, length, dtype=torch.bool),
        condition_mask=condition_mask,
        loss_mask=~condition_mask,
        label_drop=torch.arange(rows) % 3 == 0,
        latents=torch.randn(rows, length, 16),
    )


def test_equal_keys_equal_draws_and_ranks_differ() -> None:
    objective = ELFObjective()
    one, same, other = (objective.draw((8, 6, 16), StepKey(1, 2, 3, rank), CPU) for rank in (0, 0, 1))
    assert torch.equal(one.noise, same.noise)
    assert torch.equal(one.t, same.t)
    assert not torch.equal(one.noise, other.noise)


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_mode_counts_are_unbiased_and_near_the_mean(rows: int) -> None:
    objective = ELFObjective()
    counts = [objective._mode_counts(rows, StepKey(0, 0, step)) for step in range(2000)]
    decode = torch.tensor([count for count, _ in counts], dtype=torch.float64)
    assert (decode - 0.2 * rows).abs().max() < 1
    assert decode.mean().item() == pytest.approx(0.2 * rows, abs=0.05)
    for num_decode, num_self_cond in counts:
        assert abs(num_self_cond - 0.5 * (rows - num_decode)) < 1


def test_steps_mixing_is_one_coin_for_all_ranks() -> None:
    objective = ELFObjective(mixing="steps")
    by_rank = [
        [objective._mode_counts(4, StepKey(0, 0, step, rank))[0] for step in range(1000)] for rank in (0, 1)
    ]
    assert by_rank[0] == by_rank[1]
    assert set(by_rank[0]) == {0, 4}
    assert sum(by_rank[0]) / 4000 == pytest.approx(0.2, abs=0.04)


def test_devices_mixing_draws_the_mode_of_a_micro_batch_on_each_rank() -> None:
    objective = ELFObjective(mixing="devices")
    by_rank = [
        [objective._mode_counts(4, StepKey(0, 0, step, rank))[0] for step in range(1000)] for rank in (0, 1)
    ]
    both = sum(one == other == 4 for one, other in zip(*by_rank, strict=True))
    assert both / 1000 == pytest.approx(0.04, abs=0.02)
    for counts in by_rank:
        assert set(counts) == {0, 4}
        assert sum(counts) / 4000 == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize("num_decode", [0, 3, 8])
def test_every_parameter_has_a_gradient_however_the_rows_fall(num_decode: int) -> None:
    network, batch, objective = tiny_network(), tiny_batch(), ELFObjective()
    draws = objective.draw(batch.latents.shape, StepKey(0, 0, 0), CPU).with_counts(num_decode, 0)
    objective(network, batch, draws).total.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_batch_known_to_be_unconditional_has_the_same_losses() -> None:
    network, objective = tiny_network(), ELFObjective()
    torch.nn.init.normal_(network.latent_head.linear.weight, std=0.1)
    batch = tiny_batch(condition=0)
    draws = objective.draw(batch.latents.shape, StepKey(0, 0, 0), CPU).with_counts(2, 3)
    first, *others = (
        [*vars(objective(network, replace(batch, **known), draws)).values()]
        for known in ({}, {"unconditional": True}, {"full": True})
    )
    for losses in others:
        assert all(map(torch.equal, first, losses))


def test_a_dropped_condition_cannot_be_seen() -> None:
    network, batch, objective = tiny_network(), tiny_batch(), ELFObjective()
    draws = objective.draw(batch.latents.shape, StepKey(0, 0, 0), CPU)
    changed = batch.latents.clone()
    hidden = batch.condition_mask & batch.label_drop[:, None]
    changed[hidden] += 1
    other = LatentBatch(**(vars(batch) | {"latents": changed}))
    assert torch.equal(objective(network, batch, draws).total, objective(network, other, draws).total)
    changed[batch.condition_mask] += 1
    assert not torch.equal(objective(network, batch, draws).total, objective(network, other, draws).total)


def test_tokens_outside_the_loss_mask_change_nothing() -> None:
    network, batch, objective = tiny_network(), tiny_batch(), ELFObjective()
    draws = objective.draw(batch.latents.shape, StepKey(0, 0, 0), CPU)
    ids = torch.where(batch.loss_mask, batch.input_ids, 0)
    other = LatentBatch(**(vars(batch) | {"input_ids": ids}))
    assert torch.equal(objective(network, batch, draws).total, objective(network, other, draws).total)


def test_evaluate_measures_all_rows_in_both_modes() -> None:
    network, batch, objective = tiny_network(), tiny_batch(), ELFObjective()
    losses = objective.evaluate(
        network, batch, objective.draw(batch.latents.shape, StepKey(0, "validation", 0), CPU)
    )
    positions = batch.loss_mask.sum()
    assert losses.denoise_count == losses.decode_count == positions
    assert losses.total.item() == pytest.approx(0.8 * losses.denoise.item() + 0.2 * losses.decode.item())
    assert losses.decode.item() == pytest.approx(math.log(50), abs=2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"decode_probability": 1.5},
        {"self_cond_probability": -0.1},
        {"decode_noise_scale": -1.0},
        {"mixing": "tokens"},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"objective\."):
        ELFObjective(**wrong)


def test_the_unknown_token_is_never_correct() -> None:
    network, batch, objective = tiny_network(), tiny_batch(condition=0), ELFObjective()
    batch = LatentBatch(**(vars(batch) | {"input_ids": torch.full((8, 6), 7)}))
    torch.nn.init.zeros_(network.token_head.unembed.weight)
    with torch.no_grad():
        network.token_head.unembed.bias[7] = 9.0
    draws = objective.draw(batch.latents.shape, StepKey(0, 0, 0), CPU)
    assert objective.evaluate(network, batch, draws).decode_accuracy == 1
    assert objective.evaluate(network, batch, draws, unknown_id=7).decode_accuracy == 0
