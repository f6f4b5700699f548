"""GPU scripts run on a bare machine, and what it lacks is carried along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.gpu.pack import main, pack_packages

from benchmarks.gpu import COMMANDS_NEED, pack, require

ROOT = Path(__file__).parents[3]
BARE = """
import importlib, sys
for name in {missing}:
    sys.modules[name] = None
for name in ("golden", "train", "profile", "scaling", "pack", "__main__"):
    importlib.import_module(f"benchmarks.gpu.{{name}}")
importlib.import_module("benchmarks.sample")
"""


def test_scripts_import_without_what_only_commands_need() -> None:
    missing = [module for module in COMMANDS_NEED if module != "torchmetrics"] + ["elf_lightning.cli"]
    words = [sys.executable, "-c", BARE.format(missing=missing)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_missing_packages_are_named_with_the_command_that_carries_them() -> None:
    with pytest.raises(
        SystemExit, match=r"^not installed: a-package, b-package; .*--packages a-package b-package"
    ):
        require({"torch": "torch", "no_module_b": "b-package", "no_module_a": "a-package"})


def commands_of(monkeypatch: pytest.MonkeyPatch, *words: str, status: int = 0) -> list[list[str]]:
    """The commands that packing runs, none of which is run here."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        folder = Path(next(word for word in command if word.startswith("--target=")).split("=")[1])
        folder.mkdir(parents=True)
        (folder / "module.py").write_text("x = 1\n" * 1000)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(pack.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["pack", *words])
    main()
    return commands


def test_wheels_of_the_versions_here_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--output", str(tmp_path / "packed"), "--packages", "xxhash==3.0", "--python", "3.11"]
    (command,) = commands_of(monkeypatch, *words)
    assert {"--only-binary=:all:", "--no-deps", "--python-version=3.11"} < set(command)
    assert "--platform=manylinux2014_x86_64" in command
    assert f"--target={tmp_path / 'packed' / 'site'}" in command
    assert "xxhash==3.0" in command
    assert any(word.startswith("muon-optimizer==") for word in command)
    assert not any(word.startswith("jsonargparse") for word in command)


def test_the_packages_of_the_commands_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = commands_of(monkeypatch, "--output", str(tmp_path / "packed"), "--commands")
    assert {"jsonargparse", "docstring-parser", "datasets"} < {word.split("==")[0] for word in command}


def test_a_package_without_a_wheel_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1))
    with pytest.raises(SystemExit, match="--packages no-wheel"):
        pack_packages(["no-wheel"], tmp_path, "3.12")


def test_too_large_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--output", str(tmp_path / "packed"), "--limit-mib", "0.001"]
    with pytest.raises(SystemExit, match=r"--limit-mib 0\.001"):
        commands_of(monkeypatch, *words)
