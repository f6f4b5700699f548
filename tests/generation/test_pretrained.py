"""A trained model in three lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from elf_lightning.checkpoints import ModelBundle, load_model, save_official
from elf_lightning.errors import UserError
from elf_lightning.generation.pretrained import ELF
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.sampling import SamplingSettings

SPECIAL = ["[PAD]", "[UNK]", "[SEP]"]
WORDS = ["the", "a", "cat", "dog", "mat", "sat", "on", "under", "and", "lay", ".", "boat", "whale"]
LENGTH, SIZE = 12, 16
KEPT = [*range(len(SPECIAL) + len(WORDS) - 1)]  # all but the whale


def save_encoder(folder: Path, words: list[str], size: int = SIZE) -> str:
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=size,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=LENGTH,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_encoder(tmp_path_factory.mktemp("encoder"), WORDS)


@pytest.fixture
def make_bundle(encoder_folder: str) -> Callable[..., ModelBundle]:
    """A bundle with decoding state, restricted vocabulary included, and a network that says something."""

    def make(**decoding: Any) -> ModelBundle:
        shape = NetworkConfig(hidden_size=32, depth=2, num_heads=2, bottleneck_size=8)
        generator = torch.Generator().manual_seed(1)
        network = ELFNetwork(shape, SIZE, len(KEPT), LENGTH, generator)
        torch.nn.init.normal_(network.latent_head.linear.weight, std=0.3, generator=generator)
        torch.nn.init.normal_(network.token_head.unembed.weight, std=0.5, generator=generator)
        state = {
            "tokenizer": encoder_folder,
            "encoder": {"class": "PretrainedEncoder", "name_or_path": encoder_folder, "layer": None},
            "kept_ids": KEPT,
            "latent_mean": [0.0] * SIZE,
            "latent_std": 0.5,
            "max_length": LENGTH,
            "max_condition_length": None,
            "pad_mode": "pad",
            "pad_id": 0,
            "eos_id": 2,
            "unknown_id": 1,
        }
        return ModelBundle(
            shape=shape,
            latent_size=SIZE,
            vocab_size=len(KEPT),
            max_length=LENGTH,
            weights=network.state_dict(),
            decoding=state | decoding,
            sampling={"steps": 4},
            step=10,
        )

    return make


@pytest.fixture
def model(make_bundle: Callable[..., ModelBundle]) -> ELF:
    return ELF(make_bundle(), "cpu")


@pytest.fixture
def conditional(make_bundle: Callable[..., ModelBundle]) -> ELF:
    return ELF(make_bundle(max_condition_length=4), "cpu")


def test_texts_are_words_and_follow_the_seed(model: ELF) -> None:
    texts = model.generate(num=3, seed=1)
    assert len(texts) == 3
    assert set(" ".join(texts).split()) <= {*WORDS, *SPECIAL}
    assert texts == model.generate(num=3, seed=1, batch_size=1)
    assert texts != model.generate(num=3, seed=2)


def test_compiled_texts_are_the_same(model: ELF, counter: Any) -> None:
    compiled = ELF(model.bundle, "cpu", compile=True)
    assert compiled.generate(3, seed=1) == model.generate(3, seed=1)
    assert counter.frame_count == 1


@pytest.mark.parametrize(("precision", "dtype"), [(None, torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_precision_is_that_of_the_network_alone(
    make_bundle: Callable[..., ModelBundle], precision: str | None, dtype: torch.dtype
) -> None:
    model = ELF(make_bundle(), "cpu", precision=precision)
    seen = []
    qkv = model.network.blocks[0].attention.qkv
    qkv.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    next(model.samples(2, batch_size=1))
    assert set(seen) == {dtype}
    assert not torch.is_autocast_enabled("cpu")  # between two batches


def test_settings_change_for_one_call(model: ELF) -> None:
    plain = model.generate(num=4)
    assert plain != model.generate(num=4, steps=9, solver="heun", guidance=0.5)
    assert plain == model.generate(num=4)


def test_steps_replace_times_of_the_checkpoint(make_bundle: Callable[..., ModelBundle]) -> None:
    model = ELF(replace(make_bundle(), sampling={"times": [0.0, 0.5, 1.0]}), "cpu")
    assert model.sampler().settings.times == [0.0, 0.5, 1.0]
    assert model.sampler(steps=5).settings.times is None


def test_samples_tell_number_seed_and_way(model: ELF) -> None:
    steps: list[int] = []
    samples = list(
        model.samples(
            num=3, seed=5, batch_size=2, trajectory_steps=(0, 3), on_step=lambda s: steps.append(s.number)
        )
    )
    assert [sample.index for sample in samples] == [0, 1, 2]
    assert {sample.seed for sample in samples} == {5}
    assert steps == [0, 1, 2, 3] * 2
    first = samples[0]
    assert [stage.time for stage in first.stages][-1] == 1.0
    assert first.stages[0].latents.shape == first.stages[0].estimate.shape == (LENGTH, SIZE)
    assert 0 not in first.tokens
    assert [len(stage.tokens) for stage in first.stages] == [LENGTH, LENGTH]
    assert [token for token in first.stages[-1].tokens if token != 0] == first.tokens
    assert first.stages[-1].text == first.text
    assert first.record() == {"index": 0, "seed": 5, "text": first.text, "tokens": first.tokens}
    assert [sample.text for sample in samples] == model.generate(num=3, seed=5)


def test_infill_keeps_its_words(model: ELF) -> None:
    texts = model.generate(num=5, infill=["the _ sat on the __ .", "__ cat"])
    assert len(texts) == 10
    for text in texts[:5]:
        words = text.split()
        assert len(words) == 8
        assert [words[0], *words[2:5], words[7]] == ["the", "sat", "on", "the", "."]
    for text in texts[5:]:
        assert text.split()[2:] == ["cat"]


def test_prompt_is_continued(model: ELF) -> None:
    (text,) = model.generate(prompts=["the cat sat"])
    assert text.startswith("the cat sat")


def test_lone_text_is_one_prompt(model: ELF) -> None:
    assert model.generate(prompts="the cat") == model.generate(prompts=["the cat"])


def test_condition_steers_and_is_not_repeated(conditional: ELF) -> None:
    def end(*prompts: str) -> list[torch.Tensor]:
        samples = conditional.samples(prompts=prompts, cfg_scale=2.0, trajectory_steps=[3])
        return [sample.stages[0].estimate[4:] for sample in samples]

    one, two = end("the cat", "the dog sat")
    assert not torch.allclose(one, two, atol=1e-3)
    other_neighbour, _ = end("the cat", "mat")
    torch.testing.assert_close(one, other_neighbour)


def test_class_is_had_from_the_package() -> None:
    import elf_lightning

    assert elf_lightning.ELF is ELF
    with pytest.raises(AttributeError):
        _ = elf_lightning.nothing


def complaint(call: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_requests_that_this_model_cannot_meet(model: ELF, conditional: ELF) -> None:
    assert "num is 0" in complaint(lambda: model.generate(num=0))
    assert "batch_size is 0" in complaint(lambda: model.generate(batch_size=0))
    assert "no setting stepz; known are steps" in complaint(lambda: model.generate(stepz=3))
    assert "sampling.steps is 0" in complaint(lambda: model.generate(steps=0))
    assert "known are ode, sde" in complaint(lambda: model.generate(solver="rk45"))
    assert "cannot go together" in complaint(lambda: model.generate(prompts=["a"], infill=["_"]))
    assert "has 12 tokens; give 1 to 11" in complaint(lambda: model.generate(prompts=["a " * 12]))
    assert "has 0 tokens" in complaint(lambda: model.generate(prompts=[""]))
    assert "has 5 tokens; give 1 to 4" in complaint(lambda: conditional.generate(prompts=["a a a a a"]))
    assert "needs prompts" in complaint(conditional.generate)
    assert "text-to-text; give prompts" in complaint(lambda: conditional.generate(infill=["_ a"]))
    assert "has no blank" in complaint(lambda: model.generate(infill=["the cat"]))
    assert "more than a row of 12" in complaint(lambda: model.generate(infill=["_" * 13]))
    assert "vocabulary has no 'whale'" in complaint(lambda: model.generate(infill=["the whale _"]))
    assert "direction of repetition is not known" in complaint(lambda: model.generate(repetition_control=2.0))


def test_device_that_is_not_there(make_bundle: Callable[..., ModelBundle]) -> None:
    assert "device 'quantum' cannot be used" in complaint(lambda: ELF(make_bundle(), "quantum"))
    assert "device 'meta' cannot be used" in complaint(lambda: ELF(make_bundle(), "meta"))


def test_template_may_fill_its_row(model: ELF) -> None:
    (text,) = model.generate(infill=["the " * 11 + "_"])
    assert text.split()[:11] == ["the"] * 11


def test_repetition_control_once_measured_travels_with_the_model(model: ELF, tmp_path: Path) -> None:
    direction = model.measure_repetition(num=12)
    assert direction.shape == (SIZE,)
    steered = model.generate(num=4, repetition_control=3.0)
    model.save_pretrained(tmp_path)
    assert ELF.from_pretrained(tmp_path, device="cpu").generate(num=4, repetition_control=3.0) == steered


def test_lone_text_to_measure_on_is_one_prompt(conditional: ELF) -> None:
    one = conditional.measure_repetition(24, prompts="the cat")
    assert one.equal(conditional.measure_repetition(24, prompts=["the cat"]))
    assert not one.equal(conditional.measure_repetition(24, prompts=["the cat", "the dog"]))
    assert "needs prompts" in complaint(conditional.measure_repetition)


def test_encoder_of_another_version(make_bundle: Callable[..., ModelBundle]) -> None:
    model = ELF(make_bundle(encoder={"class": "Runes", "name_or_path": "stone"}), "cpu")
    assert "class 'Runes'" in complaint(lambda: model.generate(prompts=["the cat"]))
    model = ELF(make_bundle(encoder={"class": "PretrainedEncoder", "name_or_path": "x", "ink": 1}), "cpu")
    assert "told by name_or_path, ink" in complaint(lambda: model.generate(prompts=["the cat"]))


def test_answers_have_their_own_defaults(make_bundle: Callable[..., ModelBundle]) -> None:
    """Where the checkpoint does not say, as official ones do not."""
    assert ELF(replace(make_bundle(), sampling={}), "cpu").settings == SamplingSettings()
    answering = replace(make_bundle(max_condition_length=4), sampling={})
    assert ELF(answering, "cpu").settings == SamplingSettings.text_to_text()


def test_every_format_gives_the_same_text(model: ELF, tmp_path: Path) -> None:
    bundle = model.bundle
    expected = model.generate(num=3, infill=["the _ sat"])
    model.save_pretrained(tmp_path / "hub")
    state = {f"network.{name}": value for name, value in bundle.weights.items()}
    torch.save({"state_dict": state, "elf": bundle.description()}, tmp_path / "last.ckpt")
    save_official(bundle, tmp_path / "checkpoint_10")
    for source in ("hub", "last.ckpt"):
        assert (
            ELF.from_pretrained(tmp_path / source, device="cpu").generate(num=3, infill=["the _ sat"])
            == expected
        )
    official = replace(
        load_model(tmp_path / "checkpoint_10"),
        decoding=bundle.decoding,
        sampling=bundle.sampling,
        max_length=LENGTH,
    )
    assert ELF(official, "cpu").generate(num=3, infill=["the _ sat"]) == expected


def test_hub_folder_holds_its_tokenizer(
    make_bundle: Callable[..., ModelBundle], tmp_path: Path, encoder_folder: str
) -> None:
    """Text needs nothing but the folder, wherever it is moved; only prompts need the encoder."""
    elsewhere = {"class": "PretrainedEncoder", "name_or_path": str(tmp_path / "gone"), "layer": None}
    model = ELF(make_bundle(encoder=elsewhere), "cpu")
    expected = model.generate(num=2)
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / "moved")
    config = json.loads((tmp_path / "moved" / "config.json").read_text())
    assert config["decoding"]["tokenizer"] == "tokenizer"
    assert config["step"] == 10
    moved = ELF.from_pretrained(tmp_path / "moved", device="cpu")
    assert moved.generate(num=2) == expected
    assert "gone" in complaint(lambda: moved.generate(prompts=["the cat"]))
    moved.save_pretrained(tmp_path / "again")
    assert ELF.from_pretrained(tmp_path / "again", device="cpu").generate(num=2) == expected


def test_push_to_hub_uploads_the_folder(model: ELF, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: list[str] = []

    class Created:
        repo_id = "owner/name"

    def upload(self: HfApi, *, folder_path: Path, **_: Any) -> str:
        uploaded.extend(sorted(path.name for path in folder_path.rglob("*") if path.is_file()))
        return "commit"

    monkeypatch.setattr(HfApi, "create_repo", lambda self, **_: Created)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert model.push_to_hub("owner/name") == "commit"
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(uploaded)


def test_checkpoint_of_another_vocabulary(make_bundle: Callable[..., ModelBundle]) -> None:
    model = ELF(make_bundle(kept_ids=None), "cpu")
    assert "has 16 tokens and does not fit the model, which was trained on 15" in complaint(model.generate)


def test_checkpoint_of_another_encoder(make_bundle: Callable[..., ModelBundle], tmp_path: Path) -> None:
    other = save_encoder(tmp_path, WORDS, size=8)
    encoder = {"class": "PretrainedEncoder", "name_or_path": other, "layer": None}
    model = ELF(make_bundle(encoder=encoder), "cpu")
    assert "latents of size 8" in complaint(lambda: model.generate(prompts=["the cat"]))


def test_checkpoint_that_names_no_tokenizer(make_bundle: Callable[..., ModelBundle]) -> None:
    model = ELF(replace(make_bundle(), decoding={}), "cpu")
    assert "does not say which tokenizer" in complaint(model.generate)


def test_sampling_settings_of_another_version(make_bundle: Callable[..., ModelBundle]) -> None:
    bundle = replace(make_bundle(), sampling={"churn": 1.0})
    assert "churn" in complaint(lambda: ELF(bundle, "cpu"))
