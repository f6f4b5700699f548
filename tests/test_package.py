"""What `make build` makes: complete, and usable where nothing of the repository is."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from elf_lightning import __version__

ROOT = Path(__file__).parents[1]


def test_the_version_is_told_alike_everywhere() -> None:
    """The package's own is read from the source when it is built."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    start = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"elf_lightning-([\d.]+)-py3", start)) == {__version__}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(words, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.slow
def test_both_packages_are_complete(packages: Path) -> None:
    (wheel,) = packages.glob("*.whl")
    (source,) = packages.glob("*.tar.gz")
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    code = {file.relative_to(ROOT / "src").as_posix() for file in (ROOT / "src").rglob("*.py")}
    shipped = {f"elf_lightning/{file.relative_to(ROOT).as_posix()}" for file in ROOT.glob("conf/**/*.yaml")}
    templates = [file for suffix in ("html", "svg") for file in (ROOT / "src").rglob(f"*.{suffix}")]
    pages = {file.relative_to(ROOT / "src").as_posix() for file in templates}
    assert code | shipped | pages | {"elf_lightning/py.typed"} <= in_wheel
    assert not [name for name in in_wheel if not name.startswith("elf_lightning")]
    assert wheel.name == f"elf_lightning-{__version__}-py3-none-any.whl"
    with tarfile.open(source) as archive:
        in_source = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "constraints.txt", "requirements-embedded.txt", "conf/quickstart.yaml"} <= in_source
    assert {"tests/conftest.py", "tests/golden/network.safetensors"} <= in_source
    assert not [name for name in in_source if name.startswith("models/")], "the model is a package of its own"


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment(packages: Path, tmp_path: Path) -> None:
    """The dependencies are those of this environment, seen through a .pth file: nothing is fetched."""
    (wheel,) = packages.glob("*.whl")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    (here,) = {path for path in sys.path if path.endswith("site-packages")}
    (site,) = venv.glob("lib/python*/site-packages")
    # As text, since the .pth files in there, such as that of an editable install, must not count.
    (site / "dependencies.pth").write_text(f"{here}\n")
    install = [sys.executable, "-m", "pip", f"--python={python}", "install", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True)

    def run(*words: str, expected: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == expected, done.stderr
        return done

    where = run(str(python), "-c", "import elf_lightning; print(elf_lightning.__file__)").stdout
    assert where.startswith(str(site))
    for command in (
        [str(venv / "bin/elf")],
        [str(venv / "bin/lightning")],
        [str(python), "-m", "elf_lightning"],
    ):
        assert str(site) in run(*command, "config", "list").stdout
    assert (
        "name: elf_105m"
        in run(str(venv / "bin/lightning"), "fit", "--config=elf_105m", "--print_config").stdout
    )
    wrong = run(str(venv / "bin/elf"), "fit", "--config", "elf_106m", expected=2)
    assert "did you mean elf_105m?" in wrong.stderr
