"""`elf config`, and the configurations of Trainer commands: shipped ones, and those with old names."""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from elf_lightning.cli.options import OneLineParser, did_you_mean
from elf_lightning.errors import UserError

FOLDER = (Path(__file__).parents[1] / "conf").resolve()
"""The repository's `conf/`, or its copy in an installed package."""

CONFIG_OPTIONS = ("--config", "-c")
FILE_OPTIONS = (*CONFIG_OPTIONS, "--data")  # options of Trainer commands that take a configuration file
KEYS = {
    "held_out_fraction": "validation_fraction",
    "judge": "scoring_model",
    "num_predict_rows": "num_predict_samples",
    "streamed_rows": "streamed_examples",
    "streamed_validation_rows": "streamed_validation_examples",
}
"""Name of a setting in earlier versions -> new name."""
OPTIONS = {"--judge": "--scoring-model", "--judge-dtype": "--scoring-model-dtype"}
"""Option of `elf eval-text` in earlier versions -> new option."""
CLASSES = {
    "Muon": "MuonSettings",
    "AdamW": "AdamWSettings",
    "elf_lightning.optim.Muon": "elf_lightning.optim.MuonSettings",
    "elf_lightning.optim.AdamW": "elf_lightning.optim.AdamWSettings",
    "elf_lightning.modules.ELFModule": "elf_lightning.training.ELFModule",
}
"""`class_path` of earlier versions -> new one."""
_is_file = os.path.isfile  # unlike that of Path, for texts that cannot be a file's name too


def shipped() -> dict[str, Path]:
    """Name -> file of every configuration: complete runs first, then parts such as `data/openwebtext`."""
    files = sorted(FOLDER.rglob("*.yaml"), key=lambda file: (file.parent != FOLDER, file))
    return {file.relative_to(FOLDER).with_suffix("").as_posix(): file for file in files}


def resolved_arguments(words: Sequence[str]) -> list[str]:
    """The arguments of a Trainer command, with names of shipped configurations replaced by their files.

    Existing files, YAML, JSON and class names are left as they are. A file that uses names from earlier
    versions is replaced by its content under the new names. An unknown configuration is a UserError.
    """
    resolved, before = list[str](), ""
    for word in renamed_words(words):
        option, start, value = before, "", word
        if word.startswith("-") and "=" in word:
            option, _, value = word.partition("=")
            start = f"{option}="
        if option in FILE_OPTIONS:
            if _is_file(value := _file(option, value)):
                settings, found = read_settings(option, value)
                _warn_of_old_names(found, value)
                value = json.dumps(settings, default=str) if found else value
        elif option.removesuffix(".help").rpartition(".")[2] in ("--model", "optimizer", "class_path"):
            value = CLASSES.get(value, value)
        resolved.append(start + value)
        before = word
    return resolved


def loaded(config: str) -> dict[str, Any]:
    """The settings of a `--config`: a file, the name of a shipped one, or YAML; no warning of old names."""
    return read_settings("--config", _file("--config", config))[0]


def read_settings(option: str, value: str) -> tuple[dict[str, Any], list[str]]:
    """The settings in a file, or in `value` itself, under their new names, and the renamings."""
    found: list[str] = []
    try:
        text = Path(value).read_text(encoding="utf-8") if _is_file(value) else value
        settings = renamed_settings(yaml.safe_load(text), found) or {}
    except UnicodeDecodeError as error:
        raise UserError(f"{option} {value} is not UTF-8; save it as UTF-8") from error
    # Dates may be impossible, lists may be in themselves.
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise UserError(f"{option} {value} cannot be read as YAML: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(
            f"{option} {value} has {settings!r:.40} instead of settings; write `name: value` lines"
        )
    return settings, found


def _file(option: str, value: str) -> str:
    """The file of a shipped configuration; files, YAML, JSON and classes as they are."""
    is_class = option == "--data" and re.fullmatch(r"(\w+\.)*[A-Z]\w*", value)
    if _is_file(value) or is_class or not re.fullmatch(r"[\w./-]*\w", value):
        return value
    return str(_shipped_file(option, value))


def _shipped_file(option: str, name: str) -> Path:
    known = shipped()
    if name not in known:
        near = did_you_mean(name.removesuffix(".yaml"), known)
        raise UserError(
            f"{option} {name}: neither a file nor a shipped configuration{near}; choose from "
            f"{', '.join(known)}"
        )
    return known[name]


def _new(name: str, names: Mapping[str, str], found: list[str]) -> str:
    """The new name; adds a renaming to those `found`."""
    if name in names:
        found.append(f"{name} is now {names[name]}")
    return names.get(name, name)


def renamed_settings(settings: Any, found: list[str], key: str = "") -> Any:
    """Settings, as read from YAML, under their new names; adds the renamings to those `found`."""
    if isinstance(settings, list):
        return [renamed_settings(item, found) for item in settings]
    if isinstance(settings, dict):
        return {_new(key, KEYS, found): renamed_settings(one, found, key) for key, one in settings.items()}
    is_class = key in ("class_path", "optimizer") and isinstance(settings, str)
    return _new(settings, CLASSES, found) if is_class else settings


def renamed_words(words: Sequence[str]) -> list[str]:
    """Arguments under their new names, such as `--model.evaluation.judge.name=gpt2`, with one warning."""
    renamed, found, names = [], list[str](), KEYS | OPTIONS
    for word in words:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        option = ".".join(_new(part, names, found) for part in option.split("."))
        if value.startswith(("{", "[")):  # settings in YAML or JSON
            with suppress(yaml.YAMLError, ValueError, RecursionError):  # the parser reports it
                inside: list[str] = []
                settings = renamed_settings(yaml.safe_load(value), inside)
                value, found = json.dumps(settings, default=str) if inside else value, found + inside
        renamed.append(option + equals + value)
    _warn_of_old_names(found, "options")
    return renamed


def _warn_of_old_names(found: Sequence[str], where: str) -> None:
    if found:
        print(f"{where}: {', '.join(dict.fromkeys(found))}; the old names still work", file=sys.stderr)


def run(arguments: Sequence[str]) -> None:
    """Run `["config", "list"]` or `["config", "show", "quickstart"]`."""
    parser = OneLineParser(
        prog="elf config",
        description="The configurations shipped with the package. Their names can be used in place of files: "
        "`elf fit --config quickstart`.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="list their names, purposes and location")
    show = actions.add_parser("show", help="print one, as a start for your own")
    show.add_argument("name", metavar="NAME", help="a name from `elf config list`")
    options = parser.parse_args(arguments[1:])
    if options.action == "show":
        print(_shipped_file("elf config show", options.name).read_text(encoding="utf-8"), end="")
        return
    known = shipped()
    width = max(map(len, known))
    for name, file in known.items():
        purpose = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        print(f"{name:{width}}  {purpose}")
    print(f"\nThe files are {FOLDER}/NAME.yaml")
