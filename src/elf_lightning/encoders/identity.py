"""Restores an encoder from its plain values in a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from elf_lightning.encoders.base import Encoder
from elf_lightning.encoders.pretrained import PretrainedEncoder as PretrainedEncoder  # registers it
from elf_lightning.encoders.token_table import TokenTableEncoder as TokenTableEncoder
from elf_lightning.errors import UserError


def encoder_from_identity(identity: Mapping[str, Any]) -> Encoder:
    """The encoder with this `identity()`; its weights are read on first use.

    Only imported classes are found: a checkpoint must not import code.

    Args:
        identity: `class`, the name of an `Encoder`, and its constructor arguments.

    Raises:
        UserError: if the class is unknown, or does not take these arguments.
    """
    arguments = dict(identity)
    name = arguments.pop("class", None)
    known = {cls.__name__: cls for cls in _subclasses(Encoder)}  # type: ignore[type-abstract]
    if name not in known:
        raise UserError(
            f"the model's encoder has the class {name!r}, but only {', '.join(sorted(known))} are imported; "
            "import the module that defines it first"
        )
    try:
        return known[name](**arguments)
    except TypeError as error:
        raise UserError(
            f"the arguments of the model's encoder, {', '.join(arguments)}, do not fit this version of "
            f"{name} ({error}); use the version that wrote the checkpoint"
        ) from error


def _subclasses(cls: type[Encoder]) -> Iterator[type[Encoder]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
