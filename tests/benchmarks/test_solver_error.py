"""The table of solver errors, on a flow that is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from benchmarks import solver_error
from elf_lightning import ELF
from elf_lightning.checkpoints import ModelBundle
from elf_lightning.network import ELFNetwork, NetworkConfig


@pytest.fixture
def model(tiny_bert: str) -> ELF:
    """A network whose estimate never changes: every path is straight, and every solver exact."""
    size = len(AutoTokenizer.from_pretrained(tiny_bert))
    shape = NetworkConfig(hidden_size=16, depth=1, num_heads=2, bottleneck_size=4)
    network = ELFNetwork(shape, 16, size, 8, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(network.latent_head.linear.bias)
    torch.nn.init.normal_(network.token_head.unembed.weight)
    decoding = {
        "tokenizer": tiny_bert,
        "encoder": {"class": "PretrainedEncoder", "name_or_path": tiny_bert, "layer": None},
        "kept_ids": None,
        "latent_mean": 0.0,
        "latent_std": 1.0,
        "max_condition_length": None,
        "pad_id": 0,
        "eos_id": 3,
        "unknown_id": None,
    }
    return ELF(ModelBundle(shape, 16, size, 8, network.state_dict(), decoding), "cpu")


def test_straight_paths_have_no_error(model: ELF) -> None:
    lines = solver_error.measure(model, rows=3, seed=0, reference_steps=20, budgets=[8, 16])
    assert {(line.solver, line.grid, line.calls) for line in lines} == {
        (solver, grid, calls - (solver == "heun"))
        for solver in ("ode", "multistep", "heun")
        for grid in ("uniform", "logit_normal")
        for calls in (8, 16)
    }
    assert max(line.error for line in lines) < 1e-5
    assert min(line.same_tokens for line in lines) == 1


def test_curved_paths_have_one_that_shrinks(model: ELF) -> None:
    with torch.no_grad():
        torch.nn.init.normal_(model.network.latent_head.linear.weight, std=0.5)
    lines = solver_error.measure(model, rows=3, seed=0, reference_steps=256, budgets=[4, 64])
    euler = [line.error for line in lines if (line.solver, line.grid) == ("ode", "uniform")]
    assert euler[0] > 2 * euler[1] > 0


def test_command_writes_its_table(
    model: ELF, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    model.save_pretrained(tmp_path / "model")
    words = ["--checkpoint", str(tmp_path / "model"), "--rows", "2", "--reference-steps", "9", "--calls", "4"]
    solver_error.main([*words, "--json", str(tmp_path / "lines.json")])
    assert "multistep" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "lines.json").read_text())) == 6


def test_missing_checkpoint_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="does not exist"):
        solver_error.main(["--checkpoint", str(tmp_path / "no.ckpt")])
