"""Latents to tokens, and tokens to texts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from elf_lightning.network import ELFNetwork, NetworkConfig, projections
from elf_lightning.sampling import SamplingSettings
from elf_lightning.sampling.decode import certainty, choose_tokens, decode_tokens, end_at_eos, shift_left

EOS, PAD = 1, 0


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_everything_from_the_first_eos_on_is_padding() -> None:
    tokens = torch.tensor([[5, EOS, 6, EOS], [EOS, 5, 5, 5], [5, 6, 7, 8]])
    expected = torch.tensor([[5, PAD, PAD, PAD], [PAD, PAD, PAD, PAD], [5, 6, 7, 8]])
    assert torch.equal(end_at_eos(tokens, EOS, PAD), expected)


def test_sequences_lose_their_own_condition() -> None:
    tokens = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 8], [5, 6, 7, 8]])
    expected = torch.tensor([[5, 6, 7, 8], [6, 7, 8, PAD], [8, PAD, PAD, PAD]])
    assert torch.equal(shift_left(tokens, torch.tensor([0, 1, 3]), PAD), expected)


def test_temperature_draws_in_proportion() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(20_000, 3)
    drawn = choose_tokens(logits, SamplingSettings(temperature=2.0), rng())
    fractions = torch.bincount(drawn, minlength=3) / len(drawn)
    torch.testing.assert_close(fractions, torch.softmax(logits[0] / 2, 0), atol=0.01, rtol=0)


def test_top_k_draws_among_the_best_in_proportion() -> None:
    logits = torch.tensor([2.0, -1.0, 1.0, 0.5]).expand(20_000, 4)
    drawn = choose_tokens(logits, SamplingSettings(temperature=1.0, top_k=2), rng())
    fractions = torch.bincount(drawn, minlength=4) / len(drawn)
    expected = torch.softmax(torch.tensor([2.0, -torch.inf, 1.0, -torch.inf]), 0)
    torch.testing.assert_close(fractions, expected, atol=0.01, rtol=0)


def test_top_k_may_exceed_the_vocabulary() -> None:
    settings = SamplingSettings(temperature=1.0, top_k=100)
    assert choose_tokens(torch.zeros(5, 3), settings, rng()).max() < 3


def test_low_temperature_is_argmax() -> None:
    logits = torch.randn(50, 9)
    assert torch.equal(choose_tokens(logits, SamplingSettings(temperature=1e-4), rng()), logits.argmax(-1))


@torch.no_grad()
def test_long_sequences_are_decoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections, "CHUNK_LOGITS", 300 * 30)
    shape = NetworkConfig(hidden_size=16, depth=1, num_heads=2, bottleneck_size=4)
    network = ELFNetwork(shape, latent_size=8, vocab_size=30, max_length=600, generator=rng())
    latents = torch.randn(2, 600, 8)
    largest: list[int] = []
    network.token_head.register_forward_hook(lambda module, given, out: largest.append(out.numel()))
    settings, generators, from_start = SamplingSettings(guidance=3.0), [rng(), rng()], torch.zeros(2)
    tokens = decode_tokens(network, latents, settings, generators)
    assert torch.equal(tokens, decode_tokens(network, latents, settings, generators, open_until=from_start))
    assert max(largest) <= 300 * 30
    assert torch.equal(tokens, network.decode_tokens(latents, torch.full((2,), 3.0)))


@torch.no_grad()
def test_a_sequence_does_not_end_before_it_may(make_network: Callable[..., ELFNetwork]) -> None:
    network = make_network()
    network.token_head.unembed.bias[EOS], network.token_head.unembed.bias[PAD] = 100.0, 99.0
    tokens = decode_tokens(
        network, torch.randn(2, 12, 16), SamplingSettings(), [rng(), rng()], [EOS, PAD], torch.tensor([3, 0])
    )
    assert (tokens[0, :3] > EOS).all(), "neither the end nor padding"
    assert (tokens[0, 3:] == EOS).all()
    assert (tokens[1] == EOS).all()


@torch.no_grad()
def test_certainty_is_the_mean_log_probability_of_counted_tokens() -> None:
    shape = NetworkConfig(hidden_size=16, depth=1, num_heads=2, bottleneck_size=4)
    network = ELFNetwork(shape, latent_size=8, vocab_size=30, max_length=5, generator=rng())
    latents, tokens = torch.randn(3, 5, 8, generator=rng()), torch.randint(30, (3, 5), generator=rng())
    counted = torch.tensor([[True] * 5, [False, True, False, True, False], [False] * 5])
    found = certainty(network, latents, 2.0, tokens, counted)
    ones = torch.ones(3)
    hidden = network(latents, ones, 2 * ones, ones, torch.zeros_like(latents))
    nll = torch.nn.functional.cross_entropy(network.token_head(hidden).mT, tokens, reduction="none")
    expected = [-nll[0].mean(), -nll[1][counted[1]].mean(), torch.tensor(-torch.inf)]
    torch.testing.assert_close(found, torch.stack(expected))
