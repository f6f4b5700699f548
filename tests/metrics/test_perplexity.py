from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from elf_lightning.errors import UserError
from elf_lightning.metrics import GenerativePerplexity, ScoringModel, ScoringTokenizer, UnigramEntropy
from elf_lightning.metrics.scoring_model import counted_targets, token_nll


class Recorded(nn.Module):
    """Answers known rows with their recorded logits."""

    def __init__(self, input_ids: Tensor, logits: Tensor) -> None:
        super().__init__()
        self.input_ids, self.logits = input_ids, logits
        self.config = SimpleNamespace(max_position_embeddings=input_ids.shape[1])
        self.device = torch.device("cpu")

    def forward(self, input_ids: Tensor, **_: object) -> SimpleNamespace:
        length = input_ids.shape[1]
        row = [(self.input_ids[:, :length] == ids).all(1).nonzero().item() for ids in input_ids]
        return SimpleNamespace(logits=self.logits[row, :length])


@pytest.fixture
def recorded(golden) -> tuple[dict[str, Tensor], list[str], ScoringModel]:
    """The golden values, their texts, and the scoring model that gives their logits."""
    values = golden("generative_perplexity")
    ids, eos = values["input_ids"], int(values.settings["eos_token_id"])
    rows = zip(ids, values["attention_mask"].bool(), strict=True)
    texts = [" ".join(map(str, row[mask].tolist())) for row, mask in rows]
    vocabulary = {str(i): i for i in range(values["logits"].shape[2])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=str(eos)))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=str(eos))
    reader = ScoringTokenizer(fast, "recorded", context_length=ids.shape[1], eos_id=eos)
    return values, texts, ScoringModel(reader, Recorded(ids, values["logits"]), batch_size=2)


def test_golden_generative_perplexity_of_tensors(recorded) -> None:
    values, _, scoring_model = recorded
    ids = values["input_ids"]
    torch.testing.assert_close(token_nll(values["logits"], ids), values["nll"], atol=1e-5, rtol=1e-4)
    counted = counted_targets(ids, values["attention_mask"], scoring_model.tokenizer.eos_id)
    assert torch.equal(counted, values["valid"].bool())


