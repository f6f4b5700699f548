"""`TextGenerator`: requests to texts, alone or on the ranks of a Trainer, with repetition controlled."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from elf_lightning import ELF
from elf_lightning.callbacks import SampleLogger
from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.errors import UserError
from elf_lightning.generation import Request, Sample, TextGenerator
from elf_lightning.network import NetworkConfig
from elf_lightning.sampling import SamplingSettings
from elf_lightning.training import ELFModule

RANKS = "elf_lightning.generation.generator.rank_and_world_size"
GATHERED = "elf_lightning.generation.generator.gathered"
WORDS = "in the beginning god created heaven and earth now was without form darkness upon face of deep"
CONTROLLED = SamplingSettings(steps=3, repetition_control=3.0)
REQUESTS = [Request(index) for index in range(80)]


@pytest.fixture
def generator(model: ELF) -> TextGenerator:
    """A generator whose own settings control repetition."""
    return replace(model.generator, config=replace(model.bundle.config, sampling=CONTROLLED))


@pytest.fixture
def on_rank(monkeypatch: pytest.MonkeyPatch, generator: TextGenerator) -> Callable[..., TextGenerator]:
    """Makes the generator of one of several ranks, which has measured nothing."""

    def make(rank: int, world_size: int) -> TextGenerator:
        monkeypatch.setattr(RANKS, lambda: (rank, world_size))
        return replace(generator, distributed=True, _measured={})

    return make


# Batches


def test_a_batch_holds_what_the_requests_give(model: ELF) -> None:
    ids = model.codec.encode("the cat sat")
    requests = [Request(4), Request(7, fixed=dict(enumerate(ids))), Request(9, condition=ids[:2])]
    prompt, infill = model.generator.batch(requests)
    assert prompt.index.tolist() == [4, 7, 9]
    assert prompt.condition_mask.sum(1).tolist() == [0, 0, 2]
    assert prompt.latents[2, :2].abs().sum() > 0
    assert not prompt.latents[~prompt.condition_mask].any()
    assert infill is not None
    assert infill.mask.sum(1).tolist() == [0, 3, 0]
    assert infill.input_ids[1, :3].tolist() == model.codec.vocabulary.to_network(torch.tensor(ids)).tolist()
    assert infill.latents[1, :3].abs().sum(1).min() > 0


def test_a_batch_without_fixed_tokens_has_no_infill(model: ELF) -> None:
    prompt, infill = model.generator.batch([Request(0), Request(1)])
    assert infill is None
    assert not prompt.latents.any()


def test_a_text_follows_from_its_seed_and_number(model: ELF) -> None:
    def texts(indices: list[int], batch_size: int) -> dict[int, str]:
        batches = model.generator.generate([Request(i) for i in indices], seed=3, batch_size=batch_size)
        return {sample.index: sample.text for sample in chain(*batches)}

    expected = texts([0, 1, 2, 3, 4], batch_size=5)
    assert len(set(expected.values())) > 1
    assert texts([0, 1, 2, 3, 4], batch_size=2) == expected
    assert texts([3, 1], batch_size=1) == {3: expected[3], 1: expected[1]}


def drawn(model: ELF, indices: list[int], batch_size: int = 5, **settings: Any) -> list[Sample]:
    chosen = model.changed_settings(**settings)
    requests = [Request(i) for i in indices]
    return list(chain(*model.generator.generate(requests, 3, chosen, batch_size=batch_size)))


def test_the_most_certain_candidate_is_kept(model: ELF) -> None:
    """The first candidate is the text without choice; the others do not depend on their number."""
    sampler = model.generator.sampler(model.changed_settings(best_of=3))
    prompt, _ = model.generator.batch(REQUESTS[:16])
    results = [sampler.sample(prompt, 3, candidate=number) for number in range(3)]
    texts = [model.codec.decode(result.tokens) for result in results]
    assert texts[0] == model.generate(16, seed=3)
    certainty = torch.stack([result.certainty for result in results if result.certainty is not None])
    for count in (2, 3):
        best, chosen = certainty[:count].max(dim=0)
        assert len(set(chosen.tolist())) > 1
        found = drawn(model, [*range(16)], batch_size=16, best_of=count)
        assert [one.text for one in found] == [texts[c][i] for i, c in enumerate(chosen.tolist())]
        torch.testing.assert_close(torch.tensor([one.certainty for one in found]), best)
    assert all(one.certainty is None for one in drawn(model, [0]))


def test_an_empty_candidate_loses(model: ELF, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the decoder is certain that the text ends at once."""
    sampler = model.generator.sampler(model.changed_settings(best_of=2))
    (prompt, _), pad = model.generator.batch([Request(0)]), model.codec.pad_id
    monkeypatch.setattr(type(sampler), "_tokens", lambda *_: torch.full((1, 12), pad))
    assert sampler.sample(prompt, 3).certainty.item() == -torch.inf  # type: ignore[union-attr]


def test_a_choice_among_candidates_does_not_depend_on_the_batch(model: ELF) -> None:
    texts = {one.index: one.text for one in drawn(model, [*range(5)], best_of=4)}
    for one in drawn(model, [4, 1, 2], batch_size=2, best_of=4):
        assert one.text == texts[one.index]


