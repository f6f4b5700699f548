"""Sequences of GPT-2 tokens between BOS and EOS of one id, from the corpus to texts and their likelihood."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import GPT2Model

from elf_lightning.cli import main
from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.errors import UserError
from elf_lightning.evaluation import LikelihoodSettings, ReferenceTexts, measure_likelihood
from elf_lightning.generation import TextGenerator
from elf_lightning.generation.requests import requests_from_user
from elf_lightning.network import NetworkConfig
from elf_lightning.sampling import SamplingSettings
from elf_lightning.training import ELFModule

EOS = 0
"""`<|endoftext|>` of the tiny tokenizer."""
LINES = [f"the thing in the inn {number}" for number in range(40)]
CONF = Path(__file__).parents[2] / "conf" / "elf_105m_gpt2.yaml"


@pytest.fixture
def data(tiny_gpt2: str, tmp_path: Path) -> ELFDataModule:
    """Prepared as configured, but for the corpus and the length of sequences, 16."""
    settings = yaml.safe_load(CONF.read_text())["data"]
    (tmp_path / "lines.txt").write_text("\n".join(LINES))
    source = TextFiles(str(tmp_path / "lines.txt"), document="line", validation_fraction=0.25)
    kept = {name: settings[name] for name in ("packing", "pad_mode", "latent_mean", "latent_std")}
    data = ELFDataModule(
        source, PretrainedEncoder(tiny_gpt2), max_length=16, batch_size=4, cache_dir=str(tmp_path), **kept
    )
    data.prepare_data()
    return data


@pytest.fixture
def generator(data: ELFDataModule) -> TextGenerator:
    network = NetworkConfig(hidden_size=16, depth=2, num_heads=2, bottleneck_size=8)
    model = ELFModule.for_data(data, network=network, sampling=SamplingSettings(steps=2))
    return TextGenerator(model.network, replace(model.config, codec=data.codec), nullcontext)


def test_a_sequence_is_bos_then_the_stream_then_eos(data: ELFDataModule) -> None:
    examples = data.preparation.examples("train")
    ids = [example.input_ids.tolist() for example in examples.read(range(len(examples)))]
    assert all(len(one) == 16 and one[0] == one[-1] == EOS for one in ids)
    assert examples.lengths().tolist() == [16] * len(examples)
    inner = [token for one in ids for token in one[1:-1]]
    assert EOS in inner  # where a document ends
    stream = [token for line in LINES[:30] for token in [*data.tokenizer(line)["input_ids"], EOS]]
    assert inner == stream[: len(inner)]
    assert len(stream) - len(inner) < 14
    batch = next(iter(data.train_dataloader()))
    assert batch.loss_mask.all() and batch.attention_mask.all()


def test_a_latent_is_the_last_hidden_state_under_the_causal_mask(data: ELFDataModule, tiny_gpt2: str) -> None:
    batch = data.collate(data.preparation.examples("train").read([0, 1]))
    latents = data.on_after_batch_transfer(batch, 0).latents
    with torch.no_grad():
        hidden = GPT2Model.from_pretrained(tiny_gpt2).eval()(batch.input_ids).last_hidden_state
    torch.testing.assert_close(latents, (hidden + 0.009134) / 0.925011, atol=1e-5, rtol=1e-4)
    changed = replace(batch, input_ids=batch.input_ids.index_fill(1, torch.tensor([9]), 7))
    after = data.on_after_batch_transfer(changed, 0).latents
    assert torch.equal(latents[:, :9], after[:, :9]) and not torch.allclose(latents[:, 9:], after[:, 9:])


def test_a_text_does_not_end_at_its_first_eos(
    data: ELFDataModule, generator: TextGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    the = data.tokenizer("the")["input_ids"][0]
    decoded = torch.tensor([[EOS, the, the, EOS, *[the] * 11, EOS]])
    monkeypatch.setattr(
        "elf_lightning.sampling.decode.decode_tokens", lambda *_: decoded.repeat(len(_[1]), 1)
    )
    ((sample,),) = generator.generate(requests_from_user(data.codec, 1), seed=0)
    assert sample.text == "the" * 13
    exiting = SamplingSettings(steps=8, early_exit_margin=1e-9)
    ((early,),) = generator.generate(requests_from_user(data.codec, 1), seed=0, settings=exiting)
    assert early.text == sample.text
    real = ReferenceTexts(data).targets([0])[0]
    assert len(data.codec.encode(real)) >= 10  # whole, not what precedes the first EOS


def test_a_prompt_follows_bos_and_a_template_is_refused(data: ELFDataModule) -> None:
    codec = data.codec
    (request,) = requests_from_user(codec, 1, prompts=["the inn"])
    assert request.fixed == dict(enumerate([EOS, *codec.encode("the inn")]))
    with pytest.raises(UserError, match="has 40 tokens; give 1 to 14 for this model"):
        requests_from_user(codec, 1, prompts=["x" * 40])
    with pytest.raises(UserError, match="infill needs a model whose texts end with EOS"):
        requests_from_user(codec, 1, infill=["the _"])


def test_the_codec_survives_a_checkpoint_and_tells_its_sequences_apart(data: ELFDataModule) -> None:
    codec = type(data.codec).from_dict(data.codec.to_dict())
    assert codec.bos_eos
    assert codec.sequence("the", 16) == [EOS, *codec.encode("the"), EOS]
    assert len(codec.sequence("x" * 40, 16)) == 16
    with pytest.raises(UserError, match=r"data\.packing: bos_eos True \(here False\)"):
        codec.check_compatible(replace(codec, bos_eos=False))


def test_its_likelihood_counts_every_position(data: ELFDataModule, generator: TextGenerator) -> None:
    examples = data.preparation.examples("validation").read([0, 1])
    found = measure_likelihood(generator, examples, LikelihoodSettings(steps=1))
    assert found.num_tokens == 32
    assert found.nats_per_token > 0


def test_a_shorter_text_is_measured_without_fill(data: ELFDataModule, generator: TextGenerator) -> None:
    torch.nn.init.zeros_(generator.network.token_head.unembed.weight)
    torch.nn.init.zeros_(generator.network.token_head.unembed.bias)
    found = measure_likelihood(generator, ["the"], LikelihoodSettings(steps=1))
    assert found.num_tokens < 16
    assert found.decoder_nats == pytest.approx(math.log(generator.config.vocab_size), rel=1e-5)


def test_a_stream_has_the_same_sequences(data: ELFDataModule) -> None:
    from elf_lightning.data.packing import packed

    texts = [[*data.tokenizer(line)["input_ids"], EOS] for line in LINES[:30]]
    prepared = data.preparation.examples("train")
    assert list(packed(texts, "bos_eos", 16, EOS)) == [
        example.input_ids.tolist() for example in prepared.read(range(len(prepared)))
    ]


def test_no_room_between_bos_and_eos_is_refused(tiny_gpt2: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.max_length 2 has no room between BOS and EOS"):
        ELFDataModule(
            TextFiles(str(tmp_path)),
            PretrainedEncoder(tiny_gpt2),
            max_length=2,
            packing="bos_eos",
            pad_mode="eos",
        )


def test_latent_stats_measures_what_the_configuration_states(
    data: ELFDataModule, tiny_gpt2: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {
        "data.source": "TextFiles",
        "data.source.path": str(tmp_path / "lines.txt"),
        "data.source.document": "line",
        "data.source.validation_fraction": 0.25,
        "data.encoder.name_or_path": tiny_gpt2,
        "data.max_length": 16,
        "data.batch_size": 4,
        "data.global_batch_size": "null",
        "data.num_proc": 1,
        "data.num_workers": 0,
        "data.cache_dir": str(tmp_path / "fresh"),
        "trainer.accelerator": "cpu",
        "trainer.precision": "32-true",
        "trainer.strategy": "auto",
        "model.network.hidden_size": 16,
        "model.network.depth": 1,
        "model.network.num_heads": 2,
    }
    capsys.readouterr()
    words = [f"--{name}={value}" for name, value in settings.items()]
    assert main(["latent-stats", "--config", str(CONF), *words]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    examples = data.preparation.examples("train")
    batch = data.collate(examples.read(range(len(examples))))
    with torch.no_grad():
        hidden = GPT2Model.from_pretrained(tiny_gpt2).eval()(batch.input_ids).last_hidden_state
    assert printed["latent_mean"] == pytest.approx(hidden.mean().item(), abs=2e-6)
    assert printed["latent_std"] == pytest.approx(hidden.std(correction=0).item(), abs=2e-6)
