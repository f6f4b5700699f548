"""Evaluations of a small model, and what they leave in their folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from elf_lightning.data import ELFDataModule
from elf_lightning.sampling import Sampler, SampleResult

pytest.register_assert_rewrite("small_model")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that makes small models."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import small_model

    return small_model


@pytest.fixture
def data(small: Any, tmp_path: Path, tiny_t5: str) -> ELFDataModule:
    return small.make_data(tmp_path, tiny_t5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The run's folder."""
    return tmp_path / "run"


@pytest.fixture
def evaluate(small: Any, data: ELFDataModule, tiny_scoring_model: str, folder: Path) -> Callable[..., None]:
    """Evaluates a small model; arguments change what is measured, or `seed` the model."""

    def run(**changes: Any) -> None:
        model = small.make_model(data, tiny_scoring_model, **changes)
        small.make_trainer(folder).test(model, datamodule=data, verbose=False)

    return run


@pytest.fixture
def read(folder: Path) -> Callable[[str], list[dict[str, Any]]]:
    """The rows of a file in the run's folder."""
    return lambda name: [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Seed and number of every row that is sampled from now on, but for those whose way the report shows."""
    rows: list[tuple[int, int]] = []
    sample = Sampler.sample

    def spy(self: Sampler, prompt: Any, seed: int, infill: Any, steps: Any, *others: Any) -> SampleResult:
        if not steps:
            rows.extend((seed, index) for index in prompt.index.tolist())
        return sample(self, prompt, seed, infill, steps, *others)

    monkeypatch.setattr(Sampler, "sample", spy)
    return rows
