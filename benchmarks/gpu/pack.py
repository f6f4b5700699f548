"""Put the Python packages that a bare GPU machine lacks into one folder.

    python -m benchmarks.gpu.pack --output .cache/gpu
    python -m benchmarks.gpu.pack --commands --packages transformers

Packages, compiled ones too, are wheels for that machine's Python and Linux, unpacked into `site` for
`PYTHONPATH`, in the versions installed here.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SCRIPTS = ("muon-optimizer", "lazy_loader")
"""What the scripts need besides torch, transformers, safetensors and rich."""
COMMANDS = ["lightning", "jsonargparse", "typeshed_client", "docstring-parser", "datasets", "dill"]
COMMANDS += ["multiprocess", "xxhash"]
"""What the commands of the package need besides."""
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_27_x86_64", "manylinux_2_28_x86_64")


def pack_packages(names: list[str], folder: Path, python: str) -> None:
    """Unpack wheels for a version of Python, without their dependencies; NAME==VERSION names another version.

    Raises:
        SystemExit: if a package has no wheel for that machine.
    """
    options = ["--quiet", "--no-deps", "--no-compile", "--only-binary=:all:", "--implementation=cp"]
    options += [f"--platform={platform}" for platform in PLATFORMS]
    target = [f"--python-version={python}", f"--target={folder}", *map(_pinned, names)]
    if subprocess.run([sys.executable, "-m", "pip", "install", *options, *target], check=False).returncode:
        raise SystemExit(f"--packages {' '.join(names)}: not all are to be had as wheels; see pip's message")


def _pinned(name: str) -> str:
    try:
        return name if "==" in name else f"{name}=={version(name)}"
    except PackageNotFoundError:
        return name


def main() -> None:
    """Fill the folder, and print its size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(".cache/gpu"), help="folder; overwritten")
    parser.add_argument("--packages", nargs="*", default=[], help="besides those the scripts need")
    parser.add_argument("--commands", action="store_true", help="and the packages that the commands need")
    parser.add_argument("--python", default="3.12", help="version of Python on that machine (3.12)")
    parser.add_argument("--limit-mib", type=float, default=60, help="largest size of the folder (60)")
    options = parser.parse_args()
    shutil.rmtree(options.output, ignore_errors=True)
    options.output.mkdir(parents=True)
    names = [*SCRIPTS, *(COMMANDS if options.commands else ()), *options.packages]
    pack_packages(names, options.output / "site", options.python)
    mib = sum(file.stat().st_size for file in options.output.rglob("*") if file.is_file()) / 2**20
    print(f"{options.output}: {mib:.1f} MiB")
    if mib > options.limit_mib:
        raise SystemExit(f"that is more than --limit-mib {options.limit_mib:g}; carry less, or raise it")


if __name__ == "__main__":
    main()
