from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from elf_lightning.metrics import ScoringModel

SCRIPT = Path(__file__).with_name("ranks.py")
spec = importlib.util.spec_from_file_location("ranks", SCRIPT)
ranks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ranks)


@pytest.fixture(scope="module")
def two_ranks(scoring_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each of two processes printed, within five minutes."""
    store = tmp_path_factory.mktemp("store") / "store"
    command = [sys.executable, str(SCRIPT)]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(store), str(scoring_model_folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        printed = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, errors) in zip(started, printed, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(output.splitlines()[-1]) for output, _ in printed]


@pytest.mark.parametrize("split", ranks.SPLITS)
def test_two_ranks_give_the_numbers_of_one(
    two_ranks: list[dict], split: str, scoring_model_folder: Path
) -> None:
    scoring_model = ScoringModel.load(str(scoring_model_folder), context_length=32, batch_size=2)
    one = ranks.every_metric(scoring_model, slice(None))
    for rank in two_ranks:
        assert rank[split] == pytest.approx(one, rel=1e-6)


def test_both_ranks_complain_and_none_waits(two_ranks: list[dict]) -> None:
    for rank in two_ranks:
        assert rank["no samples"].startswith("UserError: GenerativePerplexity has no samples to score")
