"""Rollout distillation through the real command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from elf_lightning.checkpoints import load_model
from elf_lightning.cli import main

MODEL = ("--model", "RolloutDistillationModule", "--model.teacher", "runs/teacher", "--name", "student")
OPTIONS = ("--model.teacher_steps", "3", "--model.student_steps", "2")


@pytest.mark.slow
def test_a_student_is_trained_resumed_and_sampled(
    write_config: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = ("--config", write_config(trainer__max_steps=4, trainer__val_check_interval=4))
    assert main(["fit", *config, "--name", "teacher"]) == 0
    assert main(["fit", *config, *MODEL, *OPTIONS]) == 0
    straight = torch.load("runs/student/checkpoints/last.ckpt", weights_only=True)
    assert straight["global_step"] == 4
    Path("runs/student").rename("runs/straight")
    assert main(["fit", *config, *MODEL, *OPTIONS, "--trainer.max_steps", "3"]) == 0
    assert main(["fit", *config, *MODEL, *OPTIONS, "--ckpt_path", "runs/student"]) == 0
    resumed = torch.load("runs/student/checkpoints/last.ckpt", weights_only=True)
    for name in ("state_dict", "optimizer_states", "global_step"):
        torch.testing.assert_close(resumed[name], straight[name], rtol=0, atol=0)
    teacher = load_model("runs/teacher").weights
    assert any(
        not torch.equal(weight, teacher[name]) for name, weight in load_model("runs/student").weights.items()
    )
    sampling = load_model("runs/student").config.default_sampling
    assert (sampling.solver, sampling.steps) == ("feedback", 2)
    capsys.readouterr()
    assert main(["sample", "--checkpoint", "runs/student", "--num", "2", "--output", "texts.jsonl"]) == 0
    assert len([json.loads(line) for line in Path("texts.jsonl").read_text().splitlines()]) == 2
