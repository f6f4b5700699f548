"""Metrics as text."""

from __future__ import annotations

import pytest
import torch

from elf_lightning.callbacks.metric_text import lines, magnitude, short_metrics


def test_short_names_in_a_fixed_order() -> None:
    metrics = {
        "train/tokens_per_second": 12345.0,
        "train/learning_rate": 0.002,
        "train/decode_accuracy": 0.1234,
        "train/loss": 2.1841,
        "train/loss_step": 2.1841,
        "train/decode_loss": 1234.5,
        "train/skipped_steps": 3.0,
        "train/pd_loss": 0.5,
        "val/loss": 9.0,
    }
    texts = short_metrics({name: torch.tensor(value) for name, value in metrics.items()}, "train")
    assert list(texts.items()) == [
        ("loss", "2.184"),
        ("decode", "1.23k"),
        ("acc", "12.3%"),
        ("lr", "0.002"),
        ("tok/s", "12.3k"),
        ("pd", "0.500"),
        ("skipped", "3"),
    ]


def test_any_module_names_its_metrics_as_it_likes() -> None:
    metrics = {name: torch.tensor(0.5) for name in ("loss", "train_acc", "val_loss", "val/acc", "extra/val")}
    assert list(short_metrics(metrics, "train")) == ["loss", "acc", "extra/val"]
    assert list(short_metrics(metrics, "val")) == ["loss", "acc"]


def test_slow_runs_have_whole_tokens_a_second() -> None:
    assert short_metrics({"train/tokens_per_second": torch.tensor(257.186)}, "train") == {"tok/s": "257"}


def test_lines_break_between_items_only() -> None:
    assert lines(["loss 2.184", "denoise 1.4", "acc 1%"], 24) == ["loss 2.184  denoise 1.4", "acc 1%"]
    assert lines(["much longer than that"], 5) == ["much longer than that"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (999.7, "1k"), (104_579_940, "105M"), (5.6e15, "5.6P"), (1e19, "1e+04P")],
)
def test_magnitude(value: float, text: str) -> None:
    assert magnitude(value) == text
