"""`elf config`: the configurations shipped with the package; their names can be used like files."""

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
"""The repository's `conf/`, or its copy in an installed package."""

CONFIG_OPTIONS = ("--config", "-c")
FILE_OPTIONS = (*CONFIG_OPTIONS, "--data")
"""Options of Trainer commands that take a configuration file."""


def shipped() -> dict[str, Path]:
    """Name -> file of every configuration: complete runs first, then parts such as `data/openwebtext`."""
    files = sorted(FOLDER.rglob("*.yaml"), key=lambda file: (file.parent != FOLDER, file))
    return {file.relative_to(FOLDER).with_suffix("").as_posix(): file for file in files}


def resolved_arguments(words: Sequence[str]) -> list[str]:
    """The arguments of a Trainer command, with names of shipped configurations replaced by their files.

    Existing files, YAML, JSON and class names are left as they are. A file that uses names from earlier
    versions is replaced by its content under the new names.

    Raises:
        UserError: for an unknown configuration.
    """
    resolved: list[str] = []
    takes_file = ""
    for word in words:
        if takes_file:
            resolved.append(_with_new_names(_file(takes_file, word)))
            takes_file = ""
            continue
        word, found = renamed_option(word)
        warn_of_old_names(found, "options")
        option, equals, value = word.partition("=")
        if option in FILE_OPTIONS and equals:
            word = f"{option}={_with_new_names(_file(option, value))}"
        elif option in FILE_OPTIONS:
            takes_file = option
        elif option.rpartition(".")[2] in ("optimizer", "class_path"):
            word = f"{option}{equals}{CLASSES.get(value, value)}"
        resolved.append(CLASSES.get(word, word))
    return resolved


def _with_new_names(file: str) -> str:
    """The file, or its content as JSON if it uses names from earlier versions."""
    if not Path(file).is_file():
        return file
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        return file  # the parser reports the error
    settings, found = renamed_settings(content)
    warn_of_old_names(found, file)
    return json.dumps(settings) if found else file


def gives_configuration(words: Sequence[str]) -> bool:
    """Whether the arguments of a Trainer command contain `--config FILE` or `--config=FILE`."""
    return any(word.partition("=")[0] in CONFIG_OPTIONS for word in words)


def _file(option: str, value: str) -> str:
    is_class = option == "--data" and re.fullmatch(r"(\w+\.)*[A-Z]\w*", value)
    if Path(value).is_file() or is_class or not re.fullmatch(r"[\w./-]*\w", value):
        return value
    return str(_shipped_file(option, value))


def _shipped_file(option: str, name: str) -> Path:
    known = shipped()
    if name not in known:
        raise UserError(
            f"{option} {name}: neither a file nor a shipped configuration; choose from {', '.join(known)}"
        )
    return known[name]


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="elf config",
        description="The configurations shipped with the package. Their names can be used in place of files: "
        "`elf fit --config quickstart`.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="list their names, purposes and location")
    show = actions.add_parser("show", help="print one, as a start for your own")
    show.add_argument("name", metavar="NAME", help="a name from `elf config list`")
    return parser


def run(arguments: Sequence[str]) -> None:
    """Run `["config", "list"]` or `["config", "show", "quickstart"]`.

    Raises:
        UserError: for an unknown name.
    """
    options = _parser().parse_args(arguments[1:])
    if options.action == "show":
        print(_shipped_file("elf config show", options.name).read_text(encoding="utf-8"), end="")
        return
    known = shipped()
    width = max(map(len, known))
    for name, file in known.items():
        purpose = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        print(f"{name:{width}}  {purpose}")
    print(f"\nThe files are {FOLDER}/NAME.yaml")
