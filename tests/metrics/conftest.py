"""A tiny scoring model with random weights, and texts that every metric should tell apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from elf_lightning.metrics import ScoringModel

REAL = [
    "in the beginning god created the heavens and the earth and the earth was formless and empty",
    "darkness was on the surface of the deep and a wind moved over the face of the waters that night",
    "the lord is my shepherd i shall lack nothing he makes me lie down in green pastures",
    "a soft answer turns away wrath but a harsh word stirs up anger in the city gates",
    "by the rivers of babylon there we sat down and wept when we remembered zion of old",
    "vanity of vanities says the preacher all is vanity and a chasing after the wind",
    "two are better than one because they have a good reward for their labor under the sun",
    "let your light shine before men so that they may see your good works and give glory",
]
WORDS = sorted({word for text in REAL for word in text.split()})


def word_tokenizer(words: list[str], eos: str) -> PreTrainedTokenizerFast:
    """One token a word, in the order given; `eos` is one of them."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=words[0], eos_token=eos)


@pytest.fixture(scope="session")
def scoring_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scoring_model")
    vocabulary = ["<unk>", "<eos>", *WORDS]
    word_tokenizer(vocabulary, "<eos>").save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(vocabulary), n_positions=32, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def scoring_model(scoring_model_folder: Path) -> ScoringModel:
    return ScoringModel.load(str(scoring_model_folder), context_length=32, batch_size=3)


@pytest.fixture(scope="session")
def real() -> list[str]:
    return list(REAL)
