"""Settings that take a class: short names, and errors in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import isclass, signature
from pydoc import locate

from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule

from elf_lightning import callbacks, data, encoders, optim, training
from elf_lightning.errors import UserError, first_line

MODEL, DATA = "elf_lightning.training.ELFModule", "elf_lightning.data.ELFDataModule"
"""Classes used where a configuration gives no `class_path`."""
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
        raise UserError(f"{_innermost(error.message)}; `elf fit --help-all` lists the settings") from error
    except MisconfigurationException as error:
        raise UserError(str(error)) from error
    except (ValueError, RuntimeError) as error:
        # The parser wraps errors of classes in a union or list, such as callbacks.
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        if isinstance(package := _cause(error, ImportError), ImportError):
            raise UserError(
                f"a class needs a package that is not installed: {first_line(package)}"
            ) from error
        if re.match(r"`\.\w+\(ckpt_path=|Early stopping conditioned on", message := str(error)):
            raise UserError(message) from error
        raise


def _cause(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    """The first error of a kind that led to this one."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def _innermost(message: str) -> str:
    """The setting and its problem, without everything else that the parser tried."""
    setting = ".".join(re.findall(r'Parser key "([\w.]+)":', message))
    if unknown := re.search(r"Expected a dot import path string: (.+)", message):
        base = BASES.get(setting, ())
        names = [one.__name__ for one in known_classes() if issubclass(one, base) and one is not base]
        known = ", ".join([*names, "or "]) if names else ""
        return (
            f"{setting} {unknown[1]} is not a known class; give {known}a class path such as my_module.MyClass"
        )
    _, nested, problem = message.rpartition("Problem with given class_path ")
    if not nested:
        return message
    path, problem = problem.split(":", 1)
    problem = re.sub(r"^\s*(Parser key \"[\w.]+\":)?", "", problem)
    problem = re.split(r"- Expected a <class |Given value type:", problem)[0].strip()
    if problem.endswith("' is not accepted") and isclass(owner := locate(path.strip("'"))):
        problem += f"; {owner.__name__} has {', '.join(signature(owner).parameters)}"
    return f"{setting}: {problem}"
