"""Small runs through the real command, and what they leave behind."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from elf_lightning.cli import main

WORDS = "in the beginning god created heaven and earth now was without form darkness upon face of deep"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty working folder for the runs of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("runs"))
        patch.syspath_prepend(Path(__file__).parent)  # for `run_hooks`, which configurations name
        yield


@pytest.fixture(scope="module")
def config(run_folder: None, tiny_run: Callable[..., dict[str, Any]]) -> Path:
    """A small run's complete configuration: 45 rows to train on, all of them full."""
    words = random.Random(0)
    lines = [" ".join(words.choices(WORDS.split(), k=7)) for _ in range(55)]
    Path("lines.txt").write_text("\n".join(lines))
    settings = tiny_run(
        {
            "name": "run",
            "data.source.init_args.validation_fraction": 0.17,
            "model.optimizer": {"class_path": "MuonSettings", "init_args": {"base_learning_rate": 0.5}},
            "model.schedule": {"warmup_steps": 2, "decay": "cosine"},
            "model.sampling.steps": 2,
            "trainer.max_epochs": 2,
            "trainer.enable_model_summary": False,
            "trainer.logger": {"class_path": "run_hooks.LineLogger", "init_args": {"path": "log.jsonl"}},
            "trainer.callbacks": [{"class_path": "EMA", "init_args": {"decay": 0.9}}],
        }
    )
    path = Path("config.yaml")
    path.write_text(json.dumps(settings))
    return path


@pytest.fixture(scope="module")
def command(config: Path) -> Callable[..., list[str]]:
    """The words of a command, of settings by dotted name."""

    def words(name: str, settings: dict[str, Any]) -> list[str]:
        given = (
            (key, value if isinstance(value, str) else json.dumps(value)) for key, value in settings.items()
        )
        return [name, "--config", str(config), *(f"--{key}={value}" for key, value in given)]

    return words


@pytest.fixture(scope="module")
def fit(command: Callable[..., list[str]]) -> Callable[..., None]:
    """Trains in `runs/NAME` with settings by dotted name, `ckpt_path` to go on from, and an exit status."""

    def run(name: str, settings: dict[str, Any], status: int = 0) -> None:
        own = {"name": name, "trainer.logger.init_args.path": f"{name}.jsonl"}
        assert main(command("fit", own | settings)) == status

    return run


@pytest.fixture(scope="module")
def logged(config: Path) -> Callable[..., set[tuple[float, ...]]]:
    """What a run, all its parts together, has logged of some metrics at the same time."""

    def read(name: str, *metrics: str) -> set[tuple[float, ...]]:
        lines = map(json.loads, Path(f"{name}.jsonl").read_text().splitlines())
        return {tuple(line[metric] for metric in metrics) for line in lines if line.keys() >= {*metrics}}

    return read
