"""The output of `elf fit` and `elf plan`."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elf_lightning.checkpoints import load_model
from elf_lightning.cli import main


@pytest.fixture
def config(tmp_path: Path, tiny_run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> str:
    """A small run's configuration in the working folder."""
    monkeypatch.chdir(tmp_path)
    words = random.Random(0)
    lines = [" ".join(words.choices(["god", "light", "night", "day"], k=7)) for _ in range(40)]
    Path("lines.txt").write_text("\n".join(lines))
    settings = tiny_run(
        {
            "name": "run",
            "model.network.depth": 1,
            "trainer.max_steps": 4,
            "trainer.max_epochs": -1,
            "trainer.log_every_n_steps": 2,
            "trainer.val_check_interval": 4,
            "trainer.enable_progress_bar": True,
        }
    )
    Path("config.yaml").write_text(json.dumps(settings))
    return "config.yaml"


def output(*words: str) -> tuple[str, str]:
    """Standard output and error of the command in a separate process."""
    done = subprocess.run(
        [sys.executable, "-m", "elf_lightning", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_fit_prints_the_plan_and_its_progress_and_validation_rounded_numbers(config: str) -> None:
    out, err = output("fit", "--config", config)
    first_words = [line.split()[0] for line in out.splitlines() if not line.startswith(" ")]
    assert first_words[:7] == ["network", "data", "batch", "steps", "rate", "compute", "memory"]
    assert first_words[7:] == ["step"] * 4 + ["saved", "next"]
    assert "saved    runs/run/checkpoints/last.ckpt, step 4" in out
    assert "elf eval --checkpoint runs/run" in out
    assert "acc" in out
    assert "grad" in out
    assert "tok/s" in out
    for noise in ("Tip", "litlogger", "LeafSpec", "Seed set", "FLOPs 0", "Modules in train mode"):
        assert noise not in out + err
    header, *rows = Path("runs/run/csv/version_0/metrics.csv").read_text().splitlines()
    logged = {"loss", "denoise_loss", "gradient_norm", "learning_rate", "tokens_per_second"}
    assert {f"train/{name}" for name in logged} <= set(header.split(","))
    assert len(rows) >= 2
    hparams = Path("runs/run/csv/version_0/hparams.yaml").read_text()
    assert "max_steps: 4" in hparams

    assert not re.search(r"\r|%\||it/s|━", out + err), "a log has no progress bars"
    out, err = output("validate", "--config", config, "--ckpt_path", "runs/run")
    assert re.search(r"^val/loss {2,}\d+(\.\d{1,3})?$", out, re.MULTILINE)
    assert "━" not in out + err


def test_a_resumed_run_prints_its_position_and_what_has_changed(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", config]) == 0
    capsys.readouterr()
    more = ["--trainer.max_steps", "6", "--ckpt_path", "runs/run/checkpoints/last.ckpt"]
    assert main(["fit", "--config", config, *more]) == 0
    out = capsys.readouterr().out
    changes = [line for line in out.splitlines() if line.startswith("changed")]
    assert changes == ["changed  trainer.max_steps: 4 -> 6"]
    assert "resumed  at step 4, epoch 0, batch 4, from runs/run/checkpoints/last.ckpt" in out


def test_plan_trains_and_embeds_nothing(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("embedded")

    monkeypatch.setattr("elf_lightning.encoders.PretrainedEncoder.load", refuse)
    assert main(["plan", "--config", config, "--data.global_batch_size", "8"]) == 0
    out = capsys.readouterr().out
    assert "38 sequences of 8 tokens" in out
    assert "8 sequences per step: 4 x 1 device(s) x 2 micro-batch(es)" in out
    assert not Path("runs").exists()


def test_impossible_settings_of_a_plan_are_reported_in_one_line(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--config", config, "--model.schedule.warmup_steps", "9"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("elf plan: warmup_steps=9: a warm-up of 9")


def test_init_from_starts_from_weights(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", config]) == 0
    assert main(["fit", "--config", config, "--name", "tuned", "--model.init_from", "runs/run"]) == 0
    wider = ["--model.network.hidden_size", "32", "--model.init_from", "runs/run"]
    assert main(["fit", "--config", config, *wider]) == 2
    assert "elf fit: model.init_from runs/run: " in capsys.readouterr().err


def test_init_from_with_another_vocabulary_and_length(config: str, caplog: pytest.LogCaptureFixture) -> None:
    """Both runs know only the words of their own text."""
    restricted = ["--config", config, "--data.restrict_vocabulary", "true"]
    assert main(["fit", *restricted]) == 0
    Path("other.txt").write_text("\n".join(["in the beginning god said let there be light"] * 40))
    own = ["--name", "tuned", "--data.source.path", "other.txt", "--data.max_length", "6"]
    assert main(["fit", *restricted, *own, "--model.init_from", "runs/run"]) == 0
    assert (
        "model.init_from runs/run: weights taken; of 16 tokens, 6 are known to it and 10 new; sequences of 6 "
        "tokens instead of 8\n"
    ) in caplog.text
    before, after = (load_model(f"runs/{name}").config.codec for name in ("run", "tuned"))
    assert before is not None and after is not None
    assert before.kept_ids != after.kept_ids
    # So that the weights meet the latents they know.
    assert (before.latent_mean, before.latent_std) == (after.latent_mean, after.latent_std)
    again = [*restricted, *own, "--model.init_from", "runs/run", "--ckpt_path", "runs/tuned"]
    assert main(["validate", *again]) == 0
    assert main(["fit", *again, "--trainer.max_steps", "6"]) == 0
    assert main(["sample", "--checkpoint", "runs/tuned", "--num", "1", "--device", "cpu"]) == 0


def test_a_loss_that_is_not_finite_is_reported_in_one_line(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = ["--model.optimizer", "AdamWSettings", "--model.optimizer.base_learning_rate", "1e35"]
    assert main(["fit", "--config", config, *huge]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("elf fit: the loss or its gradient is not finite in step 1 (epoch 0, batch 1)")
    assert "no checkpoint was saved before it" in error
