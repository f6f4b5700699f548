"""`elf config`: the configurations that come with the package, and their names in place of files."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

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

    What is a file already stays, and so does YAML or JSON in place of one.

    Raises:
        UserError: for a value that is neither.
    """
    resolved = list(words)
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option not in FILE_OPTIONS:
            continue
        if equals:
            resolved[place] = f"{option}={_file(option, value)}"
        elif place + 1 < len(words):
            resolved[place + 1] = _file(option, words[place + 1])
    return resolved


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
