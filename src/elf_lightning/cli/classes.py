"""Settings that take a class: short names, and errors in one line."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from inspect import isclass, signature
from pathlib import Path
from pkgutil import resolve_name
from pydoc import locate
from types import NoneType
from typing import Any, get_args, get_type_hints

from jsonargparse import ArgumentError, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, Trainer

from elf_lightning import callbacks, data, encoders, optim, training
from elf_lightning.cli.options import did_you_mean
from elf_lightning.errors import UserError, causes, first_line
from elf_lightning.training.base import SIZES_FROM_DATA
from elf_lightning.whole_file import not_writable

DATA = "elf_lightning.data.ELFDataModule"  # the DataModule where a configuration gives no `class_path`
BASES: dict[str, type] = {
    "model": training.TrainingModule,
    "data": LightningDataModule,
    "model.optimizer": optim.OptimizerSettings,
    "data.encoder": encoders.Encoder,
    "data.source": data.Source,
    "trainer.callbacks": Callback,
}
"""Settings that take a class by its short name -> base class."""


def known_classes() -> list[type]:
    """All public classes for settings, imported, so that short names as in `class_path: TextFiles` work."""
    rooms = (callbacks, data, encoders, optim, training)
    public = (getattr(room, name) for room in rooms for name in room.__all__)
    return [one for one in public if isclass(one)]


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors of the parser and of Lightning about settings into `UserError`."""
    try:
        yield
    except ArgumentError as error:
        lists = f"`elf fit --help-all` lists the settings{_did_you_mean(error.message)}"
        raise UserError(f"{_innermost(error.message)}; {lists}") from error
    except MisconfigurationException as error:
        raise UserError(str(error)) from error
    except (ValueError, RuntimeError) as error:
        if re.match(r"`\.\w+\(ckpt_path=|Early stopping conditioned on", message := str(error)):
            raise UserError(message) from error
        raise


@contextmanager
def settings_used() -> Iterator[None]:
    """Turn whatever goes wrong while settings are parsed and classes are made of them into `UserError`."""
    try:
        yield
    except (UserError, ArgumentError, MisconfigurationException):
        raise
    except Exception as error:
        if not_writable(error):
            raise
        # The parser wraps errors of classes in a union or list, such as callbacks.
        chain = causes(error)
        cause = next((one for one in chain if isinstance(one, UserError | ImportError)), chain[-1])
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, ImportError):
            raise UserError(f"a class needs a package that is not installed: {first_line(cause)}") from error
        place = traceback.extract_tb(cause.__traceback__)[-1]
        raise UserError(
            f"the settings cannot be used: {first_line(cause)} ({type(cause).__name__} in "
            f"{Path(place.filename).name}, line {place.lineno}); `elf fit --help-all` describes them"
        ) from error


def check_sections(settings: Namespace, name: str, described: Any = None) -> None:
    """Refuse what the parser lets pass: no value, or one in place of a section, where the class needs more.

    Args:
        settings: of a class, or a section of them.
        name: of the settings.
        described: the class, where the settings have no `class_path`.
    """
    if "class_path" in settings:
        described, settings = resolve_name(settings["class_path"]), settings.get("init_args")
    try:
        hints, arguments = get_type_hints(described.__init__), signature(described).parameters
    except (AttributeError, NameError, TypeError, ValueError):  # annotations of a user's class
        return
    for key, value in vars(settings).items() if settings else ():
        hint, default = hints.get(key, Any), arguments[key].default if key in arguments else None
        linked = name == "model" and key in SIZES_FROM_DATA
        needed = not (linked or hint in (Any, object) or None in get_args(hint) or NoneType in get_args(hint))
        if isinstance(value, Namespace):
            check_sections(value, f"{name}.{key}", hint)
        elif value is None and needed and default is not None:
            raise UserError(f"{name}.{key} has no value; give one, or leave it out")
        elif value is not None and is_dataclass(hint):
            raise UserError(f"{name}.{key} is {value!r:.40}; write its settings as `name: value`")


def _did_you_mean(message: str) -> str:
    """A hint for the first unrecognized option, such as `--max_steps` without its section."""
    option = message.partition("unrecognized arguments: --")[2].partition(" ")[0].partition("=")[0]
    made = {
        "trainer": Trainer.__init__,
        "data": data.ELFDataModule.__init__,
        "model": training.ELFModule.__init__,
    }
    hints = {f"--{name}.{key}": hint for name in made for key, hint in get_type_hints(made[name]).items()}
    first, dot, rest = option.partition(".")
    for name, hint in hints.items() if first else ():
        if name.endswith(f".{first}"):
            known = [f"{name}.{field.name}" for field in fields(hint)] if is_dataclass(hint) else []
            return did_you_mean(f"{name}{dot}{rest}", known if dot and known else [f"{name}{dot}{rest}"])
    if option == "checkpoint":  # as in `elf sample` and `elf eval`
        option = "ckpt_path"
    return did_you_mean(f"--{option}", [*hints, "--ckpt_path"])


def _innermost(message: str) -> str:
    """The setting and its problem, without everything else that the parser tried."""
    setting = ".".join(dict.fromkeys(re.findall(r'Parser key "([\w.]+)":', message)))
    if not setting:
        return message
    if unknown := re.search(r"Expected a dot import path string: (.+)", message):
        base = BASES.get(setting, ())
        names = [one.__name__ for one in known_classes() if issubclass(one, base) and one is not base]
        known = ", ".join([*names, "or "]) if names else ""
        return (
            f"{setting} {unknown[1]} is not a known class; give {known}a class path such as my_module.MyClass"
        )
    if given := re.search(r"Unable to load config '(.+)'", message):
        return f"{setting} takes settings, not the value {given[1]}; write --{setting}.NAME VALUE"
    _, nested, problem = message.rpartition("Problem with given class_path ")
    path, _, problem = problem.partition(":") if nested else ("", "", problem)
    problem = re.sub(r"^\s*(Parser key \"[\w.]+\":)?", "", problem)
    if typed := re.match(r"(?s)\s*((?:Expected|Does not).*?)(?:Got|Given) value: (.+?)(?:\n|$)", problem):
        choices = ", ".join(re.findall(r"Expected a typing.Literal\[(.+)\]", typed[1]))
        types = ", ".join(re.findall(r"Expected a <class '(?:\w+\.)*(\w+)'>", typed[1]))
        kind = f"none of {choices}" if choices else f"not of type {types.replace('NoneType', 'null')}"
        return f"{setting}: {typed[2]} is {kind}"
    problem = re.split(r"- Expected a <class |Given value type:", problem)[0].strip()
    if problem.endswith("' is not accepted") and isclass(owner := locate(path.strip("'"))):
        problem += f"; {owner.__name__} has {', '.join(signature(owner).parameters)}"
    return f"{setting}: {problem}"
