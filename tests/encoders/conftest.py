"""A tiny T5Gemma and tiny causal models beside the tiny models that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    T5GemmaConfig,
    T5GemmaForConditionalGeneration,
)


@pytest.fixture(scope="session")
def tiny_t5gemma(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiny_t5gemma")
    half = {
        "vocab_size": 40,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
    }
    torch.manual_seed(0)
    T5GemmaForConditionalGeneration(T5GemmaConfig(encoder=half, decoder=half)).save_pretrained(folder)
    return str(folder)


def save_byte_tokenizer(folder: Path) -> int:
    """Save a cased tokenizer of bytes with an EOS token, but no PAD, UNK or CLS; returns its size."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("Ġ", "he"), ("t", "he"), ("i", "n"), ("Ġ", "in")]
    pieces = ["<|endoftext|>", *letters, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)
    return len(pieces)


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a GPT-2 with random weights, 3 layers, C=16, 32 positions, and its tokenizer of bytes."""
    folder = tmp_path_factory.mktemp("tiny_gpt2")
    size = save_byte_tokenizer(folder)
    torch.manual_seed(0)
    GPT2Model(
        GPT2Config(vocab_size=size, n_positions=32, n_embd=16, n_layer=3, n_head=2, initializer_range=0.3)
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a Llama with random weights, 3 layers, C=16, 32 positions, and its tokenizer of bytes."""
    folder = tmp_path_factory.mktemp("tiny_llama")
    config = LlamaConfig(
        vocab_size=save_byte_tokenizer(folder),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    LlamaModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def model_folder(request: pytest.FixtureRequest) -> str:
    """The folder of the fixture named by the parameter."""
    return str(request.getfixturevalue(request.param))
