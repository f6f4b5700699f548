from __future__ import annotations

import subprocess
import sys

import pytest

from elf_lightning import metrics


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, elf_lightning.metrics; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "elf_lightning.metrics" in loaded
    heavy = {
        "torch",
        "torchmetrics",
        "torchmetrics.text",
        "transformers",
        "sacrebleu",
        "rouge_score",
        "mauve",
    }
    assert not heavy & set(loaded)


@pytest.mark.parametrize("name", metrics.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(metrics, name) is not None


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Perplexity'"):
        metrics.Perplexity  # noqa: B018
