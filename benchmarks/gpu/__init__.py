"""Measurements on GPUs; README.md beside this file says how to run them."""

from importlib.util import find_spec

NEEDED = {
    "torch": "torch",
    "safetensors": "safetensors",
    "transformers": "transformers",
    "rich": "rich",
    "muon": "muon-optimizer",
    "lazy_loader": "lazy_loader",
    "elf_lightning": "elf-lightning (PYTHONPATH=src)",
}
"""What all scripts import, by module."""
COMMANDS_NEED = {
    "lightning": "lightning",
    "jsonargparse": "jsonargparse",
    "docstring_parser": "docstring-parser",
    "datasets": "datasets",
    "torchmetrics": "torchmetrics",
}
"""What the commands of the package need besides, for `run` and `ranks`."""


def require(needed: dict[str, str]) -> None:
    """Name all packages that are missing, of those `needed` by module.

    Raises:
        SystemExit: in one line, if there are any.
    """
    missing = sorted(package for module, package in needed.items() if find_spec(module) is None)
    if missing:
        raise SystemExit(
            f"not installed: {', '.join(missing)}; carry them along with "
            f"`python -m benchmarks.gpu.pack --packages {' '.join(missing)}` (benchmarks/gpu/README.md)"
        )


require(NEEDED)
