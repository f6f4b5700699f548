"""The table of solver errors, on a flow that is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from benchmarks import solver_error
from elf_lightning import ELF
from elf_lightning.checkpoints import ELFConfig, ModelBundle
from elf_lightning.codec import TextCodec
from elf_lightning.network import NetworkConfig


@pytest.fixture
def model(tiny_bert: str) -> ELF:
    """A network whose estimate never changes: every path is straight, and every solver exact."""
    encoder = {"class": "PretrainedEncoder", "name_or_path": tiny_bert, "layer": None}
    codec = TextCodec(tiny_bert, encoder, latent_mean=0.0, latent_std=1.0, max_length=8, pad_id=0, eos_id=3)
    size = NetworkConfig(hidden_size=16, depth=1, num_heads=2, bottleneck_size=4)
    config = ELFConfig(size, 16, len(AutoTokenizer.from_pretrained(tiny_bert)), 8, codec=codec)
    network = config.build_network()
    torch.nn.init.normal_(network.latent_head.linear.bias)
    torch.nn.init.normal_(network.token_head.unembed.weight)
    return ELF(ModelBundle(config, network.state_dict()), "cpu")


def test_straight_paths_have_no_error(model: ELF) -> None:
    lines = solver_error.errors(model, num=3, reference_steps=20, calls=(8, 16))
    assert {(line["solver"], line["grid"], line["calls"]) for line in lines} == {
        (solver, grid, calls - (solver == "heun"))
        for solver in ("ode", "multistep", "heun")
        for grid in ("uniform", "logit_normal")
        for calls in (8, 16)
    }
    assert max(line["error"] for line in lines) < 1e-5
    assert min(line["same_tokens"] for line in lines) == 1


def test_curved_paths_have_one_that_shrinks(model: ELF) -> None:
    with torch.no_grad():
        torch.nn.init.normal_(model.network.latent_head.linear.weight, std=0.5)
    lines = solver_error.errors(model, num=3, reference_steps=256, calls=(4, 64))
    euler = [line["error"] for line in lines if (line["solver"], line["grid"]) == ("ode", "uniform")]
    assert euler[0] > 2 * euler[1] > 0


def test_the_table_is_printed_and_written(
    model: ELF,
    tmp_path: Path,
    run_measured: Callable[..., dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model.save_pretrained(tmp_path / "model")
    words = ["--checkpoint", str(tmp_path / "model"), "--num", "2", "--reference-steps", "40"]
    assert len(run_measured(solver_error.main, *words)["lines"]) == 18
    assert "multistep" in capsys.readouterr().out


def test_missing_checkpoint_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["solver_error", "--checkpoint", str(tmp_path / "no.ckpt")])
    with pytest.raises(SystemExit, match="does not exist"):
        solver_error.main()
