"""Two processes over gloo train, validate and predict as one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from elf_lightning.checkpoints.locate import newest_checkpoint
from elf_lightning.cli import main
from elf_lightning.training import ddp
from elf_lightning.training.ddp import DDP

LIMIT_SECONDS = 300
"""Far beyond what the commands take; ranks that wait for each other fail here."""

TWO = {"trainer.devices": 2, "trainer.accelerator": "cpu", "trainer.strategy": "ddp"}
ANY_STRATEGY = {"trainer.strategy": "auto"}
# 44 rows make five steps of eight, with four rows over; 11 to validate on are one too many.
HELD_OUT: dict[str, Any] = {"data.source.init_args.validation_fraction": 0.2}
TRAINING = HELD_OUT | {
    "data.global_batch_size": 8,
    "trainer.max_steps": 5,
    "trainer.check_val_every_n_epoch": None,
    "trainer.val_check_interval": 5,
}
MIXINGS = {
    "rows": {"model.objective.mixing": "rows"},
    "steps": {"model.objective.mixing": "steps", "model.objective.decode_probability": 0.5},
}


def callbacks(*classes: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """The setting that names EMA and these callbacks."""
    named = [{"class_path": name, "init_args": arguments} for name, arguments in classes]
    return {"trainer.callbacks": [{"class_path": "EMA", "init_args": {"decay": 0.9}}, *named]}


def prediction(name: str, rows: int) -> dict[str, Any]:
    """The settings that predict so many rows."""
    rest = {"ckpt_path": "runs/rows/checkpoints/last.ckpt", "data.batch_size": 2}
    own = {"name": name, "data.num_predict_samples": rows}
    return HELD_OUT | rest | callbacks(("SampleWriter", {})) | own


def fits(mixing: str, name: str, *classes: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """The settings of a run."""
    return TRAINING | MIXINGS[mixing] | callbacks(*classes) | {"name": name}


@pytest.fixture(scope="module")
def two_ranks(command: Callable[..., list[str]]) -> None:
    """What two processes leave behind in `runs`, one command after another."""
    stop = ("run_hooks.StopAfter", {"step": 2, "how": "request"})
    commands = [
        ("fit", fits("rows", "rows", ("run_hooks.RankReport", {"path": "rows"}))),
        ("fit", fits("steps", "steps", ("run_hooks.RankReport", {"path": "steps"})) | ANY_STRATEGY),
        ("fit", fits("rows", "resumed", stop)),
        ("fit", fits("rows", "resumed") | {"ckpt_path": "runs/resumed/checkpoints/last.ckpt"}),
        ("predict", prediction("five", 5)),
        ("predict", prediction("single", 1)),
    ]
    words = [command(name, TWO | settings) for name, settings in commands]
    Path("commands.json").write_text(json.dumps(words))
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("commands.py")), "commands.json"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"not done after {LIMIT_SECONDS} seconds: {process.communicate()[0][-3000:]}")
    assert process.returncode == 0, printed[-3000:]


@pytest.fixture(params=MIXINGS)
def mixing(two_ranks: None, request: pytest.FixtureRequest) -> str:
    """Each way of mixing, with what two processes have made of it."""
    return str(request.param)


def reports(name: str) -> list[dict[str, Any]]:
    """What `RankReport` has written for each rank."""
    return [json.loads(Path(f"{name}-{rank}.json").read_text()) for rank in range(2)]


def trained(name: str) -> dict[str, Any]:
    """All that the optimizer steps of a run have left behind."""
    state = torch.load(newest_checkpoint(f"runs/{name}/checkpoints"), weights_only=True)
    return {
        key: state[key] for key in ("global_step", "state_dict", "current_model_state", "optimizer_states")
    }


def samples(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(f"runs/{name}/predictions.jsonl").read_text().splitlines()]


def test_two_processes_train_as_one_with_the_same_draws(mixing: str, fit: Callable[..., None]) -> None:
    fit(f"one-{mixing}", fits(mixing, f"one-{mixing}", ("run_hooks.AsTwoRanks", {})))
    one = trained(f"one-{mixing}")
    assert one["global_step"] == 5
    torch.testing.assert_close(trained(mixing), one, atol=1e-5, rtol=1e-5)


def test_ddp_and_auto_have_the_settings_of_this_package(mixing: str) -> None:
    settings = {"find_unused_parameters": False, "broadcast_buffers": False, "gradient_as_bucket_view": True}
    assert [report["ddp"] for report in reports(mixing)] == [settings, settings]
    assert [report["strategy"] for report in reports(mixing)] == ["DDP", "DDP"]


def test_a_module_is_wrapped_on_the_stream_that_trains_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DDP, "determine_ddp_device_ids", lambda strategy: [0])
    monkeypatch.setattr("torch.cuda.Stream", lambda: pytest.fail("another stream"))
    monkeypatch.setattr(ddp, "DistributedDataParallel", lambda *arguments, **settings: (arguments, settings))
    module = torch.nn.BatchNorm1d(2)
    (wrapped, devices), settings = DDP()._setup_model(module)
    assert (wrapped, devices) == (module, [0])
    assert settings["broadcast_buffers"]  # of a module of another kind, whose buffers may change


def test_ranks_draw_different_noise(mixing: str) -> None:
    noises = [noise for report in reports(mixing) for _, noise in report["draws"]]
    assert len(noises) == len(set(noises)) == 10


def test_with_mixing_steps_all_ranks_decode_or_none(two_ranks: None) -> None:
    first, second = ([rows for rows, _ in report["draws"]] for report in reports("steps"))
    assert first == second
    assert set(first) == {0, 4}


def test_logged_losses_are_averaged_over_ranks(mixing: str) -> None:
    first, second = (report["losses"] for report in reports(mixing))
    for (own, logged), (other, same) in zip(first, second, strict=True):
        assert own != other
        assert logged == same == pytest.approx((own + other) / 2)


def test_validation_is_averaged_over_ranks(mixing: str) -> None:
    first, second = reports(mixing)
    assert first["logged"] == second["logged"]
    assert len(first["own"]) == 5
    for name, (own, weight) in first["own"].items():
        other, other_weight = second["own"][name]
        assert own != other or name.endswith("accuracy")  # of few tokens
        assert first["logged"][name] == pytest.approx((own + other) / (weight + other_weight))


def test_two_processes_resume_exactly(two_ranks: None) -> None:
    torch.testing.assert_close(trained("resumed"), trained("rows"), atol=0, rtol=0)


def test_two_processes_predict_as_one(two_ranks: None, command: Callable[..., list[str]]) -> None:
    assert [row["index"] for row in samples("five")] == [0, 1, 2, 3, 4]
    assert main(command("predict", prediction("one", 5))) == 0
    assert samples("one") == samples("five")


def test_a_rank_without_prompts_does_not_block_the_others(two_ranks: None) -> None:
    assert samples("single") == samples("five")[:1]
