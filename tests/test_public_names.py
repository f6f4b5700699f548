"""Packages whose public names are imported on first use."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGES = sorted(
    ".".join(stub.parent.relative_to(SOURCE).parts) for stub in SOURCE.glob("elf_lightning/**/__init__.pyi")
)
HEAVY = {
    "torch",
    "numpy",
    "lightning",
    "torchmetrics",
    "transformers",
    "datasets",
    "sacrebleu",
    "rouge_score",
    "mauve",
}
NAMES = [(package, name) for package in PACKAGES for name in import_module(package).__all__]


def test_importing_the_packages_loads_nothing_heavy() -> None:
    code = f"import sys, {', '.join(PACKAGES)}; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {*PACKAGES} <= {*shown.split()}
    assert not HEAVY & {*shown.split()}


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_every_public_name_is_there(package: str, name: str) -> None:
    assert getattr(import_module(package), name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wrong_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match=rf"No {package} attribute Perplexity"):
        import_module(package).Perplexity  # noqa: B018