def test_the_stages_are_those_of_the_chosen_candidate(model: ELF) -> None:
    for one in model.samples(4, seed=3, best_of=4, trajectory_steps=[0, model.settings.num_steps - 1]):
        assert len(one.stages) == 2
        assert one.stages[-1].text == one.text


def test_given_tokens_do_not_count_in_the_choice(model: ELF) -> None:
    """With one token left open, the certainty is its own log-probability."""
    template = "the cat sat on the mat and the dog lay _ ."
    (one,) = model.samples(infill=[template], seed=3, best_of=3)
    prompt, infill = model.generator.batch(model.requests(1, None, [template]))
    assert infill is not None
    assert one.certainty is not None
    sampler = model.generator.sampler(model.changed_settings(best_of=3))
    found = [sampler.sample(prompt, 3, infill, candidate=number) for number in range(3)]
    assert one.certainty == pytest.approx(max(float(result.certainty) for result in found))  # type: ignore[arg-type]


def test_all_batches_of_a_compiled_generator_share_its_graph(model: ELF, counter: Any) -> None:
    compiled = replace(model.generator, compile=True)
    batches = list(compiled.generate(REQUESTS[:6], seed=0, batch_size=2))
    assert [sample.text for sample in chain(*batches)] == model.generate(6)
    assert counter.frame_count == 1


# Ranks


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_texts(model: ELF, monkeypatch: pytest.MonkeyPatch, world_size: int) -> None:
    """Each makes as many calls of `gathered`, since it waits for the others in it."""
    alone = list(chain(*model.generator.generate(REQUESTS[:7], seed=0)))
    monkeypatch.setattr(GATHERED, lambda items: items)
    of_ranks = []
    for rank in range(world_size):
        monkeypatch.setattr(RANKS, lambda rank=rank: (rank, world_size))
        one = replace(model.generator, distributed=True)
        of_ranks.append(list(one.generate(REQUESTS[:7], seed=0, batch_size=2)))
    assert len({len(batches) for batches in of_ranks}) == 1
    assert max(len(batch) for batches in of_ranks for batch in batches) == 2
    together = sorted(
        (sample for batches in of_ranks for sample in chain(*batches)), key=lambda one: one.index
    )
    assert together == alone