def test_golden_generative_perplexity_of_texts(recorded) -> None:
    values, texts, scoring_model = recorded
    metric = GenerativePerplexity(scoring_model)
    metric.update(texts)
    torch.testing.assert_close(metric.per_sample, values["per_sample_ppl"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(metric.compute(), values["ppl"].squeeze(), atol=1e-5, rtol=1e-4)
    entropy = UnigramEntropy(scoring_model)
    entropy.update(texts)
    torch.testing.assert_close(entropy.per_sample, values["entropy"])
    torch.testing.assert_close(entropy.compute(), values["mean_entropy"].squeeze())


def test_equals_the_models_own_loss(
    scoring_model: ScoringModel, scoring_model_folder: Path, real: list[str]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(scoring_model_folder)
    model = AutoModelForCausalLM.from_pretrained(scoring_model_folder)
    losses, lengths = [], []
    for text in real:
        ids = torch.tensor([[*tokenizer(text)["input_ids"], tokenizer.eos_token_id]])
        losses.append(model(input_ids=ids, labels=ids).loss.item())
        lengths.append(ids.shape[1] - 1)
    metric = GenerativePerplexity(scoring_model)
    metric.update(real[:3])
    metric.update(real[3:])
    pooled = torch.tensor(losses).dot(torch.tensor(lengths).float()) / sum(lengths)
    torch.testing.assert_close(metric.compute().float(), pooled.exp(), rtol=1e-5, atol=0)
    torch.testing.assert_close(metric.per_sample.float(), torch.tensor(losses[3:]).exp(), rtol=1e-5, atol=0)


def test_neighbours_in_a_batch_change_nothing(scoring_model_folder: Path, real: list[str]) -> None:
    texts = ["the", *real, "wind of old"]
    alone = ScoringModel.load(str(scoring_model_folder), context_length=32, batch_size=1).score(texts)
    together = ScoringModel.load(str(scoring_model_folder), context_length=32, batch_size=99).score(texts)
    assert torch.equal(alone.tokens, together.tokens)
    torch.testing.assert_close(alone.nll, together.nll, rtol=1e-6, atol=1e-5)


def test_a_text_longer_than_the_context_is_cut_and_has_no_end(scoring_model_folder: Path) -> None:
    reader = ScoringTokenizer.load(str(scoring_model_folder), context_length=4)
    rows = reader.sequences(["the wind of", "the wind of the", "the wind of the deep"])
    assert [len(row) for row in rows] == [4, 4, 4]
    assert [row[-1] == reader.eos_id for row in rows] == [True, False, False]


def test_the_second_end_does_not_count() -> None:
    ids = torch.tensor([[5, 9, 6, 9, 7, 9]])
    counted = counted_targets(ids, torch.ones_like(ids), eos_id=9)
    assert counted.tolist() == [[True, True, False, True, False]]
    assert counted_targets(ids, torch.ones_like(ids), eos_id=None).all()


def test_a_tokenizer_that_puts_bos_first_keeps_it(scoring_model_folder: Path, tmp_path: Path) -> None:
    from tokenizers import processors

    tokenizer = AutoTokenizer.from_pretrained(scoring_model_folder, bos_token="<eos>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<eos> $A", special_tokens=[("<eos>", tokenizer.eos_token_id)]
    )
    tokenizer.save_pretrained(tmp_path)
    plain, bos = ScoringTokenizer.load(str(scoring_model_folder)), ScoringTokenizer.load(str(tmp_path))
    assert plain.sequences(["the wind"])[0] == [*plain.encode(["the wind"])[0], 1]
    assert bos.sequences(["the wind"])[0] == [1, *plain.encode(["the wind"])[0], 1]
    assert bos.encode(["the wind"]) == plain.encode(["the wind"])


def test_empty_samples_have_no_perplexity_and_no_entropy(
    scoring_model: ScoringModel, real: list[str]
) -> None:
    perplexity, entropy = GenerativePerplexity(scoring_model), UnigramEntropy(scoring_model)
    for metric in (perplexity, entropy):
        metric.update(["", real[0], "  "])
    assert perplexity.per_sample.isnan().tolist() == [True, False, True]
    assert perplexity.compute() == perplexity.per_sample[1]
    assert entropy.compute() == entropy.per_sample[1] / 3


def test_white_space_is_no_text_for_a_scoring_model_with_a_token_for_it() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({" ": 0, "a": 1}, "a")))
    assert tokenizer(" ")["input_ids"] == [0]
    assert ScoringTokenizer(tokenizer, "blanks").encode([" ", "a"]) == [[], [1]]


def test_forward_gives_the_batchs_value_and_keeps_the_sum(
    scoring_model: ScoringModel, real: list[str]
) -> None:
    metric, batch, whole = (GenerativePerplexity(scoring_model) for _ in range(3))
    metric.update(real[:4])
    batch.update(real[4:])
    whole.update(real)
    torch.testing.assert_close(metric(real[4:]), batch.compute())
    torch.testing.assert_close(metric.compute(), whole.compute())


def test_copies_share_the_scoring_model_and_it_is_no_weight_of_the_metric(
    scoring_model: ScoringModel,
) -> None:
    metric = GenerativePerplexity(scoring_model)
    assert metric.clone().scoring_model is scoring_model
    assert copy.deepcopy(metric).scoring_model is scoring_model
    assert not list(metric.parameters())
    assert not metric.state_dict()
    assert not any(weight.requires_grad for weight in scoring_model.model.parameters())


def test_loading_and_scoring_draw_no_random_number(scoring_model_folder: Path, real: list[str]) -> None:
    before = torch.get_rng_state()
    ScoringModel.load(str(scoring_model_folder), context_length=32).score(real)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_scoring_model_in_half_precision(scoring_model_folder: Path, real: list[str]) -> None:
    values = []
    for dtype in ("float32", "bfloat16"):
        metric = GenerativePerplexity(
            ScoringModel.load(str(scoring_model_folder), dtype=dtype, context_length=32)
        )
        metric.update(real)
        values.append(metric.compute().item())
        assert str(metric.scoring_model.model.dtype) == f"torch.{dtype}"
    assert values[1] == pytest.approx(values[0], rel=0.05)
    assert values[1] != values[0]


def test_logits_that_are_no_numbers_are_refused(scoring_model: ScoringModel, real: list[str]) -> None:
    scoring_model.model.transformer.ln_f.weight.fill_(torch.nan)
    metric = GenerativePerplexity(scoring_model)
    metric.update(real)
    with pytest.raises(UserError, match=r"gave logits that are not finite; load it with dtype='float32'"):
        metric.compute()


def test_single_tokens_without_an_end_are_refused(scoring_model: ScoringModel) -> None:
    reader = ScoringTokenizer(scoring_model.tokenizer.tokenizer, "endless", context_length=32)
    metric = GenerativePerplexity(ScoringModel(reader, scoring_model.model))
    metric.update(["the", "wind"])
    with pytest.raises(UserError, match="endless predicts no token of one-token samples"):
        metric.compute()


def test_a_scoring_model_that_cannot_be_loaded_is_named(tmp_path: Path, scoring_model_folder: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in scoring_model_folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes(
        (scoring_model_folder / "model.safetensors").read_bytes()[:100]
    )
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    for file in scoring_model_folder.glob("tokenizer*"):
        (encoder / file.name).write_bytes(file.read_bytes())
    (encoder / "config.json").write_text('{"model_type": "t5"}')
    for name in ("nobody/no-such-scoring model", str(tmp_path), str(broken), str(encoder)):
        with pytest.raises(
            UserError, match=r"the scoring model '.*' cannot be loaded \(.+\); give the Hub name"
        ) as error:
            ScoringModel.load(name, context_length=16)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "int8"}, r"scoring_model.dtype is 'int8'; choose one of float32"),
        ({"context_length": 1}, r"context_length is 1; it must be at least 2"),
        ({"context_length": 33}, r"reads at most 32 tokens; lower context_length=33"),
        ({"context_length": 32, "batch_size": 0}, r"batch_size is 0; it must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(scoring_model_folder: Path, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ScoringModel.load(str(scoring_model_folder), **settings)
