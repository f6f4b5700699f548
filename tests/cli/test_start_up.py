"""Commands import only what they need, for a fast start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from elf_lightning.cli import main
from elf_lightning.cli.trainer import ELFCLI

HEAVY = {"torch", "numpy", "lightning", "torchmetrics", "transformers", "datasets", "huggingface_hub"}
FOR_TEXTS = {"datasets", "pyarrow", "pandas", "sacrebleu", "rouge_score", "mauve", "gguf", "tensorboard"}
"""Not imported by Lightning itself, which imports torchmetrics and through it transformers."""
FOR_TRAINING = {"lightning", "lightning_fabric", "pytorch_lightning", "torchmetrics"} | FOR_TEXTS


def loaded_by(code: str) -> set[str]:
    """Top-level modules loaded after running the code."""
    code = f"import sys\n{code}\nprint('\\nMODULES', *sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return {name.split(".")[0] for name in shown.rpartition("\nMODULES ")[2].split()}


def loaded(words: list[str]) -> set[str]:
    """Top-level modules loaded after running `elf`."""
    return loaded_by(
        f"from elf_lightning.cli import main\ntry:\n    status = main({words})\n"
        "except SystemExit as end:\n    status = end.code\nassert status == 0"
    )


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["sample", "--help"], ["fit", "--help"], ["eval-text", "--help"]]
)
def test_help_imports_no_heavy_package(words: list[str]) -> None:
    modules = loaded(words)
    assert "elf_lightning" in modules
    assert not HEAVY & modules


def test_the_package_imports_no_heavy_package() -> None:
    assert not HEAVY & loaded_by("import elf_lightning")


def test_sampling_imports_nothing_for_training(run_folder: str) -> None:
    texts = ["--prompt", "god said", "--device", "cpu"]
    modules = loaded(["sample", "--checkpoint", run_folder, *texts])
    assert {"torch", "transformers"} <= modules
    assert not FOR_TRAINING & modules
    modules = loaded_by(
        "from elf_lightning import ELF\n"
        f"assert ELF.from_pretrained({run_folder!r}, device='cpu').generate(prompts=['god said'])"
    )
    assert "transformers" in modules
    assert not FOR_TRAINING & modules


def test_listing_settings_imports_nothing_for_texts_and_metrics() -> None:
    modules = loaded(["fit", "--help-all"])
    assert "lightning" in modules
    assert not FOR_TEXTS & modules


def test_settings_are_added_for_the_given_command_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    described = []
    add = ELFCLI.add_arguments_to_parser
    monkeypatch.setattr(
        ELFCLI,
        "add_arguments_to_parser",
        lambda cli, parser: (described.append(cli.command), add(cli, parser)),
    )
    with pytest.raises(SystemExit):
        main(["validate", "--help-all"])
    assert described == ["validate"]
    assert "--model.network.hidden_size" in capsys.readouterr().out
