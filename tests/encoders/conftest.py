"""A tiny T5Gemma beside the tiny models that all tests share."""

from __future__ import annotations

import pytest
import torch
from transformers import T5GemmaConfig, T5GemmaForConditionalGeneration


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


@pytest.fixture
def model_folder(request: pytest.FixtureRequest) -> str:
    """The folder of the fixture named by the parameter."""
    return str(request.getfixturevalue(request.param))
