"""`elf config`: the configurations that come with the package, and their names in place of files."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from elf_lightning.cli.old_names import CLASSES, renamed_option, renamed_settings, warn_of_old_names
from elf_lightning.cli.options import OneLineParser
from elf_lightning.errors import UserError

FOLDER = (Path(__file__).parents[1] / "conf").resolve()
"""The repository's `conf/`, or the copy of it in an installed package."""

CONFIG_OPTIONS = ("--config", "-c")
FILE_OPTIONS = (*CONFIG_OPTIONS, "--data")
"""Options of Trainer commands that take a configuration's file."""


def shipped() -> dict[str, Path]:
    """Name -> file of every configuration: complete runs first, then parts, such as `data/openwebtext`."""
    files = sorted(FOLDER.rglob("*.yaml"), key=lambda file: (file.parent != FOLDER, file))
    return {file.relative_to(FOLDER).with_suffix("").as_posix(): file for file in files}


def with_files(words: Sequence[str]) -> list[str]:
    """The words of a Trainer command with every configuration's name replaced by its file.

    What is a file already stays, and so does YAML or JSON in place of one. A configuration with names of
    earlier versions is replaced by its content under today's names.

    Raises:
        UserError: for a value that is neither.
    """
    resolved: list[str] = []
    takes_file = ""
    for word in words:
        if takes_file:
            resolved.append(_today(_file(takes_file, word)))
            takes_file = ""
            continue
        word, found = renamed_option(word)
        warn_of_old_names(found, "options")
        option, equals, value = word.partition("=")
        if option in FILE_OPTIONS and equals:
            word = f"{option}={_today(_file(option, value))}"
        elif option in FILE_OPTIONS:
            takes_file = option
        elif option.rpartition(".")[2] in ("optimizer", "class_path"):
            word = f"{option}{equals}{CLASSES.get(value, value)}"
        resolved.append(CLASSES.get(word, word))
    return resolved


def _today(file: str) -> str:
    """The file, or its content where that has names of earlier versions."""
    if not Path(file).is_file():
        return file
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        return file  # the parser says what is wrong
    settings, found = renamed_settings(content)
    warn_of_old_names(found, file)
    return json.dumps(settings) if found else file


def gives_configuration(words: Sequence[str]) -> bool:
    """Whether the words of a Trainer command name a configuration, as `--config FILE` or `--config=FILE`."""
    return any(word.partition("=")[0] in CONFIG_OPTIONS for word in words)


def _file(option: str, value: str) -> str:
    if Path(value).is_file() or not re.fullmatch(r"[\w./-]*\w", value):
        return value
    return str(_shipped_file(f"{option} {value}: there is no such file, and no", value))


def _shipped_file(complaint: str, name: str) -> Path:
    known = shipped()
    if name not in known:
        raise UserError(f"{complaint} configuration of that name; there are {', '.join(known)}")
    return known[name]


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="elf config",
        description="The configurations that come with the package. Their names stand for their files: "
        "`elf fit --config quickstart`.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="their names, what each is, and where they lie")
    show = actions.add_parser("show", help="print one, to begin your own with")
    show.add_argument("name", metavar="NAME", help="as `elf config list` tells it")
    return parser


def run(arguments: Sequence[str]) -> None:
    """List or show, as in `["config", "list"]` or `["config", "show", "quickstart"]`.

    Raises:
        UserError: for a name that no configuration has.
    """
    options = _parser().parse_args(arguments[1:])
    if options.action == "show":
        print(_shipped_file("there is no", options.name).read_text(encoding="utf-8"), end="")
        return
    known = shipped()
    width = max(map(len, known))
    for name, file in known.items():
        purpose = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        print(f"{name:{width}}  {purpose}")
    print(f"\nEach is a file, NAME.yaml, in {FOLDER}")
