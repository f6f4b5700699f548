"""A compiled run: the same checkpoints, averaged, resumed and sampled as any other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from elf_lightning.checkpoints.locate import newest_checkpoint
from elf_lightning.cli import main


GRAPHS = 6
"""Three to train, of which two without gradient; as many to validate, with the network in eval mode."""


def checkpoint(name: str) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(newest_checkpoint(f"runs/{name}/checkpoints"), weights_only=True)
    return state


def test_a_compiled_run_is_averaged_resumed_and_sampled(
    fit: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.compiler.reset()
    counter = CompileCounterWithBackend("eager")
    # No C++ compiler is needed to see what is compiled.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
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
    assert capsys.readouterr().out.strip()
