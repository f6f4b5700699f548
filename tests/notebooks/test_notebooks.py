"""Every notebook runs from top to bottom, at a reduced size, and is kept without its outputs.

A size is reduced as everybody can do it: by other values for the settings in a notebook's first code cell,
which is tagged `parameters`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from elf_lightning.checkpoints import load_model
from elf_lightning.cli import main

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("[0-9][0-9]_*.ipynb"))
TIMEOUT_SECONDS = 600  # of a cell, on a machine that has other things to do as well

TINY = {"BOOK": 66, "STEPS": 4}
"""The last book of the corpus, and as good as no training."""


def read(name: str) -> NotebookNode:
    return nbformat.read(FOLDER / name, as_version=4)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def with_settings(name: str, settings: dict[str, Any]) -> NotebookNode:
    """The notebook with a cell after its settings that changes some of them."""
    notebook = read(name)
    own = code(notebook)[0]
    for setting in settings:
        assert re.search(rf"^{setting} = ", own.source, re.MULTILINE), f"{name} has no setting {setting}"
    changes = "\n".join(f"{setting} = {value!r}" for setting, value in settings.items())
    notebook.cells.insert(notebook.cells.index(own) + 1, nbformat.v4.new_code_cell(changes))
    return notebook


def run(name: str, **settings: Any) -> str:
    """What the notebook prints; it works in its own folder, as an editor would have it."""
    notebook = with_settings(name, settings)
    resources = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=TIMEOUT_SECONDS, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    errors = [
        line for output in outputs if output.get("name") == "stderr" for line in output.text.splitlines()
    ]
    assert not [line for line in errors if "Error" in line or "DeprecationWarning" in line]
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_outputs(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    for cell in code(notebook):
        assert not cell.outputs
        assert cell.execution_count is None


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_opens_with_a_title_a_time_and_its_settings(name: str) -> None:
    notebook = read(name)
    opening = notebook.cells[0]
    assert opening.cell_type == "markdown"
    assert opening.source.startswith("# ")
    assert re.search(r"\*\*Time:\*\* .*(minute|second)s?.* on two cores", opening.source)
    assert code(notebook)[0].metadata.get("tags") == ["parameters"]


def test_the_notebooks_are_told_in_order() -> None:
    assert [name[:2] for name in NAMES] == ["01", "02", "03", "04", "05", "06"]


def test_flow_in_two_dimensions() -> None:
    run("01_flow_in_two_dimensions.ipynb", POINTS=40)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run that notebook 02 writes, and its cache."""
    folder = tmp_path_factory.mktemp("trained")
    said = run(
        "02_train_with_the_trainer.ipynb", RUN=str(folder / "run"), CACHE=str(folder / "cache"), **TINY
    )
    assert "step 4/4" in said
    return folder


@pytest.mark.slow
def test_training_is_what_the_configuration_does(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {
        "data.source.init_args.first_book": TINY["BOOK"],
        "data.cache_dir": trained / "cache",
        "model.schedule.warmup_steps": TINY["STEPS"],
        "trainer.max_steps": TINY["STEPS"],
        "trainer.val_check_interval": 1,
    }
    options = [part for name, value in changes.items() for part in (f"--{name}", str(value))]
    assert main(["fit", "--config", str(ROOT / "conf" / "bible.yaml"), *options]) == 0
    notebook, command = load_model(trained / "run"), load_model("runs/bible")
    for part in ("network", "path", "times", "sampling"):
        assert getattr(notebook.config, part) == getattr(command.config, part)
    for name, weight in command.weights.items():
        torch.testing.assert_close(notebook.weights[name], weight, rtol=0, atol=0)


@pytest.mark.slow
def test_sampling_and_editing(trained: Path) -> None:
    run(
        "03_sample_and_edit.ipynb",
        MODEL=str(trained / "run"),
        OUTPUT=str(trained / "out"),
        STEPS=4,
        PROMPT="the servants of god",
        TEMPLATE="the _ _ of god, and he was not afraid.",
    )
    assert (trained / "out" / "trajectory.html").is_file()
    assert (trained / "out" / "hub" / "model.safetensors").is_file()


@pytest.mark.slow
def test_evaluating_tells_where_a_model_comes_from(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="run `make quickstart` in a shell, or notebook 02"):
        run("04_evaluate_and_compare.ipynb", MODELS=[str(tmp_path / "nothing")])


@pytest.mark.slow
def test_evaluating(trained: Path) -> None:
    run(
        "04_evaluate_and_compare.ipynb",
        MODELS=[str(trained / "run")],
        CACHE=str(trained / "cache"),
        BOOK=TINY["BOOK"],
        TEXTS=4,
        GUIDANCE=(1, 3),
        GAMMA=(1,),
    )


@pytest.mark.slow
def test_a_corpus_of_ones_own(tmp_path: Path) -> None:
    said = run("05_your_own_corpus.ipynb", FOLDER=str(tmp_path), STEPS=2, MODULES=40)
    assert "copy deepcopy  ->" in said
    assert said.count("\n- ") == 4  # all mistakes are told


@pytest.mark.slow
def test_few_steps(tmp_path: Path) -> None:
    said = run("06_few_steps.ipynb", FOLDER=str(tmp_path), TEACHER_STEPS=30, STUDENT_STEPS=2, TEXTS=4)
    assert said.count("step(s)") == 8
    assert (tmp_path / "student.ckpt").is_file()
