"""A compiled run: the same checkpoints, averaged, resumed and sampled as any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from elf_lightning.checkpoints.locate import newest_checkpoint
from elf_lightning.cli import main

GRAPHS = 5
"""Two to train, with and without gradient; up to three to validate, with the network in eval mode."""


def checkpoint(name: str) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(newest_checkpoint(f"runs/{name}/checkpoints"), weights_only=True)
    return state


def test_a_compiled_run_is_averaged_resumed_and_sampled(
    fit: Callable[..., None], counter: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {"trainer.max_epochs": 1}
    fit("eager", short)
    assert counter.frame_count == 0
    fit("compiled", short | {"model.compile": True})
    assert 2 <= counter.frame_count <= GRAPHS
    eager, compiled = checkpoint("eager"), checkpoint("compiled")
    for part in ("state_dict", "current_model_state"):
        torch.testing.assert_close(compiled[part], eager[part], rtol=1e-3, atol=1e-4)

    counter.clear()
    torch.compiler.reset()
    resume = {"ckpt_path": str(newest_checkpoint("runs/compiled/checkpoints"))}
    fit("compiled", resume | {"model.compile": True})
    assert 2 <= counter.frame_count <= GRAPHS
    resumed = checkpoint("compiled")
    assert resumed["global_step"] == 2 * compiled["global_step"]
    assert resumed["averaging_state"]["n_averaged"] == resumed["global_step"]
    capsys.readouterr()
    assert main(["sample", "--checkpoint", "runs/compiled", "--num", "2", "--device", "cpu"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_runs_that_validate_and_sample_stay_compiled(fit: Callable[..., None], counter: Any) -> None:
    """Two networks in a process have more graphs than torch keeps by itself, which would go on eagerly."""
    texts = {"every_n_steps": 4, "num_samples": 5, "batch_size": 2, "show": False}
    callbacks = [{"class_path": "EMA"}, {"class_path": "SampleLogger", "init_args": texts}]
    limit = 8  # torch's own
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True, recompile_limit=limit):
        for width in (16, 24):
            run = {"model.compile": True, "model.network.hidden_size": width, "trainer.callbacks": callbacks}
            run |= {"trainer.max_epochs": 1, "model.network.depth": 1}
            fit(f"width {width}", run)
    assert counter.frame_count > limit, "there was something to see"


def test_a_missing_compiler_is_reported_before_training(
    command: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(command("fit", {"name": "refused", "model.compile": True})) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("elf fit: model.compile needs a C++ compiler")
    assert not Path("runs/refused").exists()
