"""`ELF`: load a trained model, generate, save it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi

from elf_lightning.checkpoints import ModelBundle, load_model, save_official
from elf_lightning.generation import ELF
from elf_lightning.sampling import SamplingSettings

SPECIAL = ["[PAD]", "[UNK]", "[SEP]"]
WORDS = ["the", "a", "cat", "dog", "mat", "sat", "on", "under", "and", "lay", ".", "boat", "whale"]
LENGTH, SIZE = 12, 16

Complaint = Callable[[Callable[[], Any]], str]
MakeBundle = Callable[..., ModelBundle]


def with_sampling(bundle: ModelBundle, sampling: SamplingSettings | None) -> ModelBundle:
    return replace(bundle, config=replace(bundle.config, sampling=sampling))


def test_texts_are_words_and_follow_the_seed(model: ELF) -> None:
    texts = model.generate(num=3, seed=1)
    assert len(texts) == 3
    assert set(" ".join(texts).split()) <= {*WORDS, *SPECIAL}
    assert texts == model.generate(num=3, seed=1, batch_size=1)
    assert texts != model.generate(num=3, seed=2)


def test_a_model_shows_its_size_and_where_it_runs(model: ELF) -> None:
    size = model.bundle.num_parameters / 1e6
    assert repr(model) == f"ELF({size:.1f}M parameters, {model.codec.max_length} tokens, cpu, 32-true)"


def test_a_model_is_called_with_prompts(model: ELF) -> None:
    assert model("the cat", num=2, steps=3) == model.generate(2, prompts=["the cat"], steps=3)
    assert model(num=2, seed=1) == model.generate(2, seed=1)


def test_settings_are_in_the_signatures(model: ELF) -> None:
    for method in (model.generate, model.samples, model.measure_repetition):
        parameters = inspect.signature(method).parameters
        assert {"num", "seed", "steps", "gamma", "guidance"} <= parameters.keys()
        assert "settings" not in parameters


def test_a_model_moves(make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elf_lightning.generation.pretrained.usable_device", torch.device)
    model = ELF(make_bundle(), "cpu")
    before = model("the cat")
    assert model.to("meta") is model
    assert (model.device.type, model.network.rotary.device.type) == ("meta", "meta")
    again = ELF(make_bundle(), "cpu").to("cpu")
    assert again("the cat") == before


def test_compiled_texts_are_the_same(model: ELF, counter: Any) -> None:
    compiled = ELF(model.bundle, "cpu", compile=True)
    assert compiled.generate(3, seed=1) == model.generate(3, seed=1)
    assert counter.frame_count == 1


@pytest.mark.parametrize(("precision", "dtype"), [(None, torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_precision_is_that_of_the_network_alone(
    make_bundle: MakeBundle, precision: str | None, dtype: torch.dtype
) -> None:
    model = ELF(make_bundle(), "cpu", precision=precision)
    seen = []
    qkv = model.network.blocks[0].attention.qkv
    qkv.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    next(model.samples(2, batch_size=1))
    assert set(seen) == {dtype}
    assert not torch.is_autocast_enabled("cpu")  # between two batches


def test_settings_change_for_one_call(model: ELF) -> None:
    expected = model.generate(num=4)
    assert expected != model.generate(num=4, steps=9, solver="heun", guidance=0.5)
    assert expected == model.generate(num=4)


def test_steps_replace_times_of_the_checkpoint(make_bundle: MakeBundle) -> None:
    times = SamplingSettings(times=[0.0, 0.5, 1.0])
    model = ELF(with_sampling(make_bundle(), times), "cpu")
    assert model.changed_settings(guidance=1.0).times == [0.0, 0.5, 1.0]
    assert model.changed_settings(steps=5).times is None
    seen: list[float] = []
    list(model.samples(1, on_step=lambda step: seen.append(step.time)))
    assert seen == [0.5, 1.0]


def test_samples_have_their_index_seed_tokens_and_stages(model: ELF) -> None:
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


def test_a_string_is_one_prompt(model: ELF) -> None:
    assert model.generate(prompts="the cat") == model.generate(prompts=["the cat"])


def test_condition_changes_its_own_answer_alone(conditional: ELF) -> None:
    def end(*prompts: str) -> list[torch.Tensor]:
        samples = conditional.samples(prompts=prompts, cfg_scale=2.0, trajectory_steps=[3])
        return [sample.stages[0].estimate[4:] for sample in samples]

    one, two = end("the cat", "the dog sat")
    assert not torch.allclose(one, two, atol=1e-3)
    other_neighbour, _ = end("the cat", "mat")
    torch.testing.assert_close(one, other_neighbour)


def test_class_is_in_the_package() -> None:
    import elf_lightning

    assert elf_lightning.ELF is ELF
    with pytest.raises(AttributeError):
        _ = elf_lightning.nothing


def test_settings_that_cannot_be_used(model: ELF, complaint: Complaint) -> None:
    assert "batch_size is 0" in complaint(lambda: model.generate(batch_size=0))
    assert "no setting stepz; choose from steps" in complaint(lambda: model.generate(stepz=3))
    assert "sampling.steps is 0" in complaint(lambda: model.generate(steps=0))
    assert "known are ode, euler, sde" in complaint(lambda: model.generate(solver="rk45"))
    assert "direction of repetition is not known" in complaint(lambda: model.generate(repetition_control=2.0))


def test_device_that_is_not_there(make_bundle: MakeBundle, complaint: Complaint) -> None:
    assert "device 'quantum' cannot be used" in complaint(lambda: ELF(make_bundle(), "quantum"))
    assert "device 'meta' cannot be used" in complaint(lambda: ELF(make_bundle(), "meta"))


def test_template_may_have_the_models_length(model: ELF) -> None:
    (text,) = model.generate(infill=["the " * 11 + "_"])
    assert text.split()[:11] == ["the"] * 11


def test_measured_repetition_is_saved_with_the_model(model: ELF, tmp_path: Path) -> None:
    direction = model.measure_repetition(num=12)
    assert direction.shape == (SIZE,)
    steered = model.generate(num=4, repetition_control=3.0)
    model.save_pretrained(tmp_path)
    assert ELF.from_pretrained(tmp_path, device="cpu").generate(num=4, repetition_control=3.0) == steered


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"num": 0}, "from 0 trajectories is noise"), ({"batch_size": 0}, "batch_size is 0")],
)
def test_repetition_is_not_measured_on_nothing(
    model: ELF, complaint: Complaint, wrong: dict[str, int], message: str
) -> None:
    assert message in complaint(lambda: model.measure_repetition(**wrong))


def test_a_string_to_measure_repetition_on_is_one_prompt(conditional: ELF, complaint: Complaint) -> None:
    one = conditional.measure_repetition(24, prompts="the cat")
    assert one.equal(conditional.measure_repetition(24, prompts=["the cat"]))
    assert not one.equal(conditional.measure_repetition(24, prompts=["the cat", "the dog"]))
    assert "needs prompts" in complaint(conditional.measure_repetition)


def test_encoder_of_another_version(make_bundle: MakeBundle, complaint: Complaint) -> None:
    model = ELF(make_bundle(encoder={"class": "Runes", "name_or_path": "stone"}), "cpu")
    assert "class 'Runes'" in complaint(lambda: model.generate(prompts=["the cat"]))
    model = ELF(make_bundle(encoder={"class": "PretrainedEncoder", "name_or_path": "x", "ink": 1}), "cpu")
    assert "arguments of the model's encoder, name_or_path, ink" in complaint(
        lambda: model.generate(prompts=["the cat"])
    )


def test_answers_have_their_own_defaults(make_bundle: MakeBundle) -> None:
    """Where the checkpoint has no settings, as official ones have none."""
    assert ELF(with_sampling(make_bundle(), None), "cpu").settings == SamplingSettings()
    answering = with_sampling(make_bundle(max_condition_length=4), None)
    assert ELF(answering, "cpu").settings == SamplingSettings.text_to_text()


def test_every_format_gives_the_same_text(model: ELF, tmp_path: Path) -> None:
    bundle = model.bundle
    expected = model.generate(num=3, infill=["the _ sat"])
    model.save_pretrained(tmp_path / "hub")
    state = {f"network.{name}": value for name, value in bundle.weights.items()}
    torch.save({"state_dict": state, "elf": bundle.config.to_dict()}, tmp_path / "last.ckpt")
    save_official(bundle, tmp_path / "checkpoint_10")
    for source in ("hub", "last.ckpt"):
        assert (
            ELF.from_pretrained(tmp_path / source, device="cpu").generate(num=3, infill=["the _ sat"])
            == expected
        )
    official = load_model(tmp_path / "checkpoint_10")
    assert official.config.network == bundle.config.network
    official = replace(official, config=bundle.config)
    assert ELF(official, "cpu").generate(num=3, infill=["the _ sat"]) == expected


def test_hub_folder_holds_its_tokenizer(
    make_bundle: MakeBundle, tmp_path: Path, encoder_folder: str, complaint: Complaint
) -> None:
    """Wherever the folder is moved, it generates by itself; only prompts need the encoder."""
    elsewhere = {"class": "PretrainedEncoder", "name_or_path": str(tmp_path / "gone"), "layer": None}
    model = ELF(make_bundle(encoder=elsewhere), "cpu")
    expected = model.generate(num=2)
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / "moved")
    config = json.loads((tmp_path / "moved" / "config.json").read_text())
    assert config["codec"]["tokenizer"] == "tokenizer"
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


def test_checkpoint_of_another_vocabulary(make_bundle: MakeBundle, complaint: Complaint) -> None:
    model = ELF(make_bundle(kept_ids=None, unknown_id=None), "cpu")
    assert "has 16 tokens and does not fit the model, which has 15" in complaint(model.generate)


def test_checkpoint_of_another_encoder(
    make_bundle: MakeBundle, save_encoder: Callable[..., str], tmp_path: Path, complaint: Complaint
) -> None:
    other = save_encoder(tmp_path, size=8)
    encoder = {"class": "PretrainedEncoder", "name_or_path": other, "layer": None}
    model = ELF(make_bundle(encoder=encoder), "cpu")
    assert "latents of size 8" in complaint(lambda: model.generate(prompts=["the cat"]))


def test_checkpoint_that_names_no_tokenizer(make_bundle: MakeBundle, complaint: Complaint) -> None:
    bundle = make_bundle()
    model = ELF(replace(bundle, config=replace(bundle.config, codec=None)), "cpu")
    assert "does not say which tokenizer" in complaint(model.generate)
