"""A wrong configuration is one line."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

LINES = "in the beginning god created heaven and earth now was without form darkness\n" * 40
CHANGES = {
    "name": "tiny",
    "seed_everything": 3,
    "data.source.init_args.validation_fraction": 0.2,
    "data.restrict_vocabulary": True,
    "data.latent_mean": 0.1,
    "data.latent_std": 0.9,
    "data.global_batch_size": 8,
    "model.optimizer": {"class_path": "MuonSettings", "init_args": {"base_learning_rate": 0.5}},
    "model.schedule": {"warmup_steps": 2},
    "model.sampling": {"steps": 3, "solver": "sde", "times": None},
    "model.objective": {"decode_probability": 0.2},
    "model.evaluation": {"num_samples": 4, "settings": [{"steps": 2}], "sweep": {"guidance": [1.0, 2.0]}},
    "trainer.callbacks": [{"class_path": "EMA", "init_args": {"decay": 0.99}}],
    "trainer.max_steps": 6,
    "trainer.max_epochs": -1,
    "trainer.precision": "32-true",
    "trainer.val_check_interval": 3,
    "trainer.gradient_clip_val": 1.0,
}


@pytest.fixture
def write(tiny_run: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Any], str]:
    """Writes a configuration that is nearly right, as JSON, which is YAML too, or in YAML's own form."""
    settings = tiny_run(CHANGES)

    def run(nearly: Any) -> str:
        text = nearly.json(settings)
        if nearly.one_of(True, False):
            with suppress(yaml.YAMLError, RecursionError, ValueError):
                text = yaml.safe_dump(yaml.safe_load(text)).encode()
        Path("lines.txt").write_text(LINES)
        Path("config.yaml").write_bytes(text)
        return "config.yaml"

    return run


def test_plan_which_reads_and_builds_all_that_fit_does(
    fuzz: Callable[..., None], write: Callable[[Any], str], works_or_one_line: Callable[..., None]
) -> None:
    fuzz(lambda nearly: works_or_one_line(["plan", "--config", write(nearly)]), few=2, many=1_000)


def test_eval_of_a_model_that_has_no_configuration(
    fuzz: Callable[..., None],
    write: Callable[[Any], str],
    works_or_one_line: Callable[..., None],
    hub: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("elf_lightning.evaluation.evaluate", lambda *_, **__: None)
    words = ["eval", "--checkpoint", str(hub), "--config"]
    fuzz(lambda nearly: works_or_one_line([*words, write(nearly)]), few=8, many=1_000)