def test_every_rank_gets_all_texts_in_order(model: ELF, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = list(chain(*model.generator.generate(REQUESTS[:4], seed=0)))
    monkeypatch.setattr(RANKS, lambda: (1, 2))
    monkeypatch.setattr(GATHERED, lambda items: [*items, *alone[::2]])
    one = replace(model.generator, distributed=True)
    assert list(one.generate(REQUESTS[:4], seed=0, batch_size=2)) == [alone]


def test_one_rank_generates_without_the_others(
    generator: TextGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not `distributed` waits for no other rank."""
    monkeypatch.setattr(GATHERED, None)
    monkeypatch.setattr(RANKS, None)
    generator.measure_repetition(REQUESTS)
    ((sample,),) = generator.generate([Request(3)], 0, CONTROLLED, trajectory_steps=[0, 2])
    assert len(sample.stages) == 2


# Repetition


def test_repetition_is_measured_once_for_each_sampling_configuration(generator: TextGenerator) -> None:
    configurations = [CONTROLLED, replace(CONTROLLED, repetition_control=1.5), replace(CONTROLLED, steps=2)]
    measured = []
    for settings in configurations:
        measured.append(generator.needs_measuring(settings))
        if measured[-1]:
            generator.measure_repetition(REQUESTS, settings)
    assert measured == [True, False, True]
    assert not generator.needs_measuring()  # its own settings are the first
    assert not generator.needs_measuring(SamplingSettings())
    first, weaker, other = map(generator.sampler, configurations)
    assert first.repetition_direction is weaker.repetition_direction
    assert first.repetition_direction is not None and other.repetition_direction is not None
    assert not first.repetition_direction.equal(other.repetition_direction)
    assert [one.settings for one in (first, weaker, other)] == configurations


def test_a_direction_that_is_given_serves_all_settings(generator: TextGenerator) -> None:
    direction = torch.nn.functional.normalize(torch.ones(16), dim=0)
    given = replace(generator, repetition_direction=direction)
    for settings in (CONTROLLED, replace(CONTROLLED, steps=2)):
        assert not given.needs_measuring(settings)
        assert given.sampler(settings).repetition_direction is direction


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_find_the_direction_of_one(
    generator: TextGenerator,
    on_rank: Callable[..., TextGenerator],
    monkeypatch: pytest.MonkeyPatch,
    world_size: int,
) -> None:
    alone = generator.measure_repetition(REQUESTS)
    parts: list[Any] = []

    def gather(items: list[Any]) -> list[Any]:
        parts.append(items)
        return [item for part in parts for item in part]

    monkeypatch.setattr(GATHERED, gather)
    found = None
    for rank in range(world_size):
        one = on_rank(rank, world_size)
        try:
            found = one.measure_repetition(REQUESTS)
        except UserError:  # the first ranks see too little alone
            continue
    assert found is not None
    assert sum(map(len, parts)) == len(REQUESTS)
    torch.testing.assert_close(found, alone)


def test_nothing_is_sampled_for_no_requests(
    generator: TextGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted evaluation needs no preparation for texts that it has already."""
    monkeypatch.setattr(TextGenerator, "sampler", None)
    assert list(generator.generate([], seed=0)) == []


def test_settings_that_control_repetition_are_refused_in_training(generator: TextGenerator) -> None:
    for settings in (None, replace(CONTROLLED, steps=2)):
        with pytest.raises(UserError, match="direction of repetition changes during training"):
            generator.check(settings)
    generator.check(SamplingSettings())


# In a Trainer


@pytest.fixture
def data(tmp_path: Path, tiny_t5: str) -> ELFDataModule:
    draw = random.Random(0)
    lines = [" ".join(draw.choices(WORDS.split(), k=11)) for _ in range(20)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    return ELFDataModule(
        TextFiles(str(tmp_path / "lines.txt"), document="line", validation_fraction=0.2),
        PretrainedEncoder(tiny_t5),
        max_length=12,
        batch_size=4,
        num_predict_samples=5,
        cache_dir=str(tmp_path / "cache"),
    )


@pytest.fixture
def make_module(data: ELFDataModule) -> Callable[..., ELFModule]:
    """Makes a module that gives various texts without training."""

    def make(sampling: SamplingSettings, **network: Any) -> ELFModule:
        module = ELFModule.for_data(data, network=NetworkConfig(16, 2, 2, 8, **network), sampling=sampling)
        generator = torch.Generator().manual_seed(1)
        torch.nn.init.normal_(module.network.latent_head.linear.weight, std=0.3, generator=generator)
        torch.nn.init.normal_(module.network.token_head.unembed.weight, std=0.5, generator=generator)
        return module

    return make


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_steps=2,
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def texts(batches: Any) -> list[str]:
    return [record["text"] for batch in batches for record in batch]


def test_prediction_measures_repetition_first(
    make_module: Callable[..., ELFModule], data: ELFDataModule, trainer: Trainer
) -> None:
    steered = texts(trainer.predict(make_module(CONTROLLED), datamodule=data))
    assert len(steered) == 5
    assert steered == texts(trainer.predict(make_module(CONTROLLED), datamodule=data))
    unsteered = replace(CONTROLLED, repetition_control=0.0)
    assert steered != texts(trainer.predict(make_module(unsteered), datamodule=data))


def test_prediction_gives_the_texts_of_the_saved_model(
    make_module: Callable[..., ELFModule], data: ELFDataModule, trainer: Trainer, tmp_path: Path
) -> None:
    predicted = texts(trainer.predict(make_module(SamplingSettings(steps=3)), datamodule=data))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    model = ELF.from_pretrained(tmp_path / "last.ckpt", device="cpu")
    assert model.generate(5, seed=trainer.lightning_module.seed) == predicted


def test_control_while_training_is_refused_before_the_first_step(
    make_module: Callable[..., ELFModule], data: ELFDataModule, trainer: Trainer
) -> None:
    for callback in (SampleLogger(every_n_steps=1), SampleLogger(every_n_steps=1, settings=CONTROLLED)):
        module = make_module(CONTROLLED if callback.settings is None else SamplingSettings(steps=2))
        trainer.callbacks = [callback]  # type: ignore[attr-defined]
        with pytest.raises(UserError, match="direction of repetition changes during training"):
            trainer.fit(module, datamodule=data)
        assert module.global_step == 0


def test_a_network_without_self_conditioning_is_refused_before_measuring(
    make_module: Callable[..., ELFModule], data: ELFDataModule, trainer: Trainer
) -> None:
    module = make_module(CONTROLLED, self_conditioning=False)
    with pytest.raises(UserError, match="no self-conditioning to steer"):
        trainer.predict(module, datamodule=data)


def test_evaluation_with_and_without_control(
    make_module: Callable[..., ELFModule],
    data: ELFDataModule,
    trainer: Trainer,
    tmp_path: Path,
    tiny_scoring_model: str,
) -> None:
    from elf_lightning.evaluation import EvaluationSettings
    from elf_lightning.metrics import ScoringModelSettings

    module = make_module(replace(CONTROLLED, repetition_control=0.0))
    scoring_model = ScoringModelSettings(tiny_scoring_model, context_length=32)
    module.evaluation = EvaluationSettings(
        sweep={"repetition_control": [0, 3]}, num_samples=4, seeds=[0], scoring_model=scoring_model
    )
    trainer.test(module, datamodule=data, verbose=False)
    lines = (tmp_path / "samples.jsonl").read_text().splitlines()
    generated: dict[str, list[str]] = {}
    for record in map(json.loads, lines):
        generated.setdefault(record["setting"], []).append(record["text"])
    unsteered, steered = generated.values()
    assert list(generated)[1].endswith("repetition control 3")
    assert unsteered != steered
