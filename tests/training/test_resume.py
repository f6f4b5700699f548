"""A run that is stopped anywhere and goes on is the same run, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from elf_lightning.checkpoints.locate import newest_checkpoint

STEP = ("step", "epoch", "train/loss", "train/gradient_norm", "train/learning_rate")

EMA = {"class_path": "EMA", "init_args": {"decay": 0.9}}
EVERY_STEP = {"every_n_train_steps": 1, "save_top_k": -1}
ON_EXCEPTION = {"save_on_exception": True, "every_n_epochs": 100, "save_last": True}


def lines_of_many_lengths() -> dict[str, Any]:
    """Settings for pairs of many lengths: buckets, hidden conditions, conditions."""
    words = ["in", "the", "beginning", "god", "created", "heaven"]
    pairs = [
        {"input": " ".join(words[: 1 + i % 3]), "output": " ".join(words[: 1 + i % 7])} for i in range(55)
    ]
    Path("pairs.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
    source = {"class_path": "JsonLines", "init_args": {"path": "pairs.jsonl", "validation_fraction": 0.17}}
    return {
        "data.source": source,
        "data.max_condition_length": 3,
        "data.label_drop_probability": 0.3,
        "data.bucket_step": 2,
    }


def a_stream() -> dict[str, Any]:
    """Settings for a stream of lines."""
    Path("shards").mkdir()
    for shard in range(4):
        lines = Path("lines.txt").read_text().splitlines()[shard::4]
        rows = "".join(f"{json.dumps({'text': line})}\n" for line in lines)
        Path(f"shards/train-{shard}.jsonl").write_text(rows)
    arguments = {
        "path": "shards",
        "streamed_examples": 45,
        "streamed_validation_examples": 8,
        "shuffle_buffer": 4,
    }
    return {"data.source": {"class_path": "HubDataset", "init_args": arguments}}


@dataclass(frozen=True)
class Case:
    """A run of 8 optimizer steps in 2 epochs of 11 batches, and where it is stopped, in what way.

    An epoch's fourth step has two micro-batches, all others three.
    """

    stops: list[tuple[int, str]]
    settings: dict[str, Any]
    saving: dict[str, Any] | None = None  # None: as the command line does it
    data: Callable[[], dict[str, Any]] = dict


CASES = {
    "by exceptions": Case(
        [(1, "exception"), (4, "exception"), (7, "exception")],
        {"data.num_workers": 2},
        EVERY_STEP,
    ),
    "as max_time does": Case(
        [(3, "request"), (4, "request"), (6, "request")],
        # Of two blocks none is in the middle half, where dropout is.
        {"model.objective.mixing": "steps", "model.network.dropout": 0.2, "model.network.depth": 4},
    ),
    "within a step": Case(
        [(1, "within_step"), (5, "within_step"), (6, "in_validation")],
        {"trainer.max_epochs": -1, "trainer.max_steps": 8, "trainer.val_check_interval": 4},
        ON_EXCEPTION,
    ),
    "by signals": Case(
        [(1, "SIGTERM"), (3, "SIGINT"), (6, "SIGUSR1 in validation")],
        {"trainer.val_check_interval": 4, "data.num_workers": 1},
    ),
    "pairs in buckets": Case(
        [(2, "exception"), (6, "request")], {"data.num_workers": 2}, EVERY_STEP, lines_of_many_lengths
    ),
    "a stream": Case([(3, "exception"), (4, "request")], {"data.num_workers": 2}, EVERY_STEP, a_stream),
}


def final_state(name: str) -> dict[str, Any]:
    """All that a run's newest checkpoint holds, besides counters of Lightning's that start with a process."""
    state = torch.load(newest_checkpoint(f"runs/{name}/checkpoints"), weights_only=True)
    names = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers")
    return {name: state[name] for name in (*names, "ELFDataModule", "global_step")}


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_equals_an_uninterrupted_one(
    name: str, fit: Callable[..., None], logged: Callable[..., set[tuple[float, ...]]]
) -> None:
    case, whole, parts = CASES[name], f"{name} whole", f"{name} parts"
    settings = case.settings | case.data() | {"trainer.accumulate_grad_batches": 3}
    saver = [] if case.saving is None else [{"class_path": "ModelCheckpoint", "init_args": case.saving}]
    fit(whole, settings | {"trainer.callbacks": [EMA, *saver]})

    resumed: dict[str, Any] = {}
    for step, how in case.stops:
        stop = {"class_path": "run_hooks.StopAfter", "init_args": {"step": step, "how": how}}
        stopped = pytest.raises(RuntimeError, match=f"{how} after step {step}")
        status = {"request": 0, "SIGINT": 130}.get(how, 143)
        with nullcontext() if how == "request" or how.startswith("SIG") else stopped:
            fit(parts, settings | {"trainer.callbacks": [EMA, stop, *saver]} | resumed, status)
        resumed = {"ckpt_path": str(newest_checkpoint(f"runs/{parts}/checkpoints"))}
    fit(parts, settings | {"trainer.callbacks": [EMA, *saver]} | resumed)

    steps = logged(whole, *STEP)
    assert len(steps) == 8
    assert logged(parts, *STEP) == steps
    end = final_state(whole)
    assert end["global_step"] == end["averaging_state"]["n_averaged"] == 8
    torch.testing.assert_close(final_state(parts), end, rtol=0, atol=0)
