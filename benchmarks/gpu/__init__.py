"""Measurements that need a GPU, each as one script. README.md beside this file says how to run them."""

from importlib.util import find_spec

NEEDED = {
    "torch": "torch",
    "safetensors": "safetensors",
    "transformers": "transformers",
    "rich": "rich",
    "muon": "muon-optimizer",
    "elf_lightning": "elf-lightning (PYTHONPATH=src)",
}
"""What all scripts import: module -> package."""


def require(needed: dict[str, str]) -> None:
    """End with one line that names all packages that are not there.

    Args:
        needed: module -> package.

    Raises:
        SystemExit: if there is any.
    """
    missing = sorted(package for module, package in needed.items() if find_spec(module) is None)
    if missing:
        raise SystemExit(
            f"not installed: {', '.join(missing)}; pure-Python ones can be carried along, "
            "see benchmarks/gpu/README.md"
        )


require(NEEDED)
