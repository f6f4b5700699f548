"""The likelihood bound against models whose likelihood is known, and on a small network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from elf_lightning.data import ELFDataModule
from elf_lightning.data.examples import Example
from elf_lightning.errors import UserError
from elf_lightning.evaluation import Likelihood, LikelihoodSettings, PublishedScores, measure_likelihood
from elf_lightning.evaluation.likelihood import Estimate, diffusion_nats, flow_nats
from elf_lightning.generation import TextGenerator
from elf_lightning.training import ELFModule

SCALE = 2.0
VALUES = torch.tensor([-1.0, 1.0])
JOINT = torch.tensor([[0.4, 0.1], [0.2, 0.3]])
"""The two-token language: probability of the first token (rows) followed by the second."""
SEQUENCES = torch.tensor(list(itertools.product(range(2), repeat=2)))


def times(last: float, steps: int) -> list[float]:
    return [last * step / steps for step in range(steps + 1)]


def measured(
    estimate: Estimate, x: Tensor, noise: Tensor, last: float, steps: int, probes: int = 1
) -> Tensor:
    mask, random = torch.ones(x.shape[:2], dtype=torch.bool), torch.Generator().manual_seed(0)
    return flow_nats(estimate, x, noise, mask, SCALE, times(last, steps), probes, random)


def gaussian(covariance: Tensor, mean: Tensor) -> Estimate:
    """The posterior mean of Gaussian data over all positions and channels together."""

    def estimate(z: Tensor, t: float) -> Tensor:
        total = t**2 * covariance + ((1 - t) * SCALE) ** 2 * torch.eye(len(mean), dtype=mean.dtype)
        gain = t * torch.linalg.solve(total, covariance).T
        return (mean + (z.flatten(1) - t * mean) @ gain.T).view(z.shape)

    return estimate


def exact_gaussian_nats(covariance: Tensor, mean: Tensor, x: Tensor, noise: Tensor, t: float) -> Tensor:
    """`log q(z | x) - log p(z)` (B,) in closed form."""
    size, std = len(mean), (1 - t) * SCALE
    z = t * x.flatten(1) + std * noise.flatten(1)
    total = t**2 * covariance + std**2 * torch.eye(size, dtype=mean.dtype)
    prior = torch.distributions.MultivariateNormal(t * mean, total)
    given = torch.distributions.Normal(t * x.flatten(1), std)
    return given.log_prob(z).sum(1) - prior.log_prob(z)


@pytest.mark.parametrize("last", [0.3, 0.6, 0.9])
def test_gaussian_data_has_its_exact_density(last: float) -> None:
    """With a diagonal Jacobian every probe of signs gives the exact trace, so only the steps are in error."""
    random = torch.Generator().manual_seed(1)
    variance = torch.tensor([0.2, 0.5, 1.0, 1.5, 2.0, 3.0], dtype=torch.float64)
    mean = torch.randn(6, generator=random, dtype=torch.float64)
    x = (mean + variance.sqrt() * torch.randn(4, 6, generator=random, dtype=torch.float64)).view(4, 2, 3)
    noise = torch.randn(4, 2, 3, generator=random, dtype=torch.float64)
    covariance = torch.diag(variance)
    exact = exact_gaussian_nats(covariance, mean, x, noise, last)
    errors = [
        ((measured(gaussian(covariance, mean), x, noise, last, steps)[0] - exact).abs().max() / 2).item()
        for steps in (50, 100, 200)
    ]
    assert errors[2] < 1e-3  # nats per token
    # Second order: half the step, a quarter of the error.
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.2)


def test_probes_scatter_around_the_exact_density_of_correlated_data() -> None:
    random = torch.Generator().manual_seed(2)
    factor = torch.randn(6, 6, generator=random, dtype=torch.float64)
    covariance, mean = factor @ factor.T / 6, torch.zeros(6, dtype=torch.float64)
    x, noise = torch.randn(2, 64, 2, 3, generator=random, dtype=torch.float64).unbind()
    exact = exact_gaussian_nats(covariance, mean, x, noise, 0.6)
    found = measured(gaussian(covariance, mean), x, noise, 0.6, steps=40, probes=8)
    assert found.shape == (8, 64)
    error = found.std(0) / 8**0.5
    assert error.min() > 1e-3
    score = (found.mean(0) - exact) / error
    assert abs(score.mean()) < 0.5 and 0.5 < score.std() < 2
    fewer = measured(gaussian(covariance, mean), x, noise, 0.6, steps=10, probes=8).std(0)
    assert fewer.mean() > 1.5 * found.std(0).mean()  # new probes at every step: their errors average out


def test_the_diffusion_bound_of_gaussian_data_is_its_exact_mean() -> None:
    random = torch.Generator().manual_seed(3)
    variance = torch.tensor([0.5, 2.0], dtype=torch.float64)
    mean = torch.zeros(2, dtype=torch.float64)
    x = variance.sqrt() * torch.randn(20_000, 1, 2, generator=random, dtype=torch.float64)
    mask = torch.ones(len(x), 1, dtype=torch.bool)
    found = diffusion_nats(gaussian(torch.diag(variance), mean), x, mask, SCALE, 0.6, 32, random)
    information = (1 + variance * 1.5**2 / SCALE**2).log().sum() / 2  # of z about x
    assert found.mean().item() == pytest.approx(
        information.item(), abs=4 * found.std().item() / len(x) ** 0.5
    )


def posterior(z: Tensor, t: float, joint: Tensor = JOINT) -> Tensor:
    """Log probability (B, 4) of each sequence of the two-token language given noised latents (B, 2, 1)."""
    distance = (z[:, None, :, 0] - t * VALUES[SEQUENCES]).square().sum(-1)
    return (joint.flatten().log() - distance / (2 * ((1 - t) * SCALE) ** 2)).log_softmax(-1)


def two_tokens(joint: Tensor = JOINT) -> Estimate:
    """The posterior mean of the two-token language."""
    return lambda z, t: (posterior(z, t, joint).exp() @ VALUES[SEQUENCES])[..., None]


def decoder_nats(z: Tensor, t: float, joint: Tensor = JOINT) -> Tensor:
    """Nats (B, 4) of each sequence under the best decoder, which chooses every token by itself."""
    probabilities = posterior(z, t, joint).exp().view(-1, 2, 2)
    single = torch.stack([probabilities.sum(2), probabilities.sum(1)], 1).log()
    return -sum(single[:, place, SEQUENCES[:, place]] for place in range(2))


NODES, _weights = np.polynomial.hermite_e.hermegauss(32)
NOISE = torch.cartesian_prod(*[torch.tensor(NODES).float()] * 2)[..., None]
WEIGHTS = torch.tensor(np.outer(_weights, _weights).flatten() / (2 * math.pi))
"""Gauss-Hermite quadrature of the noise of both positions."""


def noised(last: float) -> Tensor:
    """Latents (4, N, 2, 1) of each sequence at the nodes."""
    return last * VALUES[SEQUENCES][:, None, :, None] + (1 - last) * SCALE * NOISE


def model_nats(last: float, joint: Tensor = JOINT) -> Tensor:
    """Exact nats (4,) of each sequence under the model: its flow, then its decoder."""
    nats = decoder_nats(noised(last).flatten(0, 1), last, joint).view(4, -1, 4)
    return -(joint.flatten().double() @ (WEIGHTS[:, None] * (-nats.double()).exp()).sum(1)).log()


def bounds(last: float, joint: Tensor = JOINT, steps: int = 40) -> Tensor:
    """The bound (4,) on each of the four sequences, in nats."""
    found = []
    for number, (sequence, z) in enumerate(zip(SEQUENCES, noised(last), strict=True)):
        x = VALUES[sequence].expand(len(NOISE), 2)[..., None]
        latent = measured(two_tokens(joint), x, NOISE, last, steps, probes=4).mean(0)
        found.append(WEIGHTS @ (latent + decoder_nats(z, last, joint)[:, number].double()))
    return torch.stack(found)


def test_each_text_is_bounded_by_its_exact_likelihood_under_the_model() -> None:
    """Bound and model are both integrals over two dimensions, computed by quadrature."""
    weights = JOINT.flatten().double()
    for last, slack, misfit in ((0.3, 0.0064, 0.0729), (0.6, 0.0197, 0.0143)):
        found, exact = bounds(last), model_nats(last)
        assert (-exact).exp().sum().item() == pytest.approx(1, abs=1e-4)
        assert (found > exact).all()
        assert (weights @ (found - exact)).item() == pytest.approx(slack, abs=0.004)
        assert (weights @ (exact + weights.log())).item() == pytest.approx(misfit, abs=1e-3)


def test_the_bound_holds_for_the_model_itself_where_the_model_is_wrong() -> None:
    wrong = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    found, exact = bounds(0.6, wrong, steps=60), model_nats(0.6, wrong)
    assert (found > exact).all() and (found < exact + 0.005).all()


def test_a_result_has_ratios_and_standard_errors() -> None:
    latent = torch.tensor([[10.0, 20.0], [12.0, 20.0]], dtype=torch.float64)
    found = Likelihood.of(latent, torch.tensor([1.0, 2.0]).double(), torch.tensor([4.0, 8.0]).double())
    assert found.nats_per_token == pytest.approx(34 / 12)
    assert found.decoder_nats == pytest.approx(3 / 12)
    assert found.probe_error_nats == pytest.approx(2 / 12 / 2)  # 30 and 32 nats over 12 tokens
    off = 12 - 34 / 12 * 4
    assert found.text_error_nats == pytest.approx((2 * 2 * off**2) ** 0.5 / 12)
    assert (found.num_texts, found.num_tokens) == (2, 12)
    assert found.perplexity == pytest.approx(math.exp(34 / 12))
    single = Likelihood.of(latent[:1, :1], torch.tensor([1.0]), torch.tensor([4.0]))
    assert math.isnan(single.text_error_nats) and math.isnan(single.probe_error_nats)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"last_time": 1.0}, "last_time is 1.0; give a time between 0 and 1"),
        ({"steps": 0}, "steps is 0; give at least 1"),
        ({"probes": 0}, "probes is 0; give at least 1"),
        ({"bound": "difusion"}, "bound is difusion; choose flow or diffusion"),
        ({"guidance": -1.0}, "guidance is -1.0; it must be 0 or more"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=rf"evaluation\.likelihood\.{message}"):
        LikelihoodSettings(**settings)


# A small network


@pytest.fixture
def generator(small: Any, data: ELFDataModule, tiny_scoring_model: str) -> TextGenerator:
    data.prepare_data()
    return generator_of(small.make_model(data, tiny_scoring_model), data)


def generator_of(model: ELFModule, data: ELFDataModule) -> TextGenerator:
    return TextGenerator(model.network, replace(model.config, codec=data.codec), nullcontext)


def examples_of(data: ELFDataModule, indices: Sequence[int]) -> list[Example]:
    return data.preparation.examples("validation").read(indices)


@pytest.mark.parametrize("bound", ["flow", "diffusion"])
@pytest.mark.parametrize("self_cond", [False, True])
def test_padding_that_is_not_learned_changes_nothing(
    generator: TextGenerator, bound: Any, self_cond: bool
) -> None:
    """A sequence of pad mode `pad` is measured given its length."""
    settings = LikelihoodSettings(steps=2, bound=bound, self_cond=self_cond, batch_size=1)
    text = "in the beginning"
    alone = measure_likelihood(generator, [text], settings)
    assert alone.num_tokens < generator.codec.max_length
    codec = generator.codec
    other = replace(codec, pad_id=codec.pad_id + 7)  # another id fills
    filled = replace(generator, config=replace(generator.config, codec=other))
    assert measure_likelihood(filled, [text], settings).nats_per_token == pytest.approx(
        alone.nats_per_token, rel=1e-5
    )


def test_a_text_is_measured_as_its_sequence(generator: TextGenerator) -> None:
    settings, codec = LikelihoodSettings(steps=1), generator.codec
    example = Example(np.array([*codec.encode("in the beginning"), codec.eos_id]))
    found = measure_likelihood(generator, ["in the beginning"] * 2, settings)
    assert found == measure_likelihood(generator, [example] * 2, settings)
    with pytest.raises(UserError, match="no texts to measure; give at least one"):
        measure_likelihood(generator, [], settings)


def test_nothing_of_the_model_changes(generator: TextGenerator, data: ELFDataModule) -> None:
    generator.network.train()
    before = {name: value.clone() for name, value in generator.network.state_dict().items()}
    with torch.inference_mode():  # as in Lightning's tests
        measure_likelihood(generator, examples_of(data, range(4)), LikelihoodSettings(steps=1))
    assert generator.network.training
    assert all(weight.grad is None for weight in generator.network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in generator.network.state_dict().items())


def test_the_same_seed_gives_the_same_number_and_probes_alone_differ(
    generator: TextGenerator, data: ELFDataModule
) -> None:
    settings, texts = LikelihoodSettings(steps=2, probes=4), examples_of(data, range(4))
    found = measure_likelihood(generator, texts, settings)
    assert found == measure_likelihood(generator, texts, settings)
    assert found != measure_likelihood(generator, texts, replace(settings, seed=1))
    assert found.probe_error_nats > 0 and found.text_error_nats > 0
    diffusion = measure_likelihood(generator, texts, replace(settings, bound="diffusion"))
    assert math.isnan(diffusion.probe_error_nats)
    assert diffusion.decoder_nats == pytest.approx(found.decoder_nats)


def test_the_condition_is_given_and_the_eos_that_fills_is_modelled(
    small: Any, tmp_path: Path, tiny_t5: str
) -> None:
    data = small.make_data(tmp_path, tiny_t5, paired=True)
    data.prepare_data()
    generator = generator_of(small.make_model(data, "no scoring model"), data)
    texts, settings = examples_of(data, range(3)), LikelihoodSettings(steps=2, last_time=0.1)
    batch = data.collate(texts)
    found = measure_likelihood(generator, texts, settings)
    real = batch.attention_mask & ~batch.condition_mask
    assert found.num_tokens == int(real.sum()) < int((~batch.condition_mask).sum())
    # Latents depend on the condition, which is not counted.
    torch.nn.init.normal_(generator.network.latent_head.linear.weight, std=0.1)
    before = measure_likelihood(generator, texts, settings)
    other = [replace(one, condition_input_ids=one.condition_input_ids[::-1].copy()) for one in texts]
    after = measure_likelihood(generator, other, settings)
    assert before.num_tokens == after.num_tokens
    latents = [one.nats_per_token - one.decoder_nats for one in (before, after)]
    assert latents[0] != pytest.approx(latents[1])
    # A network with zero heads says nothing: uniform tokens, also at the positions that EOS fills.
    torch.nn.init.zeros_(generator.network.token_head.unembed.weight)
    torch.nn.init.zeros_(generator.network.token_head.unembed.bias)
    torch.nn.init.zeros_(generator.network.latent_head.linear.weight)
    torch.nn.init.zeros_(generator.network.latent_head.linear.bias)
    uniform = measure_likelihood(generator, texts, settings)
    positions = int((~batch.condition_mask).sum())
    assert uniform.nats_per_token == pytest.approx(
        positions * math.log(generator.config.vocab_size) / found.num_tokens, rel=1e-5
    )


def test_an_evaluation_writes_and_shows_it(
    evaluate: Callable[..., None],
    read: Callable[[str], list[dict[str, Any]]],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = LikelihoodSettings(num_texts=2, steps=1, probes=2)
    evaluate(likelihood=settings, published=PublishedScores("a paper", {"gen_ppl": 24.1}))
    names = {"nats_per_token", "ppl_bound", "decoder_nats", "text_error_nats", "probe_error_nats"}
    rows = read("metrics.jsonl")
    assert [row["kind"] for row in rows] == ["real", "shuffled", "sampled"]
    for row in rows:
        assert row["metrics"].keys() >= names
        assert row["metrics"]["nats_per_token"]["mean"] > 0
        assert row["measured"]["likelihood"]["steps"] == 1
    shown = capsys.readouterr().out
    assert shown.count(" published: a paper") == 1, "not in the table of bounds, of which it has none"
    assert f"NLL bound: {settings.short_name}" in " ".join(shown.split())
    page = (folder / "report.html").read_text()
    assert "NLL bound, nats/token" in page and settings.short_name in page
    evaluate()
    assert len(read("metrics.jsonl")) == 6  # other numbers are asked for
    assert "NLL bound" not in capsys.readouterr().out


def test_the_references_of_a_condition_have_a_row(
    small: Any, tmp_path: Path, tiny_t5: str, folder: Path, read: Callable[[str], list[dict[str, Any]]]
) -> None:
    data = small.make_data(tmp_path, tiny_t5, paired=True)
    settings = LikelihoodSettings(num_texts=2, steps=1)
    model = small.make_model(data, "none", num_samples=4, seeds=[0], likelihood=settings)
    small.make_trainer(folder).test(model, datamodule=data, verbose=False)
    rows = {row["name"]: row["metrics"] for row in read("metrics.jsonl")}
    assert [*rows][:3] == ["the references", "the source, copied", "the references, shuffled"]
    assert rows["the references"]["bleu"]["mean"] == pytest.approx(100)
    assert all(row["nats_per_token"]["mean"] > 0 for row in rows.values())
