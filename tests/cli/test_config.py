"""`elf config`, and names of configurations in place of files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from elf_lightning.cli import main
from elf_lightning.cli.config import resolved_arguments, shipped
from elf_lightning.errors import INSTALL_EMBEDDED, UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without `conf/`."""
    monkeypatch.chdir(tmp_path)


def test_every_file_has_a_name_and_the_runs_come_first() -> None:
    names = list(shipped())
    assert set(names) == {
        file.relative_to(ROOT / "conf").with_suffix("").as_posix() for file in ROOT.glob("conf/**/*.yaml")
    }
    assert ["/" in name for name in names] == sorted("/" in name for name in names)


def test_list_shows_purpose_and_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "list"]) == 0
    *lines, blank, where = capsys.readouterr().out.splitlines()
    assert not blank
    (line,) = [line for line in lines if line.startswith("elf_105m ")]
    assert re.fullmatch(r"elf_105m  +ELF of 105M parameters on OpenWebText.*24\.1.*", line)
    assert [line.split()[0] for line in lines] == list(shipped())
    assert all(len(line.split()) > 4 for line in lines)
    assert where == f"The files are {ROOT / 'conf'}/NAME.yaml"


def test_show_prints_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "eval/frontier"]) == 0
    assert capsys.readouterr().out == (ROOT / "conf/eval/frontier.yaml").read_text()


def test_a_name_can_be_used_like_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "--config=elf_105m", "--data", "data/xsum", "--config", "eval/frontier"]
    with pytest.raises(SystemExit):
        main([*words, "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["name"] == "elf_105m"
    assert config["data"]["init_args"]["source"]["init_args"]["path"] == "EdinburghNLP/xsum"
    assert config["model"]["init_args"]["evaluation"]["sweep"]["steps"] == [16, 32, 64]


def test_a_shipped_configuration_finds_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--config", "elf_105m_xsum", "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["max_length"] == 1088


def test_files_yaml_and_class_names_are_left_as_they_are(tmp_path: Path) -> None:
    Path("quickstart").write_text("name: mine")
    words = [
        "fit",
        "--config",
        "quickstart",
        "--data",
        '{"batch_size": 4}',
        "--data",
        "my_data.Mine",
        "--config",
    ]
    assert resolved_arguments(words) == words
    for name in ("quickstart_text2text", "AdamW"):
        assert resolved_arguments(["--name", name]) == ["--name", name]


@pytest.mark.parametrize("words", [["--config", "elf_106m"], ["--config=conf/elf_106m.yaml"]])
def test_an_unknown_name_is_reported_with_the_known_ones(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"elf plan: --config \S*elf_106m\S*: neither a file nor a shipped configuration", line)
    assert "(did you mean elf_105m" in line
    assert all(name in line for name in shipped())
    assert main(["config", "show", "elf_106m"]) == 2
    assert "quickstart_text2text" in capsys.readouterr().err


def test_an_action_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 2
    assert capsys.readouterr().err.startswith("elf config: the following arguments are required: ACTION")
    with pytest.raises(UserError):
        resolved_arguments(["--data", "nothing"])


def test_the_install_command_matches_the_requirements_file() -> None:
    lines = (ROOT / "requirements-embedded.txt").read_text().splitlines()
    assert INSTALL_EMBEDDED.split()[3:] == [line for line in lines if not line.startswith("#")]
